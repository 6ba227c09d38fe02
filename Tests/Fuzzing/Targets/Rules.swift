import HostBasedAuthentication

extension FuzzTarget {
    /// The rules of `pg_hba.conf`.
    static let hostBasedRules = FuzzTarget(name: "host-based-rules", seeds: files.map { [0] + Array($0.utf8) }) {
        (input) throws(Violation) in
        let text = String(decoding: input.dropFirst(), as: UTF8.self)
        let (rules, problems) = HostBasedRules.parse(text)
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let numbers = rules.rules.map(\.line) + problems.map(\.line)
        try require(Set(numbers).count == numbers.count, "a line is read twice")
        for number in numbers { try require((1...lines.count).contains(number), "line \(number) of \(lines.count)") }
        try checkAddresses(rules)
        for attempt in attempts {
            guard let rule = rules.first(matching: attempt, networks: { [] }) else { continue }
            try require(rules.rules.contains(rule), "a rule that is not there decides")
            try require(
                (attempt.address == nil) == (rule.transport == .local),
                "a rule for another kind of connection decides"
            )
        }

        // What is in one line says nothing of the others.
        guard lines.count > 1, !lines.contains(where: { isContinued($0) }) else { return }
        var alone: [HostBasedRule] = []
        for (index, line) in lines.enumerated() {
            alone += HostBasedRules.parse(String(decoding: line, as: UTF8.self)).rules.rules.map {
                var rule = $0
                rule.line += index
                return rule
            }
        }
        try require(alone == rules.rules, "line by line the rules are \(alone), not \(rules.rules)")
    }

    private static func isContinued(_ line: Substring.UTF8View) -> Bool {
        var line = line
        while line.last == UInt8(ascii: "\r") { line.removeLast() }
        return line.last == UInt8(ascii: "\\")
    }

    private static func checkAddresses(_ rules: HostBasedRules) throws(Violation) {
        for rule in rules.rules {
            guard case .range(let range) = rule.addresses else { continue }
            try require(range.contains(range.address), "\(range) does not contain its own address")
            try require(
                NetworkAddress(range.address.description) == range.address,
                "\(range.address) is read as something else"
            )
            try require(range.address.isIPv6 == range.mask.isIPv6, "\(range) is of two kinds")
        }
    }

    private static let attempts: [HostBasedRules.Attempt] = [nil, "127.0.0.1", "::1", "192.0.2.7"].flatMap { host in
        [false, true].map { isEncrypted in
            HostBasedRules.Attempt(
                address: host.flatMap { NetworkAddress($0) },
                isEncrypted: isEncrypted,
                database: "shop",
                user: "ann"
            )
        }
    }

    private static let files = [
        "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 md5\n",
        "hostssl shop,\"a b\" ann, bob 192.0.2.0 255.255.255.0 cert clientcert=verify-full clientname=CN # comment\r\n",
        "hostnossl sameuser \"all\" samenet reject\nhostnogssenc replication all samehost password\\\n\n",
        "host all +group name.example password\nhost @file /x 1.2.3.4/33 ldap a=b\ninclude x\nhostgssenc",
        "host all all ::ffff:1.2.3.4 ffff:ffff:: md5 map=x\n\"local\" \"\"\"\" , , all trust x",
    ]
}
