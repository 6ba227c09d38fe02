import PostgresAuth
import Testing

/// SCRAM-SHA-256-PLUS: the exchange is bound to the TLS connection it comes by.
struct SCRAMChannelTests {
    private let channel: [UInt8] = Array(0..<32)
    private let negotiation = SCRAMServer.OnMessage.refusedChannel(
        "SCRAM channel binding negotiation error",
        detail: "The client supports SCRAM channel binding but thinks the server does not.  "
            + "However, this server does support channel binding."
    )

    private func server(channel: [UInt8]?) -> SCRAMServer {
        SCRAMServer(
            verifier: RFC7677.verifier,
            isMock: false,
            serverNonce: bytes(RFC7677.serverNonce),
            channel: channel
        )
    }

    @Test("a transcript: the header names the binding, and the last message repeats it with the certificate's hash")
    func transcript() {
        var client = SCRAMClient(credential: .password(RFC7677.password), clientNonce: bytes("abc"))
        var server = server(channel: [1, 2, 3])
        let first = client.firstMessage(over: .bound([1, 2, 3]))
        #expect(text(first) == "p=tls-server-end-point,,n=,r=abc")
        let challenge = server.clientFirst(first, bindsChannel: true)
        let expected = "r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        #expect(challenge == .reply(bytes(expected)))
        guard case .reply(let final) = client.serverFirst(bytes(expected)) else {
            Issue.record("the client does not answer")
            return
        }
        // Base64 of "p=tls-server-end-point,," and the three bytes.
        #expect(text(final).hasPrefix("c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAQID,r=abc%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="))
        guard case .accepted(let serverFinal, let key) = server.clientFinal(final) else {
            Issue.record("the server does not accept")
            return
        }
        #expect(key.opens(RFC7677.verifier))
        #expect(client.serverFinal(serverFinal) == .verified)
    }

    @Test("the key that was shown over a bound channel opens every other node, bound or not")
    func keyPassesOn() throws {
        let key = try #require(login(client: .bound(channel), server: channel).key)
        for other in [SCRAMClient.Channel.bound(Array(32..<64)), .none] {
            var client = SCRAMClient(credential: .key(key, RFC7677.verifier), clientNonce: bytes("def"))
            var node = server(channel: other == .none ? nil : Array(32..<64))
            guard
                case .reply(let challenge) = node.clientFirst(
                    client.firstMessage(over: other),
                    bindsChannel: other != .none
                ),
                case .reply(let final) = client.serverFirst(challenge),
                case .accepted(let serverFinal, key) = node.clientFinal(final)
            else {
                Issue.record("refused over \(other)")
                return
            }
            #expect(client.serverFinal(serverFinal) == .verified)
        }
    }

    @Test("somebody in the middle, who must show another certificate, is noticed")
    func otherChannel() {
        let verdict = login(client: .bound(Array(repeating: 9, count: 32)), server: channel)
        #expect(verdict == Ending(server: .refusedChannel("SCRAM channel binding check failed")))
    }

    @Test("somebody in the middle who takes the offer away is noticed: the client says that it saw none")
    func downgrade() {
        var offering = server(channel: channel)
        #expect(offering.clientFirst(bytes("y,,n=,r=abc")) == negotiation)
        #expect(login(client: .unoffered, server: channel) == Ending(server: negotiation))
        #expect(login(client: .unoffered, server: nil).client == .verified)
        // A client that wants no channel binding is welcome.
        #expect(login(client: .none, server: channel).client == .verified)
    }

    @Test("the mechanism and the message must agree")
    func disagreement() {
        let withData =
            "malformed SCRAM message: the client selected SCRAM-SHA-256 without channel binding, "
            + "but the SCRAM message includes channel binding data"
        let withoutData =
            "malformed SCRAM message: the client selected SCRAM-SHA-256-PLUS, "
            + "but the SCRAM message does not include channel binding data"
        for channel in [nil, channel] {
            var one = server(channel: channel)
            #expect(one.clientFirst(bytes("p=tls-server-end-point,,n=,r=abc")) == .malformed(withData))
        }
        for flag in ["n", "y"] {
            var two = server(channel: channel)
            #expect(two.clientFirst(bytes("\(flag),,n=,r=abc"), bindsChannel: true) == .malformed(withoutData))
        }
        var other = server(channel: channel)
        #expect(
            other.clientFirst(bytes("p=tls-unique,,n=,r=abc"), bindsChannel: true)
                == .malformed("unsupported SCRAM channel-binding type \"tls-unique\"")
        )
    }

    @Test("a binding without its data is no binding", arguments: ["biws", "cD10bHMtc2VydmVyLWVuZC1wb2ludCws"])
    func bindingWithoutData(binding: String) {
        var server = server(channel: channel)
        _ = server.clientFirst(bytes("p=tls-server-end-point,,n=,r=abc"), bindsChannel: true)
        let final = "c=\(binding),r=abc\(RFC7677.serverNonce),p=" + String(repeating: "A", count: 43) + "="
        #expect(server.clientFinal(bytes(final)) == .refusedChannel("SCRAM channel binding check failed"))
    }

    @Test("no message traps, whatever bytes it holds")
    func randomMessages() {
        var random = SeededGenerator(seed: 5)
        for _ in 0..<2_000 {
            var first = bytes("p=tls-server-end-point,,n=,r=abc")
            first[Int.random(in: first.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            first.removeLast(Int.random(in: 0...first.count, using: &random))
            var server = server(channel: channel)
            _ = server.clientFirst(first, bindsChannel: true)
            _ = server.clientFinal(first)
        }
    }

    private func login(client channel: SCRAMClient.Channel, server offered: [UInt8]?) -> Ending {
        var client = SCRAMClient(credential: .password(RFC7677.password), clientNonce: bytes("abc"))
        var server = server(channel: offered)
        let bindsChannel: Bool =
            switch channel {
            case .bound: true
            case .none, .unoffered: false
            }
        let first = server.clientFirst(client.firstMessage(over: channel), bindsChannel: bindsChannel)
        guard case .reply(let challenge) = first, case .reply(let final) = client.serverFirst(challenge) else {
            return Ending(server: first)
        }
        let verdict = server.clientFinal(final)
        guard case .accepted(let serverFinal, _) = verdict else { return Ending(server: verdict) }
        return Ending(server: verdict, client: client.serverFinal(serverFinal))
    }
}
