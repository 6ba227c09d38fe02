import Balancing
import BalancingHummingbird
import Crypto
import Hummingbird
import HummingbirdTesting
import Testing

/// A client's writes follow it from request to request.
struct PinningMiddlewareTests {
    private static let key = SymmetricKey(size: .bits256)
    private static let router = PinningRouter(PrimaryReplicaRouter(primary: "primary", reads: .roundRobin("replica")))

    /// GET and POST `/read` and `/write` answer with the database they used; `/fail` writes and fails.
    private func application(_ middleware: some MiddlewareProtocol<Request, Response, BasicRequestContext>)
        -> some ApplicationProtocol
    {
        let routes = Router()
        routes.add(middleware: middleware)
        for method: HTTPRequest.Method in [.get, .post] {
            routes.on("/read", method: method) { _, _ in Self.router.databaseForRead()!.name }
            routes.on("/write", method: method) { _, _ in Self.router.databaseForWrite()!.name }
            routes.on("/fail", method: method) { _, _ -> String in
                _ = Self.router.databaseForWrite()
                throw HTTPError(.conflict, message: "no")
            }
            routes.on("/crash", method: method) { _, _ -> String in
                _ = Self.router.databaseForWrite()
                throw CancellationError()
            }
        }
        return Application(responder: routes.buildResponder())
    }

    /// Where a read goes.
    private func place(
        _ client: some TestClientProtocol,
        _ method: HTTPRequest.Method = .get,
        _ headers: HTTPFields = [:]
    ) async throws -> String {
        let response = try await client.execute(uri: "/read", method: method, headers: headers)
        return String(buffer: response.body)
    }

    private func cookies(
        _ trigger: PinningMiddleware<CookiePinStore<BasicRequestContext>>.Trigger = .writes,
        key: SymmetricKey = key
    ) -> PinningMiddleware<CookiePinStore<BasicRequestContext>> {
        PinningMiddleware(store: CookiePinStore(key: key), trigger: trigger)
    }

    @Test("a write pins the client by a signed cookie, on any method, and nobody else")
    func cookie() async throws {
        try await application(cookies()).test(.router) { client in
            for method: HTTPRequest.Method in [.get, .post] {
                let wrote = try await client.execute(uri: "/write", method: method)
                let set = try #require(wrote.headers[.setCookie])
                for attribute in ["Max-Age=5", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                    #expect(set.contains(attribute), "\(set)")
                }
                let cookie = String(set.prefix { $0 != ";" })
                let read = try await client.execute(uri: "/read", method: .get, headers: [.cookie: cookie])
                #expect(String(buffer: read.body) == "primary")
                #expect(read.headers[.setCookie] == nil, "a read pins nobody")
                let stranger = try await client.execute(uri: "/read", method: .get)
                #expect(String(buffer: stranger.body) == "replica")
            }
        }
    }

    @Test("a cookie that was made up, changed, or signed for something else pins nobody")
    func forged() async throws {
        let name = "pinned"
        func cookie(_ store: CookiePinStore<BasicRequestContext>) async throws -> String {
            try await application(PinningMiddleware(store: store)).test(.router) { client in
                let wrote = try await client.execute(uri: "/write", method: .post)
                return String(try #require(wrote.headers[.setCookie]).prefix { $0 != ";" })
            }
        }
        let good = try await cookie(CookiePinStore(key: Self.key))
        let value = String(good.dropFirst(name.count + 1))
        let forged: [String] = [
            "9999999999.0", "9999999999.0.", ".", "", "x.y", "9" + value, value.dropLast(6) + "AAAAAA",
            try await cookie(CookiePinStore(key: SymmetricKey(size: .bits256))).dropFirst(name.count + 1).description,
            try await cookie(CookiePinStore(key: Self.key, name: "else")).dropFirst("else=".count).description,
        ]
        try await application(cookies()).test(.router) { client in
            for value in forged {
                let read = try await client.execute(uri: "/read", method: .get, headers: [.cookie: "\(name)=\(value)"])
                #expect(read.status == .ok && String(buffer: read.body) == "replica", "\(value)")
            }
            let read = try await client.execute(uri: "/read", method: .get, headers: [.cookie: "a=b; \(good); c=d"])
            #expect(String(buffer: read.body) == "primary", "the real one")
        }
    }

    @Test("what was written before an error pins, too (an exception leaves django-balancer's thread pinned)")
    func errors() async throws {
        try await application(cookies()).test(.router) { client in
            for (path, status) in [("/fail", HTTPResponse.Status.conflict), ("/crash", .internalServerError)] {
                let failed = try await client.execute(uri: path, method: .post)
                #expect(failed.status == status)
                let cookie = String(try #require(failed.headers[.setCookie]).prefix { $0 != ";" })
                let read = try await client.execute(uri: "/read", method: .get, headers: [.cookie: cookie])
                #expect(String(buffer: read.body) == "primary")
                #expect(try await place(client, .get) == "replica")
            }
        }
    }

    @Test("methods that are not safe pin by themselves, or writes only with them, as configured")
    func methods() async throws {
        func pins(_ trigger: PinningMiddleware<CookiePinStore<BasicRequestContext>>.Trigger) async throws -> [Bool] {
            try await application(cookies(trigger)).test(.router) { client in
                var pins: [Bool] = []
                for (path, method) in [
                    ("/read", HTTPRequest.Method.get), ("/write", .get), ("/read", .post), ("/write", .post),
                ] {
                    pins.append(try await client.execute(uri: path, method: method).headers[.setCookie] != nil)
                }
                return pins
            }
        }
        #expect(try await pins(.writes) == [false, true, false, true])
        #expect(try await pins(.unsafeMethods) == [false, false, true, true])
        #expect(try await pins(.writesOfUnsafeMethods) == [false, false, false, true])
        try await application(cookies(.unsafeMethods)).test(.router) { client in
            let place = try await place(client, .post)
            #expect(place == "primary")
        }
    }

    @Test("a pin in a session follows the user to his other devices")
    func session() async throws {
        let store = SessionPinStore<BasicRequestContext, MemoryPersistDriver<ContinuousClock>>(
            storage: MemoryPersistDriver(),
            key: { request, _ in request.headers[.authorization] }
        )
        try await application(PinningMiddleware(store: store)).test(.router) { client in
            let alice: HTTPFields = [.authorization: "alice"]
            let bob: HTTPFields = [.authorization: "bob"]
            let wrote = try await client.execute(uri: "/write", method: .post, headers: alice)
            #expect(wrote.headers[.setCookie] == nil)
            #expect(
                try await place(client, .get, alice) == "primary"
            )
            #expect(
                try await place(client, .get, bob) == "replica"
            )
            _ = try await client.execute(uri: "/write", method: .post)
            #expect(try await place(client, .get) == "replica", "no key")
        }
    }
}
