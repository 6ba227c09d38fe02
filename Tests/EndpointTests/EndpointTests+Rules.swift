import Foundation
import HostBasedAuthentication
import PostgresClient
import TestSupport
import Testing

/// The rules of `pg_hba.conf`, beside what PostgreSQL makes of the same lines.
extension EndpointTests {
    @Test(arguments: Backend.allCases) func loginMethods(_ backend: Backend) async throws {
        let cluster = try await Clusters.configured(
            backend,
            """
            listen_addr: localhost
            max_unauthenticated: 4
            users:
              trusted:
                password: pass wörd ½Ⅸ é
            hba: |
              local   all  trusted                             trust
              local   all  all                                 reject
              host    all  banned                all           reject
              host    all  trusted,trusted_bare  127.0.0.1/32  trust
              host    all  trusted_hash          127.0.0.1/32  trust
              host    all  clear,clear_hash      samehost      password
              host    all  prepared              all           password
              host    all  clear_nobody          all           password
              host    app  only_app              127.0.0.1/32  scram-sha-256
              host    all  elsewhere             192.0.2.0/24  trust
              host    all  elsewhere             ::1/128       md5
              host    all  modern                127.0.0.1/32  scram-sha-256
              host    all  app,postgres          all           md5
              host    all  hashed,nobody         all           md5
            """
        )
        try await cluster.python("login_methods")
    }

    @Test func aConfigurationIsCheckedBeforeAnythingIsMade() async throws {
        let scratch = FileManager.default.temporaryDirectory.appending(path: "slipstream-config-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: scratch) }
        let file = scratch.path + "/slipstream.yaml"

        let example = try await run(Repository.slipstream, ["config", "example"])
        #expect(example.status == 0 && example.errors.isEmpty)
        try example.output.write(toFile: file, atomically: true, encoding: .utf8)
        let fine = try await run(Repository.slipstream, ["config", "check", file])
        #expect(fine.status == 0 && fine.output == "\(file): nothing is wrong\n", "\(fine.text)")

        try "pool_mod: session\nio: fast\n".write(toFile: file, atomically: true, encoding: .utf8)
        let expected = """
            \(file):1: pool_mod: unknown key. Did you mean "pool_mode"?
            \(file):2: io: "fast" is none of auto, uring and epoll

            """
        let wrong = try await run(Repository.slipstream, ["config", "check", file])
        #expect(wrong.status == 1 && wrong.output == expected && wrong.errors.isEmpty, "\(wrong.text)")
        for arguments in [[], ["--detach"]] {
            let up = try await run(
                Repository.slipstream,
                ["up", "--dir", scratch.path + "/cluster", "-c", file] + arguments
            )
            #expect(up.status == 1 && up.errors.contains(expected.dropLast()), "\(up.text)")
            #expect(!FileManager.default.fileExists(atPath: scratch.path + "/cluster"))
        }
        let missing = try await run(Repository.slipstream, ["config", "check", scratch.path + "/none.yaml"])
        #expect(missing.status == 1)
        #expect(missing.output.contains("none.yaml: it cannot be read: No such file or directory"), "\(missing.text)")
    }

    @Test func rulesAreReadAsByPostgreSQL() async throws {
        let cluster = try await Clusters.cluster(.epoll)
        var random = SeededGenerator()
        let lines = ruleCorpus + (0..<1_500).map { _ in randomRule(&random) }
        let file = cluster.directory + "/nodes/primary/data/pg_hba.conf"
        let before = try String(contentsOfFile: file, encoding: .utf8)
        // The view reads the file anew; nothing takes effect, for nobody reloads.
        let handle = try FileHandle(forUpdating: URL(filePath: file))
        defer {
            try? handle.truncate(atOffset: 0)
            try? handle.seek(toOffset: 0)
            try? handle.write(contentsOf: Data(before.utf8))
            try? handle.close()
        }
        try handle.truncate(atOffset: 0)
        try handle.write(contentsOf: Data((lines.joined(separator: "\n") + "\n").utf8))
        let rows = try await cluster.query(
            "primary",
            """
            SELECT line_number, error, type, database::text, user_name::text, address, netmask, auth_method
            FROM pg_hba_file_rules ORDER BY line_number
            """
        )
        let theirs = Dictionary(grouping: rows) { Int($0[0] ?? "") ?? 0 }
        let (rules, problems) = HostBasedRules.parse(lines.joined(separator: "\n"))
        let ours = Dictionary(grouping: rules.rules, by: \.line)
        let refusals = Dictionary(grouping: problems, by: \.line)
        var compared = 0
        for (index, line) in lines.enumerated() {
            let comment = Comment("seed \(random.seed): \(line.debugDescription)")
            let row = theirs[index + 1]?.first
            let isRule = row.map { $0[2] != nil } ?? false
            switch (ours[index + 1]?.first, refusals[index + 1]?.first) {
            case (nil, nil):
                #expect(row == nil, comment)
            case (let rule?, nil):
                compared += 1
                // "record cannot match" may be said besides: it is true of that server, and no fault of the line.
                #expect(isRule && describe(rule) == (2..<8).map { row?[$0] }, comment)
            case (_, let problem?) where isRule:
                #expect(stricter.contains(line) || problem.message.contains("not supported"), comment)
            case (_, let problem?):
                compared += 1
                // Where the endpoint does less it may say that; of a bad "clientcert" the view does not tell, and behind a
                // bad mask it has the resolver's words.
                let isSame =
                    row?[1]?.hasPrefix(problem.message) == true || problem.message.contains("clientcert")
                #expect(isSame || problem.message.contains("not supported"), "\(row?[1] ?? "") \(comment)")
            }
        }
        #expect(compared > 200)
    }

    /// As the view shows it.
    private func describe(_ rule: HostBasedRule) -> [String?] {
        func array(_ names: [String]) -> String {
            let quoted = names.map { name in
                let isPlain = !name.isEmpty && !name.contains { "{},\"\\ \t".contains($0) }
                let escaped = name.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
                return isPlain && name.lowercased() != "null" ? name : "\"\(escaped)\""
            }
            return "{\(quoted.joined(separator: ","))}"
        }
        let databases = rule.databases.map { database in
            switch database {
            case .all: "all"
            case .sameUser: "sameuser"
            case .replication: "replication"
            case .named(let name): name
            }
        }
        let users = rule.users.map { user in
            switch user {
            case .all: "all"
            case .named(let name): name
            }
        }
        let (address, mask): (String?, String?) =
            switch rule.addresses {
            case .all: (rule.transport == .local ? nil : "all", nil)
            case .sameHost: ("samehost", nil)
            case .sameNetwork: ("samenet", nil)
            case .range(let range): (range.address.description, range.mask.description)
            }
        return [rule.transport.rawValue, array(databases), array(users), address, mask, rule.method.rawValue]
    }
}

/// What `getaddrinfo` takes for addresses, and nobody should write.
private let stricter: Set = [
    "host all all 1.2.3/8 md5", "host all all fe80::1%lo/64 md5", "host all all 1.2.3.4 255.255.255 md5",
]

private let ruleCorpus = [
    "local all all trust", "local   all\tall   md5", "host all all 127.0.0.1/32 scram-sha-256",
    "host all all ::1/128 password", "host all all 10.0.0.0 255.0.0.0 reject", "hostssl all all all md5",
    "hostnossl sameuser all samenet md5", "hostnogssenc all all samehost md5", "local a,b,c d,e md5",
    "local \"a b\" \"c\"\"d\" md5", "local \"all\" \"sameuser\" md5", "local replication all trust",
    "local a, b c, d md5",
    "local a ,b c md5", "local , a b md5", "local \"\" b md5", "local a\"b\"c d md5", "local a#b c md5",
    "local \"a#b\" c md5", "host all all 1.2.3.4 md5", "host all all 1.2.3.4/33 md5", "host all all 1.2.3.4/-1 md5",
    "host all all 1.2.3.4/08 md5", "host all all 1.2.3.4/ md5", "host all all 1.2.3/8 md5", "host all all ::/0 md5",
    "host all all ::1 ffff:: md5", "host all all 1.2.3.4 ffff:: md5", "host all all fe80::1%lo/64 md5",
    "host all all example.org md5", "host all all example.org/8 md5", "host all all \"all\" md5",
    "host all all ALL md5",
    "LOCAL all all md5", "\"local\" all all md5", "local all all \"md5\"", "local all all MD5", "local all all md5 x=y",
    "local all all md5 x", "hostssl all all all cert", "host all all all cert",
    "hostssl all all all md5 clientcert=no-verify",
    "hostssl all all all md5 clientcert=verify-ca", "hostssl all all all cert clientcert=verify-full",
    "local all all peer", "local all all ident", "host all all all gss", "local all all", "local all", "local",
    "host all all", "# only a comment", "", "   ", "local all all trust # comment", "local all +group md5",
    "local samerole all md5", "local samegroup all md5", "local all all md5,trust", "local,host all all md5",
    "host all all all,samenet md5", "hostgssenc all all all md5", "local \\ all md5", "local all all md5 a=b c=d",
    "host all all 0.0.0.0/0 trust", "host all all 1.2.3.4/32,5.6.7.8/32 md5", "host all all 300.1.1.1/8 md5",
    "host all all 1.2.3.4 255.255.255 md5", "host all all ::ffff:1.2.3.4/128 md5", "local null NULL md5",
]

private func randomRule(_ random: inout SeededGenerator) -> String {
    func one(_ words: [String]) -> String { words.randomElement(using: &random) ?? "" }
    let blanks = [" ", "  ", "\t", " ", " "]
    var fields = [one(["local", "host", "hostssl", "hostnossl", "host", "remote", "\"host\""])]
    let names = [
        "all", "a", "b,c", "sameuser", "\"all\"", "\"x y\"", "a,\"b,c\"", "replication", "d,", "\"q\"\"q\"", "e#f",
        "\"#\"",
    ]
    fields += [one(names), one(names)]
    if fields[0] != "local" || Int.random(in: 0..<8, using: &random) == 0 {
        fields.append(
            one([
                "all", "samenet", "samehost", "1.2.3.4/8", "10.0.0.0/33", "::1/128", "fe80::/10", "1.2.3.4 255.0.0.0",
                "1.2.3.4", "::1 ffff::", "1.2.3.4 ::", "0.0.0.0/0", "1.2.3.4/x", "\"all\"",
            ])
        )
    }
    fields.append(one(["md5", "trust", "reject", "password", "scram-sha-256", "md5", "cert", "nothing", "\"md5\""]))
    if Int.random(in: 0..<6, using: &random) == 0 {
        fields.append(one(["a=b", "word", "clientcert=verify-ca", "clientcert=x", "# comment", "#"]))
    }
    if Int.random(in: 0..<10, using: &random) == 0 { fields.removeLast() }
    return fields.reduce("") { $0 + one(blanks) + $1 }
}
