import Dispatch
import Foundation
import Monitor
import Testing

/// A cluster of a test's own, served by the program that was built with the test.
struct LiveCluster: Sendable {
    struct Outcome: Sendable {
        var status: Int32
        var output: String
        var error: String
    }

    struct TimedOut: Error, CustomStringConvertible {
        var description: String
    }

    let directory: String
    /// What `up` said.
    fileprivate(set) var announcement = ""

    /// Runs one command on the cluster to its end.
    func run(_ command: String, _ arguments: String...) async throws -> Outcome {
        try await run([command, "--dir", directory] + arguments)
    }

    private func run(_ arguments: [String]) async throws -> Outcome {
        let process = Process()
        process.executableURL = Self.program
        process.arguments = arguments
        let (output, error) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = error
        try process.run()
        async let said = Self.read(output)
        async let complained = Self.read(error)
        let (outputText, errorText) = await (said, complained)
        process.waitUntilExit()
        return Outcome(status: process.terminationStatus, output: outputText, error: errorText)
    }

    private static let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appending(path: "slipstream")

    private static func read(_ pipe: Pipe) async -> String {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                let data = (try? pipe.fileHandleForReading.readToEnd()) ?? Data()
                continuation.resume(returning: String(decoding: data, as: UTF8.self))
            }
        }
    }

    /// Waits until the status is as wanted.
    func status(until isWanted: (ClusterStatus) -> Bool) async throws -> ClusterStatus {
        let limit = ContinuousClock.now + .seconds(30)
        var last: ClusterStatus?
        while ContinuousClock.now < limit {
            if let data = FileManager.default.contents(atPath: directory + "/status.json") {
                let status = try ClusterStatus(json: data)
                if isWanted(status) { return status }
                last = status
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw TimedOut(description: "the status is still \(String(describing: last))")
    }

    func postmaster(of node: String) throws -> Int32 {
        let file = try String(contentsOfFile: "\(directory)/nodes/\(node)/data/postmaster.pid", encoding: .utf8)
        return try #require(file.split(separator: "\n").first.flatMap { Int32($0) })
    }

    func children(of process: Int32) -> [Int32] {
        let path = "/proc/\(process)/task/\(process)/children"
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return text.split(whereSeparator: \.isWhitespace).compactMap { Int32($0) }
    }
}

/// Serves a new cluster for the time of `body`, and leaves nothing behind.
func withLiveCluster(_ body: (LiveCluster) async throws -> Void) async throws {
    let directory = "/tmp/slipstream-live-test-\(UInt32.random(in: 0 ... .max))"
    var cluster = LiveCluster(directory: directory)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let started = try await cluster.run("up", "--detach", "--port", "0", "--http-port", "0")
    try #require(started.status == 0, "\(started.error)")
    cluster.announcement = started.output + started.error
    do {
        try await body(cluster)
    } catch {
        _ = try await cluster.run("down")
        throw error
    }
    let stopped = try await cluster.run("down")
    #expect(stopped.status == 0, "\(stopped.error)")
    #expect(try await cluster.run("down").status == 1)
    #expect(try await cluster.run("status").status == 2)
}
