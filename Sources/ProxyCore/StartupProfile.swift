package import PostgresWire

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
