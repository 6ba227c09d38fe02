import Testing
import TransportSecurity

struct TLSEngineTests {
    private let certificates = Certificates.made

    private func conversation(_ versions: ClosedRange<TLSVersion> = .v1_2 ... .v1_3) throws -> Conversation {
        var parameters = TLSParameters()
        parameters.versions = versions
        return try Conversation(
            server: .server(identity: certificates.identity("server"), parameters: parameters),
            client: .client(authority: certificates.authority()),
            verification: .host("localhost")
        )
    }

    @Test("a conversation from the handshake to the end", arguments: [TLSVersion.v1_2, .v1_3])
    func transcript(version: TLSVersion) throws {
        var talk = try conversation(version...version)
        #expect(talk.client.engine.hasPending && !talk.server.engine.hasPending)
        #expect(talk.phases == [.handshaking, .handshaking])
        talk.settle()
        #expect(talk.phases == [.established, .established])
        #expect(talk.server.engine.version == (version == .v1_2 ? "TLSv1.2" : "TLSv1.3"))

        Conversation.carry(talk.client.encrypted(Array("a question".utf8)), to: talk.server)
        #expect(talk.server.received == Array("a question".utf8))
        Conversation.carry(talk.server.encrypted(Array("an answer".utf8)), to: talk.client)
        #expect(talk.client.received == Array("an answer".utf8))

        talk.client.engine.close()
        talk.settle()
        #expect(talk.server.engine.phase == .ended)
        // Who has heard the end may still have something to say.
        Conversation.carry(talk.server.encrypted([1, 2, 3]), to: talk.client)
        #expect(talk.client.received.suffix(3) == [1, 2, 3])
        talk.server.engine.close()
        talk.settle()
        #expect(talk.phases == [.ended, .ended])
    }

    @Test("bytes may come one at a time", arguments: [TLSVersion.v1_2, .v1_3])
    func byteByByte(version: TLSVersion) throws {
        var talk = try conversation(version...version)
        talk.settle { 1 }
        #expect(talk.phases == [.established, .established])
        let message = (0..<40_000).map { UInt8(truncatingIfNeeded: $0) }
        Conversation.carry(talk.client.encrypted(message), to: talk.server) { 1 }
        #expect(talk.server.received == message)
        #expect(talk.phases == [.established, .established])
    }

    @Test("a handshake that is cut anywhere waits for the rest, and a record that is cut shows nothing")
    func truncated() throws {
        var whole = try conversation()
        whole.settle()
        let context = try TLSContext.server(identity: certificates.identity("server"))
        let hello = try TLSEngine(client: .client(), host: "localhost").takePending()
        for count in 0..<hello.count {
            let server = End(try TLSEngine(server: context))
            Conversation.carry(Array(hello.prefix(count)), to: server)
            #expect(server.engine.phase == .handshaking && !server.engine.hasPending, "after \(count) bytes")
        }
        let record = whole.client.encrypted([1, 2, 3])
        Conversation.carry(Array(record.dropLast()), to: whole.server)
        #expect(whole.server.received == [] && whole.server.engine.phase == .established)
        Conversation.carry([record[record.count - 1]], to: whole.server)
        #expect(whole.server.received == [1, 2, 3])
    }

    @Test("whatever way bytes are split, and whatever room there is, they come as they were sent")
    func randomSplits() throws {
        var random = SeededGenerator()
        let contexts = try [TLSVersion.v1_2, .v1_3].map { version in
            var parameters = TLSParameters()
            parameters.versions = version...version
            return try TLSContext.server(identity: certificates.identity("server"), parameters: parameters)
        }
        let clientContext = try TLSContext.client()
        var rounds = 0
        for _ in 0..<40 {
            let context = contexts.randomElement(using: &random) ?? contexts[0]
            var talk = try Conversation(server: context, client: clientContext)
            talk.settle { Int.random(in: 1...700, using: &random) }
            #expect(talk.phases == [.established, .established], "seed \(random.seed)")
            for _ in 0..<60 {
                rounds += 1
                let isQuestion = Bool.random(using: &random)
                let (from, to) = isQuestion ? (talk.client, talk.server) : (talk.server, talk.client)
                from.room = Int.random(in: 600...70_000, using: &random)
                to.room = Bool.random(using: &random) ? 65_536 : Int.random(in: 1...3_000, using: &random)
                let limit = [1, 20, 3_000, 20_000].randomElement(using: &random) ?? 1
                let message = random.bytes(Int.random(in: 0...limit, using: &random))
                if context === contexts[1], Int.random(in: 0..<10, using: &random) == 0 {
                    from.engine.updateKey(requestsPeer: Bool.random(using: &random))
                }
                to.received = []
                let longest = [2, 100, 5_000, 100_000].randomElement(using: &random) ?? 2
                Conversation.carry(from.encrypted(message), to: to) { Int.random(in: 1...longest, using: &random) }
                guard to.received == message else {
                    Issue.record("\(message.count) bytes came as \(to.received.count), seed \(random.seed)")
                    return
                }
                talk.settle { Int.random(in: 1...longest, using: &random) }
            }
            #expect(talk.phases == [.established, .established], "seed \(random.seed)")
        }
        #expect(rounds == 2_400)
    }

    @Test("plaintext that finds no room comes at the next call, without more ciphertext")
    func littleRoom() throws {
        var talk = try conversation()
        talk.settle()
        let record = talk.client.encrypted(Array(1...100))
        var first = [UInt8](repeating: 0, count: 30)
        let decrypted = first.withUnsafeMutableBytes { first in
            record.withUnsafeBytes { talk.server.engine.decrypt($0, into: first) }
        }
        #expect(decrypted.consumed == record.count && decrypted.produced == 30)
        #expect(talk.server.engine.hasPlaintext)
        talk.server.work()
        #expect(first + talk.server.received == Array(1...100))
        #expect(!talk.server.engine.hasPlaintext)
    }

    @Test("encrypting stops where a record might not fit any more")
    func littleRoomForCiphertext() throws {
        var talk = try conversation()
        talk.settle()
        let message = [UInt8](repeating: 7, count: 100_000)
        var memory = [UInt8](repeating: 0, count: 65_536)
        let encrypted = memory.withUnsafeMutableBytes { memory in
            message.withUnsafeBytes { talk.client.engine.encrypt($0, into: memory) }
        }
        #expect(encrypted.consumed > 64_000 && encrypted.consumed < encrypted.produced)
        #expect(encrypted.produced <= memory.count)
        var none: [UInt8] = Array(repeating: 0, count: TLSEngine.recordOverhead)
        let refused = none.withUnsafeMutableBytes { none in
            message.withUnsafeBytes { talk.client.engine.encrypt($0, into: none) }
        }
        #expect(refused.consumed == 0 && refused.produced == 0)
    }

    @Test("keys are updated underway, and the peer's wish for it is answered", arguments: [false, true])
    func keyUpdate(requestsPeer: Bool) throws {
        var talk = try conversation(.v1_3 ... .v1_3)
        talk.settle()
        for _ in 0..<20 {
            talk.client.engine.updateKey(requestsPeer: requestsPeer)
            Conversation.carry(talk.client.encrypted([1]), to: talk.server)
            Conversation.carry(talk.server.engine.takePending() + talk.server.encrypted([2]), to: talk.client)
        }
        #expect(talk.server.received == Array(repeating: 1, count: 20))
        #expect(talk.client.received == Array(repeating: 2, count: 20))
        #expect(talk.phases == [.established, .established])
    }

    @Test("a record that was tampered with ends the connection, and shows nothing")
    func tampered() throws {
        var random = SeededGenerator()
        for _ in 0..<50 {
            var talk = try conversation()
            talk.settle()
            var record = talk.client.encrypted(Array(1...50))
            let index = Int.random(in: 5..<record.count, using: &random)
            record[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            Conversation.carry(record, to: talk.server)
            #expect(talk.server.received.isEmpty, "seed \(random.seed)")
            guard case .failed = talk.server.engine.phase else {
                Issue.record("\(talk.server.engine.phase), seed \(random.seed)")
                return
            }
            // The peer is told.
            #expect(talk.server.engine.hasPending)
        }
    }

    @Test("garbage never traps, and never passes for a handshake")
    func garbage() throws {
        var random = SeededGenerator()
        let context = try TLSContext.server(identity: certificates.identity("server"))
        let clientContext = try TLSContext.client()
        var hello = End(try TLSEngine(client: clientContext, host: "localhost")).engine.takePending()
        for round in 0..<2_000 {
            let server = End(try TLSEngine(server: context))
            let client = End(try TLSEngine(client: clientContext, host: "localhost"))
            var bytes = random.bytes(Int.random(in: 1...300, using: &random))
            if round.isMultiple(of: 2) {
                bytes = hello
                for _ in 0..<3 { bytes[Int.random(in: bytes.indices, using: &random)] = random.bytes(1)[0] }
            }
            for end in [server, client] {
                Conversation.carry(bytes, to: end) { Int.random(in: 1...100, using: &random) }
                #expect(end.received.isEmpty && !end.engine.isEstablished, "seed \(random.seed)")
            }
        }
        hello[0] = 0
        let server = End(try TLSEngine(server: context))
        Conversation.carry(Array("GET / HTTP/1.1\r\n\r\n".utf8), to: server)
        #expect(server.engine.phase == .failed(TLSError("http request")))
    }

    @Test("an engine that has failed does nothing more")
    func afterTheFailure() throws {
        let server = End(try TLSEngine(server: .server(identity: certificates.identity("server"))))
        Conversation.carry(Array(repeating: 0xFF, count: 100), to: server)
        let phase = server.engine.phase
        guard case .failed = phase else {
            Issue.record("\(phase)")
            return
        }
        #expect(server.encrypted([1, 2, 3]).isEmpty)
        server.engine.close()
        var hello = End(try TLSEngine(client: .client(), host: "")).engine.takePending()
        hello.append(0)
        Conversation.carry(hello, to: server)
        #expect(server.engine.phase == phase)
    }
}
