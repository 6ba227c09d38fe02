package import PostgresWire
import QueryAnalysis

/// What a client asked for in its startup packet, as far as its server connections are opened with it.
///
/// Settings given there are those that RESET goes back to, and no SET can make them so: connections are shared only among
/// sessions that asked for the same. `application_name` differs most, and means least to the server: it is set like any
/// setting.
package struct StartupProfile: Sendable, Hashable {
    /// The packet for the server.
    package let packet: [UInt8]

    package init(_ startup: StartupMessage, database: String) {
        var message = StartupMessage(user: startup["user"] ?? "", database: database)
        message.parameters += startup.parameters.filter {
            $0.name != "user" && $0.name != "database" && $0.name != "application_name" && $0.name != "replication"
        }
        packet = message.packet
    }

    /// Whether it may choose the isolation level of transactions, as a parameter or within `options`, where a hyphen stands
    /// for an underscore as well.
    package var choosesIsolation: Bool {
        String(decoding: packet.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "_") : $0 }, as: UTF8.self)
            .lowercased().contains("transaction_isolation")
    }
}

extension StartupMessage {
    /// Takes out the settings that are the endpoint's own, as parameters or among the command-line options, without
    /// `slipstream.`, in order.
    package mutating func takeEndpointSettings() -> [(name: String, value: String)] {
        var taken: [(name: String, value: String)] = []
        for index in parameters.indices where parameters[index].name == "options" {
            parameters[index].value = Self.takeEndpointSettings(from: parameters[index].value, into: &taken)
        }
        parameters.removeAll { parameter in
            guard let name = Self.endpointSetting(parameter.name) else { return false }
            taken.append((name, String(decoding: parameter.value, as: UTF8.self)))
            return true
        }
        return taken
    }

    private static func endpointSetting(_ name: some StringProtocol) -> String? {
        let folded = SettingNames.folded(String(name))
        guard folded.utf8.starts(with: EndpointCommand.prefix.utf8) else { return nil }
        return String(folded.dropFirst(EndpointCommand.prefix.count))
    }

    /// Words are separated by space; a backslash makes the next character an ordinary one. `-c name=value` and
    /// `--name=value` make settings. Source: PostgreSQL's `pg_split_opts` and `process_postgres_switches`.
    private static func takeEndpointSettings(
        from options: [UInt8],
        into taken: inout [(name: String, value: String)]
    ) -> [UInt8] {
        var words: [(text: [UInt8], raw: ArraySlice<UInt8>)] = []
        var index = 0
        while index < options.count {
            let start = index
            var text: [UInt8] = []
            while index < options.count, !isSpace(options[index]) {
                if options[index] == UInt8(ascii: "\\"), index + 1 < options.count { index += 1 }
                text.append(options[index])
                index += 1
            }
            if index > start { words.append((text, options[start..<index])) }
            index += 1
        }
        var kept: [ArraySlice<UInt8>] = []
        var rest = words[...]
        while let word = rest.popFirst() {
            let isSwitch = word.text.elementsEqual("-c".utf8)
            var setting = String(decoding: isSwitch ? rest.first?.text ?? [] : word.text, as: UTF8.self)
            if !isSwitch {
                guard setting.hasPrefix("-c") || setting.hasPrefix("--") else {
                    kept.append(word.raw)
                    continue
                }
                setting.removeFirst(2)
            }
            let parts = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            // In a switch a dash stands for an underscore.
            guard parts.count == 2, let name = endpointSetting(parts[0].replacing("-", with: "_")) else {
                kept.append(word.raw)
                continue
            }
            taken.append((name, String(parts[1])))
            if isSwitch { _ = rest.popFirst() }
        }
        return Array(kept.joined(separator: [UInt8(ascii: " ")]))
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte &- 9 < 5 }

    /// The name that the client gives itself.
    package var applicationName: [UInt8]? {
        parameters.last { $0.name == "application_name" }?.value
    }

    /// The settings a session begins with on a connection of its profile.
    package var settings: SessionSettings {
        guard let applicationName, !applicationName.isEmpty else { return .none }
        return SessionSettings.none.setting(
            "application_name",
            by: Array("SET application_name TO ".utf8) + SessionSettings.literal(applicationName)
        )
    }
}

extension ReportedParameters {
    package func reporting(applicationName: [UInt8]?) -> ReportedParameters {
        guard let applicationName else { return self }
        return reporting(Array("application_name".utf8), applicationName)
    }
}
