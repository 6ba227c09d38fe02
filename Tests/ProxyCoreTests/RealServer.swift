import Foundation
import Glibc
import Logging
import PostgresAuth
import PostgresClient
import PostgresWire
import ProxyCore
import Replication
import Testing

/// Runs `body` with a server of its own, and stops and removes it afterwards.
func withRealServer(_ body: (ConnectionParameters) async throws -> Void) async throws {
    var template = Array("/tmp/slipstream-core-test-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let scratch = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    // mkdtemp makes it 0700, which the servers' user could not enter.
    chmod(scratch, 0o755)
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    let test = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let cluster = try await LocalCluster.open(
        directory: ClusterDirectory(path: scratch + "/cluster"),
        options: ClusterOptions(
            standbys: 0,
            executable: URL(filePath: test).deletingLastPathComponent().path + "/slipstream"
        ),
        logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
        progress: { _ in }
    )
    do {
        try await body(try #require(cluster.superuserParameters(node: "primary")))
    } catch {
        await cluster.stop()
        throw error
    }
    await cluster.stop()
}

/// A session on a server, which speaks the protocol message by message.
final class RealSession {
    struct Lost: Error {}
    /// The server's complaint.
    struct Refused: Error {
        var message: String
    }

    private let descriptor: CInt
    private var received: [UInt8] = []

    init(_ parameters: ConnectionParameters, settings: [(name: String, value: String)] = []) throws {
        descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = parameters.port.bigEndian
        inet_pton(AF_INET, parameters.host, &address.sin_addr)
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw Lost() }
        var startup = StartupMessage(user: parameters.user, database: parameters.database)
        startup.parameters += settings.map { .init(name: $0.name, value: Array($0.value.utf8)) }
        try send(startup.packet)
        let credential = LoginCredential(password: parameters.password?.revealed)
        var login = ServerLogin(credential: credential, role: parameters.user, random: Array(1...18))
        while true {
            let (type, message) = try receive()
            switch login.received(type, message: message.span.bytes) {
            case .wait: break
            case .reply(let bytes): try send(bytes)
            case .ready: return
            case .refused(let fields, _): throw Refused(message: fields.message)
            case .failed(let reason): throw Refused(message: reason)
            }
        }
    }

    deinit { close(descriptor) }

    /// Sends messages that end with a query or a Sync, and reads the answer up to ReadyForQuery.
    @discardableResult
    func exchange(_ messages: [UInt8]) throws -> [(type: BackendMessage, message: [UInt8])] {
        try send(messages)
        var answer: [(BackendMessage, [UInt8])] = []
        while answer.last?.0 != .readyForQuery { answer.append(try receive()) }
        for (type, message) in answer where type == .errorResponse {
            let body = message.span.bytes.extracting(MessageHeader.size..<message.count)
            throw Refused(message: ServerErrorFields(body: body).message)
        }
        return answer
    }

    func run(_ sql: [UInt8]) throws {
        try exchange(Frontend.message(.query, sql + [0]))
    }

    func run(_ sql: String) throws { try run(Array(sql.utf8)) }

    /// The only column of the only row.
    func value(_ sql: String) throws -> String? {
        let row = try exchange(Frontend.query(sql)).first { $0.type == .dataRow }?.message ?? []
        // Header, number of columns, length.
        return row.count < 11 ? nil : String(decoding: row[11...], as: UTF8.self)
    }

    private func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Lost() }
            sent += count
        }
    }

    private func receive() throws -> (BackendMessage, [UInt8]) {
        while true {
            let bytes = received
            if let header = MessageHeader(bytes.span.bytes, at: 0), bytes.count >= header.totalSize {
                guard let type = BackendMessage(rawValue: header.type) else { throw Lost() }
                received.removeFirst(header.totalSize)
                return (type, Array(bytes[..<header.totalSize]))
            }
            var buffer = [UInt8](repeating: 0, count: 8_192)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { throw Lost() }
            received += buffer[..<count]
        }
    }
}
