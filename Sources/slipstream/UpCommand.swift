import ArgumentParser
import ConfigurationFile
import FoundationEssentials
import Glibc
import Logging
import Proxy
import ProxyCore
import Replication
import Topology

/// `slipstream up`: makes or resumes a cluster and serves it.
struct UpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Make or resume a cluster, and serve it until Ctrl-C.",
        discussion: """
            The first time, a primary is made and the standbys are cloned from it; later, what is there is started \
            again. Data survives. A directory left half-made is completed.
            """
    )

    @OptionGroup var location: DirectoryOption

    @Option(
        name: [.customShort("c"), .long],
        help: ArgumentHelp(
            "Configuration; \"slipstream config example\" prints one. Other options win over it.",
            valueName: "file"
        ),
        completion: .file()
    )
    var config: String?

    @Option(help: "Port of the endpoint; 0 chooses a free one. (default: 6432)")
    var port: UInt16?

    @Option(help: "Port of the dashboard on 127.0.0.1; 0 chooses a free one.")
    var httpPort: UInt16 = 8008

    @Option(help: "How many standbys; an existing cluster can grow. (default: 2, or as many as there are)")
    var standbys: Int?

    @Option(
        help: ArgumentHelp(
            "Shares of the reads, the primary's first. (default: 1 for the primary, 2 for each standby, or as before)",
            valueName: "n,n,…"
        )
    )
    var weights: Weights?

    @Option(help: ArgumentHelp("Where PostgreSQL's programs are.", valueName: "dir"), completion: .directory)
    var bindir: String?

    @Option(help: "Threads that move the bytes. (default: one per core)")
    var workers: Int?

    @Option(help: "How they move: io_uring, epoll, or whichever works best. (default: auto)")
    var io: IOBackend?

    @OptionGroup(title: "TLS") var tls: TLSOptions

    @Flag(help: "Return when the endpoint serves, and leave it running.")
    var detach = false

    @Flag(name: .shortAndLong, help: "Say nothing but errors.")
    var quiet = false

    /// The descriptor on which a detached Slipstream tells the command that started it how it goes.
    @Option(help: .private)
    var reportDescriptor: Int32?

    func validate() throws {
        if let standbys, !(0...64).contains(standbys) {
            throw ValidationError("--standbys must be between 0 and 64.")
        }
        if let workers, !(1...1024).contains(workers) {
            throw ValidationError("--workers must be between 1 and 1024.")
        }
        if let standbys, let weights, weights.values.count != standbys + 1 {
            throw ValidationError("--weights must name \(standbys + 1) weights: one per node, the primary's first.")
        }
    }

    func run() async throws {
        let directory = location.directory
        let settings = try config.map { try SettingsFile.read($0) } ?? Settings()
        if let holder = LockHolder.processIdentifier(of: directory) {
            throw CommandFailure(
                "\"\(directory.path)\" is in use by another slipstream (pid \(holder))",
                remedy: "Stop it with \"slipstream down --dir \(directory.path)\", or name another directory."
            )
        }
        let options = ClusterOptions(
            standbys: standbys,
            weights: weights?.values ?? [],
            binaryDirectory: bindir,
            executable: try Executable.path()
        )
        let nodes = options.nodeNames(of: try? directory.readDescription())
        let maxLags = try SettingsFile.maxLags(settings, from: config, ofNodes: nodes)
        if detach {
            try await Detached.launch(directory: directory, quiet: quiet)
        } else {
            try await serve(directory, options, settings, maxLags)
        }
    }

    private func serve(
        _ directory: ClusterDirectory,
        _ options: ClusterOptions,
        _ settings: Settings,
        _ maxLags: [MaxLag]
    ) async throws {
        // A client, or the terminal, that went away is an error of write(2), not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        let transportSecurity = tls.configuration(over: settings)
        try transportSecurity.check()
        let port = try Self.port(port ?? settings.listenPort ?? 6432, on: settings.listenAddresses)
        let httpPort = try LoopbackPort.free(httpPort, option: "--http-port")
        let reporter = reportDescriptor.map { Detached.Reporter(descriptor: $0) }
        let logFile = LogFile(path: directory.logFile, once: directory.lockFile)
        let sink: LogSink = reporter == nil ? .standardError : .file(logFile)
        let isQuiet = quiet
        let logger = Logger(label: "slipstream") { _ in
            var handler = HumanLogHandler(sink: sink)
            // On a terminal the progress lines tell the rest.
            handler.logLevel = reporter != nil ? .info : isQuiet ? .error : .warning
            return handler
        }

        var endpoint = EndpointConfiguration(
            port: port,
            workers: workers ?? settings.workers ?? ProcessInfo.processInfo.activeProcessorCount
        )
        // The name of a Unix-domain socket has at most 107 bytes (unix(7)).
        if directory.path.utf8.count + "/.s.PGSQL.65535".utf8.count <= 107 { endpoint.socketDirectory = directory.path }
        endpoint.apply(settings)
        endpoint.transportSecurity = transportSecurity
        if let io { endpoint.backend = io }
        let server = ClusterServer(
            directory: directory,
            options: options,
            endpoint: endpoint,
            maxLags: maxLags,
            httpPort: httpPort,
            logger: logger
        )
        try await server.run { sentence in
            if !isQuiet { Console.note(sentence) }
        } whenServing: { status in
            if let reporter {
                reporter.ready(logFile: logFile.open())
            } else if !isQuiet {
                Console.print(UpSummary.text(status, directory: directory, isDetached: false))
            }
        }
    }
}

extension UpCommand {
    /// The port of the endpoint. An address that is not this host's own finds out when it is bound.
    private static func port(_ port: UInt16, on addresses: [String]?) throws -> UInt16 {
        let isLoopback = (addresses ?? ["127.0.0.1"]).contains {
            ["127.0.0.1", "localhost", "0.0.0.0", "*"].contains($0)
        }
        return port == 0 || isLoopback ? try LoopbackPort.free(port, option: "--port") : port
    }
}

extension IOBackend: ExpressibleByArgument {}

/// `1,2,2`.
struct Weights: ExpressibleByArgument {
    var values: [Int]

    init?(argument: String) {
        values = []
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let weight = Int(part), (0...1_000_000).contains(weight) else { return nil }
            values.append(weight)
        }
    }
}

/// This program.
enum Executable {
    static func path() throws -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        guard count > 0 else { throw CommandFailure("cannot tell where this program is: /proc is not mounted") }
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
