import HostBasedAuthentication
import TestSupport
import Testing

struct HostBasedRulesTests {
    private let networks = [
        AddressRange(address: address("192.0.2.10"), mask: address("255.255.255.0")),
        AddressRange(address: address("2001:db8::10"), mask: address("ffff:ffff:ffff:ffff::")),
    ]

    /// The line of the rule that decides.
    private func decision(
        _ text: String,
        from host: String?,
        database: String = "shop",
        user: String = "ann",
        isEncrypted: Bool = false
    ) -> Int? {
        let (rules, problems) = HostBasedRules.parse(text)
        #expect(problems.isEmpty)
        let attempt = HostBasedRules.Attempt(
            address: host.map(address),
            isEncrypted: isEncrypted,
            database: database,
            user: user
        )
        return rules.first(matching: attempt) { networks }?.line
    }

    // MARK: - Matching

    @Test("the first rule that matches decides, and where none does nobody comes in")
    func order() {
        let text = """
            # comment
            local all all trust
            host all bob all reject   # trailing comment

            host all all 10.0.0.0/8 md5
            """
        #expect(decision(text, from: nil) == 2)
        #expect(decision(text, from: "10.1.2.3", user: "bob") == 3)
        #expect(decision(text, from: "10.1.2.3") == 5)
        #expect(decision(text, from: "11.1.2.3") == nil)
        #expect(decision(text, from: "::1") == nil)
        #expect(decision("", from: nil) == nil)
    }

    @Test(
        "addresses",
        arguments: [
            ("192.0.2.7/32", "192.0.2.7", true), ("192.0.2.7/32", "192.0.2.8", false),
            ("192.0.2.0/25", "192.0.2.127", true), ("192.0.2.0/25", "192.0.2.128", false),
            ("192.0.2.0 255.255.255.128", "192.0.2.127", true), ("192.0.2.77 255.0.255.0", "192.9.2.1", true),
            ("0.0.0.0/0", "8.8.8.8", true), ("0.0.0.0/0", "::1", false), ("::/0", "::1", true),
            ("::/0", "127.0.0.1", false), ("2001:db8::/33", "2001:db8:7fff::", true),
            ("2001:db8::/33", "2001:db8:8000::", false), ("::ffff:0:0/96", "1.2.3.4", false),
            ("::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::1", true), ("all", "1.2.3.4", true),
            ("all", "::1", true),
            ("samehost", "192.0.2.10", true), ("samehost", "192.0.2.11", false), ("samenet", "192.0.2.11", true),
            ("samenet", "192.0.3.11", false), ("samenet", "2001:db8::ffff", true),
        ]
    )
    func addresses(range: String, host: String, isMatch: Bool) {
        #expect(decision("host all all \(range) md5", from: host) == (isMatch ? 1 : nil))
        #expect(decision("host all all \(range) md5", from: nil) == nil)
    }

    @Test("how a client came")
    func transports() {
        for (transport, plain, encrypted) in [
            ("host", true, true), ("hostssl", false, true), ("hostnossl", true, false), ("hostnogssenc", true, true),
        ] {
            let text = "\(transport) all all all md5"
            #expect((decision(text, from: "::1") != nil) == plain)
            #expect((decision(text, from: "::1", isEncrypted: true) != nil) == encrypted)
            #expect(decision(text, from: nil) == nil)
        }
        #expect(decision("local all all md5", from: "127.0.0.1") == nil)
    }

    @Test(
        "names of databases and users",
        arguments: [
            ("shop ann", "shop", "ann", true), ("shop ann", "shop", "bob", false), ("shop ann", "depot", "ann", false),
            ("a,shop bob,ann", "shop", "ann", true), ("a, shop bob,\tann", "shop", "ann", true),
            ("sameuser all", "ann", "ann", true), ("sameuser all", "shop", "ann", false),
            ("\"sameuser\" all", "sameuser", "ann", true), ("\"sameuser\" all", "ann", "ann", false),
            ("\"all\" all", "shop", "ann", false), ("all \"all\"", "shop", "all", true),
            ("replication all", "replication", "ann", false), ("\"replication\" all", "replication", "ann", true),
            ("\"a b,c#d\" \"e\"\"f\"", "a b,c#d", "e\"f", true), ("ALL all", "shop", "ann", false),
            ("all Ann", "shop", "ann", false), ("\"\" all", "", "ann", true), ("all \"+ann\"", "shop", "+ann", true),
            ("sh\"op\" all", "shop", "ann", true), ("all é", "shop", "e\u{301}", false),
        ]
    )
    func names(fields: String, database: String, user: String, isMatch: Bool) {
        #expect(decision("local \(fields) md5", from: nil, database: database, user: user) == (isMatch ? 1 : nil))
    }

    @Test("lines are continued, and numbered by their first")
    func continuation() {
        #expect(decision("\n\nlocal all \\\n all \\\r\n md5\nlocal all all trust", from: nil) == 3)
        #expect(decision("# a \\\nlocal all all md5\nlocal all all trust", from: nil) == 3)
    }

    // MARK: - Problems

    @Test(
        "what is no rule, and what the endpoint cannot do, is said with its line",
        arguments: [
            ("remote all all all md5", "invalid connection type \"remote\""),
            ("local,host all all md5", "multiple values specified for connection type"),
            (
                "hostgssenc all all all md5",
                "connection type \"hostgssenc\" is not supported: the endpoint knows no encryption by GSSAPI"
            ),
            ("include other.conf", "\"include\" is not supported"),
            ("local", "end-of-line before database specification"),
            ("local all", "end-of-line before role specification"),
            ("local all all", "end-of-line before authentication method"),
            ("host all all", "end-of-line before IP address specification"),
            ("host all all 1.2.3.4", "end-of-line before netmask specification"),
            ("host all all 1.2.3.4 md5", "invalid IP mask \"md5\""),
            ("host all all 1.2.3.4 ffff::", "IP address and mask do not match"),
            ("host all all 1.2.3.4/33 md5", "invalid CIDR mask in address \"1.2.3.4/33\""),
            ("host all all 1.2.3.4/ md5", "invalid CIDR mask in address \"1.2.3.4/\""),
            ("host all all ::1/129 md5", "invalid CIDR mask in address \"::1/129\""),
            ("host all all 1.2.3.4/32,::1/128 md5", "multiple values specified for host address"),
            (
                "host all all db.example.org md5",
                "host name \"db.example.org\" is not supported: a login would wait for the name server"
            ),
            (
                "host all all .example.org md5",
                "host name \".example.org\" is not supported: a login would wait for the name server"
            ),
            (
                "local samerole all md5",
                "database \"samerole\" is not supported: the endpoint does not know which roles are members of which"
            ),
            (
                "local all +staff md5",
                "user \"+staff\" is not supported: the endpoint does not know which roles are members of which"
            ),
            ("local @file all md5", "database \"@file\" is not supported: names are not read from other files"),
            ("local all \"/^a\" md5", "user \"/^a\" is not supported: names are not matched with regular expressions"),
            ("local all all md4", "invalid authentication method \"md4\""),
            ("local all all peer", "authentication method \"peer\" is not supported"),
            ("local all all md5,trust", "multiple values specified for authentication type"),
            ("host all all all cert", "cert authentication is only supported on hostssl connections"),
            ("hostssl all all all cert map=m", "option \"map\" is not supported"),
            (
                "hostssl all all all cert clientcert=verify-ca",
                "clientcert only accepts \"verify-full\" when using \"cert\" authentication"
            ),
            ("hostssl all all all md5 clientcert=1", "invalid value for clientcert: \"1\""),
            ("host all all all md5 clientcert=verify-ca", "clientcert can only be configured for \"hostssl\" rows"),
            ("local all all md5 word", "authentication option not in name=value format: word"),
            ("local all all md5 a=b", "unrecognized authentication option name: \"a\""),
        ]
    )
    func problems(line: String, message: String) {
        let (rules, problems) = HostBasedRules.parse("local all all trust\n\n\(line)\n")
        #expect(rules.rules.count == 1)
        #expect(problems.map(\.message) == [message])
        #expect(problems.map(\.line) == [3])
    }

    @Test("options of certificates")
    func certificates() {
        let (rules, problems) = HostBasedRules.parse(
            """
            hostssl all all all cert
            hostssl all all all scram-sha-256 clientcert=verify-ca
            hostssl all all all md5 clientname=CN clientcert=verify-full
            """
        )
        #expect(problems.isEmpty)
        #expect(rules.rules.map(\.clientCertificate) == [.verifyFull, .verifyAuthority, .verifyFull])
    }

    // MARK: - Anything

    @Test("whatever bytes a file holds, each line is a rule, a problem or nothing")
    func randomText() {
        var random = SeededGenerator()
        let pieces = [
            "local", "host", "hostssl", " ", "\t", ",", "\"", "#", "\n", "\\\n", "\\", "all", "sameuser", "md5",
            "trust",
            "cert", "1.2.3.4", "/8", "::1", "/", "255.0.0.0", "=", "clientcert=verify-ca", "+", "@", "\r", "é", "\0",
        ]
        for _ in 0..<20_000 {
            var text = ""
            for _ in 0..<Int.random(in: 0..<24, using: &random) {
                text +=
                    Int.random(in: 0..<8, using: &random) == 0
                    ? String(decoding: random.bytes(3), as: UTF8.self) : pieces.randomElement(using: &random) ?? ""
            }
            let (rules, problems) = HostBasedRules.parse(text)
            let lines = text.utf8.filter { $0 == 0x0A }.count + 1
            #expect(rules.rules.count + problems.count <= lines, "seed \(random.seed)")
            #expect((rules.rules.map(\.line) + problems.map(\.line)).allSatisfy { (1...lines).contains($0) })
            for host in [nil, "1.2.3.4", "::1"] {
                let attempt = HostBasedRules.Attempt(address: host.map(address), database: "shop", user: "ann")
                _ = rules.first(matching: attempt) { networks }
            }
        }
    }

    @Test("masks of every length cover what they say")
    func masks() {
        for isIPv6 in [false, true] {
            let bits = isIPv6 ? 128 : 32
            for length in 0...bits {
                let mask = NetworkAddress.mask(length: length, isIPv6: isIPv6)
                #expect(mask?.bytes.map(\.nonzeroBitCount).reduce(0, +) == length)
                let isLeading = zip(mask?.bytes ?? [], (mask?.bytes ?? []).dropFirst()).allSatisfy { $0 >= $1 }
                #expect(isLeading)
            }
            #expect(NetworkAddress.mask(length: -1, isIPv6: isIPv6) == nil)
            #expect(NetworkAddress.mask(length: bits + 1, isIPv6: isIPv6) == nil)
        }
    }
}

private func address(_ text: String) -> NetworkAddress {
    guard let address = NetworkAddress(text) else { preconditionFailure("\(text) is an address") }
    return address
}
