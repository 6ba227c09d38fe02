import ProxyCore
import Testing

struct PoolingConfigurationTests {
    @Test("the user's value beats the database's, which beats the default")
    func precedence() {
        var pooling = PoolingConfiguration()
        pooling.defaultPoolSize = 7
        pooling.minPoolSize = 1
        pooling.reservePoolSize = 2
        pooling.maxDatabaseConnections = 30
        pooling.maxUserConnections = 40
        var database = DatabaseOverrides()
        (database.poolMode, database.poolSize, database.minPoolSize) = (.session, 8, 3)
        (database.reservePoolSize, database.maxDatabaseConnections) = (4, 31)
        var user = UserOverrides()
        (user.poolMode, user.poolSize, user.maxUserConnections) = (.transaction, 9, 41)
        pooling.databases = ["shop": database, "empty": DatabaseOverrides()]
        pooling.users = ["ann": user, "bob": UserOverrides()]

        let plain = pooling.settings(database: "blog", user: "eve")
        #expect(plain.mode == .transaction && plain.size == 7 && plain.minimumSize == 1 && plain.reserveSize == 2)
        #expect(plain.maxDatabaseConnections == 30 && plain.maxUserConnections == 40)
        #expect(pooling.settings(database: "empty", user: "bob") == plain)
        let ofDatabase = pooling.settings(database: "shop", user: "bob")
        #expect(ofDatabase.mode == .session && ofDatabase.size == 8)
        #expect(ofDatabase.minimumSize == 3 && ofDatabase.reserveSize == 4)
        #expect(ofDatabase.maxDatabaseConnections == 31 && ofDatabase.maxUserConnections == 40)
        let both = pooling.settings(database: "shop", user: "ann")
        #expect(both.mode == .transaction && both.size == 9 && both.minimumSize == 3 && both.reserveSize == 4)
        #expect(both.maxDatabaseConnections == 31 && both.maxUserConnections == 41)
        let ofUser = pooling.settings(database: "blog", user: "ann")
        #expect(ofUser.mode == .transaction && ofUser.size == 9 && ofUser.minimumSize == 1)
        #expect(ofUser.maxDatabaseConnections == 30 && ofUser.maxUserConnections == 41)
    }
}
