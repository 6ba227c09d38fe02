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
}

extension StartupMessage {
    /// The settings a session begins with on a connection of its profile.
    package var settings: SessionSettings {
        guard let name = parameters.last(where: { $0.name == "application_name" })?.value, !name.isEmpty else {
            return .none
        }
        return SessionSettings.none.setting(
            "application_name",
            by: Array("SET application_name TO ".utf8) + SessionSettings.literal(name)
        )
    }
}

extension ReportedParameters {
    /// With the name that the client has given itself.
    package func reporting(applicationNameOf startup: StartupMessage?) -> ReportedParameters {
        guard let name = startup?.parameters.last(where: { $0.name == "application_name" })?.value else { return self }
        return reporting(Array("application_name".utf8), name)
    }
}
