import PostgresWire
import ProxyCore
import Testing

struct ReportedParametersTests {
    @Test("what a server has reported is told to a client that was told nothing, in order")
    func messages() {
        let reported = parameters(("server_version", "15.4"), ("TimeZone", "UTC"))
        #expect(reported.messages(for: .none) == status("server_version", "15.4") + status("TimeZone", "UTC"))
        #expect(reported.messages(for: reported).isEmpty)
        #expect(ReportedParameters.none.messages(for: reported).isEmpty)
    }

    @Test("only what differs from what a client was told is told again")
    func differences() {
        let told = parameters(("a", "1"), ("b", "2"), ("c", "3"))
        let reported = parameters(("a", "1"), ("b", "5"), ("d", "4"))
        #expect(reported.messages(for: told) == status("b", "5") + status("d", "4"))
    }

    @Test("the last report of a name counts, in its first place; the same again changes nothing")
    func again() {
        let reported = parameters(("a", "1"), ("b", "2"))
        #expect(reported.reporting(status("a", "1").span.bytes) === reported)
        let changed = reported.reporting(status("a", "3").span.bytes)
        #expect(!changed.equals(reported))
        #expect(changed.messages(for: .none) == status("a", "3") + status("b", "2"))
        #expect(changed.reporting(status("a", "1").span.bytes).equals(reported))
    }

    @Test("clients talk to an endpoint that writes: in_hot_standby is off", arguments: ["on", "off", ""])
    func inHotStandby(value: String) {
        let reported = parameters(("in_hot_standby", value))
        #expect(reported.messages(for: .none) == status("in_hot_standby", "off"))
        #expect(reported.reporting(status("in_hot_standby", "on").span.bytes) === reported)
    }

    @Test(
        "in encodings that only clients may use the bytes of the text tell nothing",
        arguments: [
            ("UTF8", true), ("SQL_ASCII", true), ("LATIN1", true), ("EUC_JP", true), ("", true), ("SJIS", false),
            ("BIG5", false), ("GBK", false), ("UHC", false), ("GB18030", false), ("JOHAB", false),
            ("SHIFT_JIS_2004", false), ("sjis", false),
        ]
    )
    func encodings(name: String, isSafe: Bool) {
        #expect(parameters(("client_encoding", name)).hasASCIISafeEncoding == isSafe)
        #expect(parameters(("client_encoding", name), ("client_encoding", "UTF8")).hasASCIISafeEncoding)
        #expect(ReportedParameters.none.hasASCIISafeEncoding)
    }

    @Test("a malformed report is passed over", arguments: [[], [0], [0x61], [0x61, 0], [0x61, 0, 0x62]] as [[UInt8]])
    func malformed(body: [UInt8]) {
        let reported = parameters(("a", "1"))
        #expect(reported.reporting(Backend.message(.parameterStatus, body).span.bytes) === reported)
    }

    @Test("a client's name for itself is told to it as its own")
    func applicationName() {
        let reported = parameters(("application_name", "slipstream"))
        let startup = StartupMessage(parameters: [.init(name: "application_name", value: Array("x".utf8))])
        #expect(
            reported.reporting(applicationName: startup.applicationName).messages(for: .none)
                == status("application_name", "x")
        )
        #expect(reported.reporting(applicationName: nil) === reported)
        #expect(
            reported.reporting(applicationName: StartupMessage(user: "ann", database: "d").applicationName) === reported
        )
    }
}

private func status(_ name: String, _ value: String) -> [UInt8] {
    Backend.message(.parameterStatus, string(name) + string(value))
}

private func parameters(_ reports: (String, String)...) -> ReportedParameters {
    reports.reduce(.none) { $0.reporting(status($1.0, $1.1).span.bytes) }
}
