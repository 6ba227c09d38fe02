extension HostBasedRules {
    /// Reads text in the syntax of `pg_hba.conf`. What PostgreSQL accepts and the endpoint cannot do is a problem, too:
    /// a rule that is left out could let somebody in.
    package static func parse(_ text: String) -> (rules: HostBasedRules, problems: [HostBasedRuleProblem]) {
        var rules = HostBasedRules([])
        var problems: [HostBasedRuleProblem] = []
        for line in RuleTokens.lines(of: text) {
            var parser = RuleParser(line)
            do throws(HostBasedRuleProblem) {
                rules.rules.append(try parser.rule())
            } catch {
                problems.append(error)
            }
        }
        return (rules, problems)
    }
}

/// Reads one line, field by field.
private struct RuleParser {
    private let line: RuleTokens.Line
    private var next = 0

    init(_ line: RuleTokens.Line) {
        self.line = line
    }

    mutating func rule() throws(HostBasedRuleProblem) -> HostBasedRule {
        let transport = try readTransport()
        var databases: [HostBasedRule.DatabaseName] = []
        for word in try field("end-of-line before database specification") { databases.append(try database(word)) }
        var users: [HostBasedRule.UserName] = []
        for word in try field("end-of-line before role specification") { users.append(try user(word)) }
        let addresses: HostBasedRule.Addresses = transport == .local ? .all : try readAddresses()
        let method = try readMethod()
        if method == .certificate, transport != .hostssl {
            throw problem("cert authentication is only supported on hostssl connections")
        }
        var rule = HostBasedRule(
            line: line.number,
            transport: transport,
            databases: databases,
            users: users,
            addresses: addresses,
            method: method,
            clientCertificate: method == .certificate ? .verifyFull : nil
        )
        while next < line.fields.count {
            for option in line.fields[next] { try apply(option.text, to: &rule) }
            next += 1
        }
        return rule
    }

    // MARK: - Fields

    private func problem(_ message: String, remedy: String? = nil) -> HostBasedRuleProblem {
        HostBasedRuleProblem(line: line.number, message: message, remedy: remedy)
    }

    private mutating func field(_ missing: String) throws(HostBasedRuleProblem) -> [RuleToken] {
        guard next < line.fields.count else { throw problem(missing) }
        next += 1
        return line.fields[next - 1]
    }

    private mutating func single(
        missing: String,
        several: String,
        remedy: String
    ) throws(HostBasedRuleProblem) -> RuleToken {
        let words = try field(missing)
        guard words.count == 1 else { throw problem(several, remedy: remedy) }
        return words[0]
    }

    private mutating func readTransport() throws(HostBasedRuleProblem) -> HostBasedRule.Transport {
        let word = try single(
            missing: "end-of-line before connection type",
            several: "multiple values specified for connection type",
            remedy: "Write one connection type per line."
        )
        if let transport = HostBasedRule.Transport(rawValue: word.text) { return transport }
        switch word.text {
        case "hostgssenc":
            throw problem(
                "connection type \"hostgssenc\" is not supported: the endpoint knows no encryption by GSSAPI",
                remedy: "Write \"hostssl\", or leave the line out."
            )
        case "include", "include_if_exists", "include_dir":
            throw problem("\"\(word.text)\" is not supported", remedy: "Write the rules of that file here.")
        default:
            throw problem(
                "invalid connection type \"\(word.text)\"",
                remedy: "It is one of local, host, hostssl, hostnossl and hostnogssenc."
            )
        }
    }

    private func database(_ word: RuleToken) throws(HostBasedRuleProblem) -> HostBasedRule.DatabaseName {
        if word.isKeyword("all") { return .all }
        if word.isKeyword("sameuser") { return .sameUser }
        if word.isKeyword("replication") { return .replication }
        if word.isKeyword("samerole") || word.isKeyword("samegroup") {
            throw problem(
                "database \"\(word.text)\" is not supported: the endpoint does not know which roles are members of which",
                remedy: "Name the databases."
            )
        }
        return .named(try name(word, "database"))
    }

    private func user(_ word: RuleToken) throws(HostBasedRuleProblem) -> HostBasedRule.UserName {
        if word.isKeyword("all") { return .all }
        if !word.isQuoted, word.text.utf8.first == UInt8(ascii: "+") {
            throw problem(
                "user \"\(word.text)\" is not supported: the endpoint does not know which roles are members of which",
                remedy: "Name the users."
            )
        }
        return .named(try name(word, "user"))
    }

    private func name(_ word: RuleToken, _ kind: String) throws(HostBasedRuleProblem) -> String {
        if !word.isQuoted, word.text.utf8.first == UInt8(ascii: "@"), word.text.utf8.count > 1 {
            throw problem(
                "\(kind) \"\(word.text)\" is not supported: names are not read from other files",
                remedy: "Write the names here, separated by commas."
            )
        }
        // PostgreSQL 16 takes it for a regular expression, quoted or not; older versions for a name.
        if word.text.utf8.first == UInt8(ascii: "/") {
            throw problem(
                "\(kind) \"\(word.text)\" is not supported: names are not matched with regular expressions",
                remedy: "Name each \(kind), or write \"all\"."
            )
        }
        return word.text
    }

    // MARK: - Addresses

    private mutating func readAddresses() throws(HostBasedRuleProblem) -> HostBasedRule.Addresses {
        let word = try single(
            missing: "end-of-line before IP address specification",
            several: "multiple values specified for host address",
            remedy: "Write one address range per line."
        )
        if word.isKeyword("all") { return .all }
        if word.isKeyword("samehost") { return .sameHost }
        if word.isKeyword("samenet") { return .sameNetwork }
        let parts = word.text.utf8.split(separator: UInt8(ascii: "/"), maxSplits: 1, omittingEmptySubsequences: false)
        let text = String(decoding: parts[0], as: UTF8.self)
        guard let address = NetworkAddress(text) else {
            guard parts.count == 1 else {
                throw problem("specifying both host name and CIDR mask is invalid: \"\(word.text)\"")
            }
            guard !text.isEmpty, !text.contains(":") else { throw problem("invalid IP address \"\(text)\"") }
            throw problem(
                "host name \"\(text)\" is not supported: a login would wait for the name server",
                remedy: "Write an address with its mask, such as 192.0.2.7/32."
            )
        }
        let mask = parts.count == 2 ? try mask(ofLength: parts[1], address, word.text) : try readMask(address)
        return .range(AddressRange(address: address, mask: mask))
    }

    private func mask(
        ofLength digits: Substring.UTF8View,
        _ address: NetworkAddress,
        _ text: String
    ) throws(HostBasedRuleProblem) -> NetworkAddress {
        let isNumber = (1...3).contains(digits.count) && digits.allSatisfy { (0x30...0x39).contains($0) }
        guard isNumber, let length = Int(String(decoding: digits, as: UTF8.self)),
            let mask = NetworkAddress.mask(length: length, isIPv6: address.isIPv6)
        else {
            throw problem(
                "invalid CIDR mask in address \"\(text)\"",
                remedy: "Its length is between 0 and \(address.bitCount)."
            )
        }
        return mask
    }

    private mutating func readMask(_ address: NetworkAddress) throws(HostBasedRuleProblem) -> NetworkAddress {
        guard next < line.fields.count else {
            throw problem(
                "end-of-line before netmask specification",
                remedy: "Specify an address range in CIDR notation, or provide a separate netmask."
            )
        }
        let word = try single(missing: "", several: "multiple values specified for netmask", remedy: "Write one mask.")
        guard let mask = NetworkAddress(word.text) else {
            throw problem(
                "invalid IP mask \"\(word.text)\"",
                remedy: "Specify an address range in CIDR notation, or provide a separate netmask."
            )
        }
        guard mask.isIPv6 == address.isIPv6 else { throw problem("IP address and mask do not match") }
        return mask
    }

    // MARK: - Methods

    private mutating func readMethod() throws(HostBasedRuleProblem) -> HostBasedRule.Method {
        let word = try single(
            missing: "end-of-line before authentication method",
            several: "multiple values specified for authentication type",
            remedy: "Write one authentication method per line."
        )
        if let method = HostBasedRule.Method(rawValue: word.text) { return method }
        let methods = HostBasedRule.Method.allCases.map(\.rawValue).joined(separator: ", ")
        switch word.text {
        case "bsd", "gss", "ident", "ldap", "pam", "peer", "radius", "sspi", "oauth":
            throw problem(
                "authentication method \"\(word.text)\" is not supported",
                remedy: "The endpoint knows \(methods)."
            )
        default:
            throw problem("invalid authentication method \"\(word.text)\"", remedy: "The endpoint knows \(methods).")
        }
    }

    private func apply(_ option: String, to rule: inout HostBasedRule) throws(HostBasedRuleProblem) {
        let parts = option.utf8.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
        guard parts.count == 2 else {
            throw problem("authentication option not in name=value format: \(option)")
        }
        switch parts[0] {
        case "clientcert":
            guard rule.transport == .hostssl else {
                throw problem("clientcert can only be configured for \"hostssl\" rows")
            }
            guard let kind = HostBasedRule.ClientCertificate(rawValue: parts[1]) else {
                throw problem(
                    "invalid value for clientcert: \"\(parts[1])\"",
                    remedy: "It is verify-ca or verify-full."
                )
            }
            if rule.method == .certificate, kind == .verifyAuthority {
                throw problem("clientcert only accepts \"verify-full\" when using \"cert\" authentication")
            }
            rule.clientCertificate = kind
        case "map":
            throw problem(
                "option \"map\" is not supported",
                remedy: "The name in a certificate must be the user's."
            )
        case "clientname":
            guard parts[1] == "CN" else {
                throw problem(
                    "option \"clientname=\(parts[1])\" is not supported",
                    remedy: "The certificate's common name (CN) is compared with the user's."
                )
            }
            guard rule.transport == .hostssl else {
                throw problem("clientname can only be configured for \"hostssl\" rows")
            }
        default:
            throw problem("unrecognized authentication option name: \"\(parts[0])\"")
        }
    }
}
