import Foundation
import Testing

/// What a program did.
struct Outcome: Sendable {
    /// Exit status; negative for the signal that ended it.
    var status: Int32
    var output: String
    var errors: String

    /// For failure messages.
    var text: String { "status \(status)\n\(output)\n\(errors)" }
}

/// A program under way. What it writes goes to files, so that it never waits for its reader.
///
/// It may find signals blocked, as they are on the thread it is started from: `pgbench --time` would wait for its alarm in
/// vain.
final class RunningProgram: Sendable {
    let processIdentifier: pid_t
    private let directory: URL
    private let ending: Task<Int32, Never>

    /// - Parameters:
    ///   - path: Absolute, or a name to look for in PATH.
    ///   - environment: Added to this process's.
    ///   - deadline: A program that hangs is killed then, and so fails; far more than any needs.
    init(
        _ path: String,
        _ arguments: [String],
        environment: [String: String] = [:],
        input: String? = nil,
        deadline: Duration = .seconds(300)
    ) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "slipstream-run-\(UUID().uuidString)")
        self.directory = directory
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        func file(_ name: String, _ text: String = "") throws -> FileHandle {
            let url = directory.appending(path: name)
            try Data(text.utf8).write(to: url)
            return try FileHandle(forUpdating: url)
        }
        let process = Process()
        process.executableURL = URL(filePath: path.hasPrefix("/") ? path : "/usr/bin/env")
        process.arguments = path.hasPrefix("/") ? arguments : [path] + arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, new in new }
        process.standardInput = try file("input", input ?? "")
        process.standardOutput = try file("output")
        process.standardError = try file("errors")
        let (ended, continuation) = AsyncStream.makeStream(of: Int32.self)
        process.terminationHandler = { process in
            let status = process.terminationStatus
            continuation.yield(process.terminationReason == .exit ? status : -status)
            continuation.finish()
        }
        try process.run()
        let child = process.processIdentifier
        processIdentifier = child
        ending = Task {
            let watchdog = Task {
                try await Task.sleep(for: deadline)
                kill(child, SIGKILL)
            }
            defer { watchdog.cancel() }
            for await status in ended { return status }
            return -1
        }
    }

    deinit {
        try? FileManager.default.removeItem(at: directory)
    }

    var hasOutput: Bool { !text("output").isEmpty }

    /// What it has written so far, or all of it.
    func text(_ name: String) -> String {
        (try? String(decoding: Data(contentsOf: directory.appending(path: name)), as: UTF8.self)) ?? ""
    }

    func wait() async -> Outcome {
        let status = await ending.value
        return Outcome(status: status, output: text("output"), errors: text("errors"))
    }
}

/// Runs a program to its end.
func run(
    _ path: String,
    _ arguments: [String],
    environment: [String: String] = [:],
    input: String? = nil
) async throws -> Outcome {
    try await RunningProgram(path, arguments, environment: environment, input: input).wait()
}

/// Polls until a condition holds. Errors count as "not yet": servers come and go here.
func eventually(
    _ what: Comment,
    within timeout: Duration = .seconds(60),
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async {
    let deadline = ContinuousClock.now + timeout
    while ContinuousClock.now < deadline {
        if (try? await condition()) == true { return }
        try? await Task.sleep(for: .milliseconds(20))
    }
    Issue.record(what, sourceLocation: sourceLocation)
}

/// The repository, for what is neither built nor bundled.
enum Repository {
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
    static let clients = root + "/Tests/EndpointTests/Clients"
    /// Has what `Clients/requirements.txt` names; made by `script/test`.
    static let python = root + "/.build-clients/bin/python3"

    /// The program that was built with these tests, which lies beside them.
    static let slipstream: String = {
        let test = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return URL(filePath: test).deletingLastPathComponent().path + "/slipstream"
    }()
}
