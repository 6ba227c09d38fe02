import PostgresAuth
import TestSupport

/// Text as the bytes of a message, and back.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// The exchange of RFC 7677 section 3.
enum RFC7677 {
    static let password = "pencil"
    static let clientNonce = "rOprNGfwEbeRWgbNEkqO"
    static let serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    static let salt: [UInt8] = [91, 109, 153, 104, 157, 18, 53, 142, 236, 160, 75, 20, 18, 54, 250, 129]
    static let clientFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    static let serverFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    static let withoutProof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    static let proof = ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    static let clientFinal = withoutProof + proof
    static let serverFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

    static let verifier = SCRAMVerifier(password: password, salt: salt)

    static func server(isMock: Bool = false) -> SCRAMServer {
        SCRAMServer(verifier: verifier, isMock: isMock, serverNonce: bytes(serverNonce))
    }

    static func client(_ credential: SCRAMClient.Credential = .password(password)) -> SCRAMClient {
        SCRAMClient(credential: credential, clientNonce: bytes(clientNonce), user: "user")
    }
}

extension SeededGenerator {
    mutating func nonce() -> [UInt8] {
        SCRAMNonce.make(from: bytes(SCRAMNonce.randomByteCount))
    }

    mutating func password() -> String {
        let length = Int.random(in: 1...40, using: &self)
        return String((0..<length).map { _ in Character(UnicodeScalar(UInt8.random(in: 0x20...0x7E, using: &self))) })
    }
}

/// How an exchange ended on each side. What was not reached is `nil`.
struct Ending: Equatable {
    var server: SCRAMServer.OnMessage
    var client: SCRAMClient.OnServerFinal?

    var key: ClientKey? {
        if case .accepted(_, let key) = server { key } else { nil }
    }
}

/// A whole exchange between both machines.
func exchange(
    verifier: SCRAMVerifier,
    isMock: Bool = false,
    credential: SCRAMClient.Credential,
    random: inout SeededGenerator
) -> Ending? {
    var server = SCRAMServer(verifier: verifier, isMock: isMock, serverNonce: random.nonce())
    var client = SCRAMClient(credential: credential, clientNonce: random.nonce())
    guard case .reply(let challenge) = server.clientFirst(client.firstMessage()),
        case .reply(let proof) = client.serverFirst(challenge)
    else { return nil }
    let verdict = server.clientFinal(proof)
    if case .accepted(let serverFinal, _) = verdict {
        return Ending(server: verdict, client: client.serverFinal(serverFinal))
    }
    return Ending(server: verdict)
}
