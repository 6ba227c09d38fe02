import Glibc
import Subprocess
import SystemPackage

/// Runs PostgreSQL's programs as the servers' user, in a session of their own: a Ctrl-C at the terminal is for Slipstream,
/// which then ends them in the right order.
struct Program: Sendable {
    var path: String
    var user: ServerUser
    /// Some programs complain, and some fail, in a directory that their user may not read.
    var workingDirectory = "/"

    struct Outcome: Sendable {
        var succeeded: Bool
        var status: String
        /// stdout and stderr, in the order in which they were written.
        var output: String
    }

    var name: String { String(path.split(separator: "/").last ?? "") }

    /// libpq and the server read many variables (`PGPORT`, `PGDATA`, `PGOPTIONS` …): a person's must not reach ours.
    static var environment: Environment {
        var changes: [Environment.Key: String?] = [:]
        var entry = environ
        while let variable = entry.pointee {
            let name = String(cString: variable).prefix { $0 != "=" }
            if name.hasPrefix("PG") || name.hasPrefix("LC_") || name == "LANGUAGE" {
                changes.updateValue(nil, forKey: Environment.Key(stringLiteral: String(name)))
            }
            entry += 1
        }
        changes["LANG"] = "C.UTF-8"
        return .inherit.updating(changes)
    }

    static func platformOptions(for user: ServerUser) -> PlatformOptions {
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [.send(signal: .terminate, allowedDurationToNextStep: .seconds(5))]
        return options
    }

    /// Runs the program to its end.
    ///
    /// - Parameters:
    ///   - holding: Stays locked for as long as the program runs, whatever becomes of us.
    ///   - onLine: Told what the program writes, a piece at a time: whole lines, or what stands between carriage returns.
    func run(
        _ arguments: [String],
        holding lock: MakerLock? = nil,
        onLine: (@Sendable (Substring) -> Void)? = nil
    ) async throws(ReplicationError) -> Outcome {
        let input = lock?.duplicate() ?? open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard input >= 0 else { throw FileSystem.failure("open", "/dev/null") }
        do {
            let result = try await Subprocess.run(
                .path(FilePath(user.executable(for: path))),
                arguments: Arguments(user.arguments(for: path, arguments)),
                environment: Program.environment,
                workingDirectory: FilePath(workingDirectory),
                platformOptions: Program.platformOptions(for: user),
                input: .fileDescriptor(FileDescriptor(rawValue: input), closeAfterSpawningProcess: true),
                output: .sequence,
                error: .combinedWithOutput
            ) { execution in
                try await Program.collect(execution.standardOutput, onLine: onLine)
            }
            return Outcome(
                succeeded: result.terminationStatus.isSuccess,
                status: result.terminationStatus.inWords,
                output: result.closureResult
            )
        } catch {
            throw ReplicationError(.toolFailed, "cannot run \"\(path)\": \(error)")
        }
    }

    /// Runs the program and takes anything but success for an error.
    @discardableResult
    func runOrThrow(
        _ arguments: [String],
        holding lock: MakerLock? = nil,
        onLine: (@Sendable (Substring) -> Void)? = nil
    ) async throws(ReplicationError) -> String {
        let outcome = try await run(arguments, holding: lock, onLine: onLine)
        guard outcome.succeeded else {
            let reason = outcome.output.split(whereSeparator: \.isNewline).suffix(12).joined(separator: "\n")
            throw ReplicationError(.toolFailed, "\(name): \(outcome.status)\n\(reason)")
        }
        return outcome.output
    }

    private static func collect(
        _ sequence: SubprocessOutputSequence,
        onLine: (@Sendable (Substring) -> Void)?
    ) async throws -> String {
        var bytes: [UInt8] = []
        var lineStart = 0
        for try await buffer in sequence {
            buffer.withUnsafeBytes { bytes.append(contentsOf: $0) }
            guard let onLine else { continue }
            while let end = bytes[lineStart...].firstIndex(where: { $0 == 0x0A || $0 == 0x0D }) {
                if end > lineStart { onLine(Substring(decoding: bytes[lineStart..<end], as: UTF8.self)) }
                lineStart = end + 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension TerminationStatus {
    /// For a person: `exited with 1`, `killed by signal 9`.
    var inWords: String {
        switch self {
        case .exited(let code): "exited with \(code)"
        case .signaled(let signal): "killed by signal \(signal) (\(String(cString: strsignal(signal))))"
        }
    }
}
