import Glibc
import Testing

@testable import PostgresClient

@Suite struct PostgresClientTests {
    @Test func secretsDoNotShowThemselves() {
        let parameters = ConnectionParameters(
            host: "127.0.0.1",
            port: 1,
            user: "u",
            database: "d",
            password: Secret("hunter2")
        )
        var dumped = ""
        dump(parameters, to: &dumped)
        #expect(!dumped.contains("hunter2"))
        #expect(!"\(parameters)".contains("hunter2"))
        #expect(!String(reflecting: parameters).contains("hunter2"))
        #expect(parameters.password?.revealed == "hunter2")
    }

    @Test(arguments: [
        ("plain", "'plain'"), ("it's", "'it''s'"), (#"a\b"#, #" E'a\\b'"#), (#"\'"#, #" E'\\'''"#), ("", "''"),
    ])
    func stringConstantsAreQuoted(_ text: String, _ quoted: String) {
        #expect(SQLText.literal(text) == quoted)
    }

    @Test func identifiersAreQuoted() {
        #expect(SQLText.identifier(#"a"b"#) == #""a""b""#)
    }

    @Test func rowsAnswerByPositionAndByName() {
        let row = Row(columns: ["a", "b"], values: ["1", nil])
        #expect(row[0] == "1")
        #expect(row["a"] == "1")
        #expect(row["b"] == nil)
        #expect(row[2] == nil)
        #expect(row["c"] == nil)
    }

    /// A port that accepts connections (the kernel does) and never answers.
    private func silentListener() throws -> (descriptor: CInt, port: UInt16) {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) | listen(descriptor, 8) | getsockname(descriptor, $0, &length)
            }
        }
        try #require(status == 0)
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    private func parameters(port: UInt16, timeout: Duration) -> ConnectionParameters {
        ConnectionParameters(host: "127.0.0.1", port: port, user: "u", database: "d", connectTimeout: timeout)
    }

    @Test func aServerThatNeverAnswersIsGivenUp() async throws {
        let listener = try silentListener()
        defer { close(listener.descriptor) }
        let error = await #expect(throws: DatabaseError.self) {
            _ = try await DatabaseConnection.connect(parameters(port: listener.port, timeout: .milliseconds(200)))
        }
        #expect(error?.kind == .timedOut)
    }

    @Test func aCancelledTaskDoesNotWaitForTheServer() async throws {
        let listener = try silentListener()
        defer { close(listener.descriptor) }
        let parameters = parameters(port: listener.port, timeout: .seconds(60))
        let task = Task {
            do throws(DatabaseError) {
                _ = try await DatabaseConnection.connect(parameters)
                return nil as DatabaseError.Kind?
            } catch {
                return error.kind
            }
        }
        task.cancel()
        #expect(await task.value == .closed)
    }

    @Test func aRefusedConnectionIsAnErrorOfConnecting() async throws {
        let listener = try silentListener()
        close(listener.descriptor)
        let error = await #expect(throws: DatabaseError.self) {
            _ = try await DatabaseConnection.connect(parameters(port: listener.port, timeout: .seconds(5)))
        }
        #expect(error?.kind == .connect)
        #expect(error?.sqlState == nil)
    }
}
