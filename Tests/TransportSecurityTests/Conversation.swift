import TransportSecurity

/// One end of a connection that has no socket.
final class End {
    let engine: TLSEngine
    /// Ciphertext that has come and was not worked off.
    var inbox: [UInt8] = []
    /// Plaintext that has come.
    var received: [UInt8] = []
    /// Of memory given to the engine in one call.
    var room = 65_536

    init(_ engine: TLSEngine) {
        self.engine = engine
    }

    /// Works off what there is in the inbox.
    func work() {
        while true {
            var plaintext = [UInt8](repeating: 0, count: room)
            let decrypted = plaintext.withUnsafeMutableBytes { plaintext in
                inbox.withUnsafeBytes { engine.decrypt($0, into: plaintext) }
            }
            received += plaintext.prefix(decrypted.produced)
            inbox.removeFirst(decrypted.consumed)
            if decrypted.produced == 0 { break }
        }
    }

    /// The ciphertext of `plaintext`.
    func encrypted(_ plaintext: [UInt8]) -> [UInt8] {
        var ciphertext: [UInt8] = []
        var rest = plaintext[...]
        while !rest.isEmpty {
            var memory = [UInt8](repeating: 0, count: max(room, 1_024))
            let encrypted = memory.withUnsafeMutableBytes { memory in
                rest.withUnsafeBytes { engine.encrypt($0, into: memory) }
            }
            ciphertext += memory.prefix(encrypted.produced)
            ciphertext += engine.takePending()
            rest = rest.dropFirst(encrypted.consumed)
            if encrypted.consumed == 0 { break }
        }
        return ciphertext
    }
}

/// A client and a server that talk through arrays.
struct Conversation {
    let client: End
    let server: End
    /// Every byte each has sent.
    private(set) var fromClient: [UInt8] = []
    private(set) var fromServer: [UInt8] = []

    init(
        server: TLSContext,
        client: TLSContext,
        host: String = "localhost",
        verification: TLSEngine.Verification = .none,
        requiresApplicationProtocol: Bool = false
    ) throws {
        self.server = End(
            try TLSEngine(server: server, requiresApplicationProtocol: requiresApplicationProtocol)
        )
        self.client = End(try TLSEngine(client: client, host: host, verification: verification))
    }

    /// Carries what OpenSSL has to say to and fro until nobody has anything to say.
    ///
    /// - Parameter pieces: how many bytes come next.
    mutating func settle(pieces: () -> Int = { .max }) {
        while true {
            let toServer = client.engine.takePending()
            let toClient = server.engine.takePending()
            if toServer.isEmpty, toClient.isEmpty { return }
            fromClient += toServer
            fromServer += toClient
            Self.carry(toServer, to: server, pieces)
            Self.carry(toClient, to: client, pieces)
        }
    }

    static func carry(_ bytes: [UInt8], to end: End, _ pieces: () -> Int = { .max }) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(pieces())
            rest = rest.dropFirst(piece.count)
            end.inbox += piece
            end.work()
        }
    }

    var phases: [TLSEngine.Phase] { [client.engine.phase, server.engine.phase] }
}
