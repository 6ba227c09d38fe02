import Dispatch
import Glibc
import Replication
import UnixSignals

/// `up --detach`: starts this program again in a session of its own, and waits until that one serves or gives up.
///
/// Both are joined by a pipe, which is the standard output and error of the other until it serves: what it says on its
/// way is passed on, a byte 0 says that it serves, and the end of the pipe without one that it does not. From then
/// on it writes to `slipstream.log`.
enum Detached {
    /// The descriptor of the pipe's writing end in the other process.
    private static let descriptor: Int32 = 3

    /// The other process's end.
    struct Reporter: Sendable {
        let descriptor: Int32

        init(descriptor: Int32) {
            self.descriptor = descriptor
            // No terminal's Ctrl-C or hang-up from here on.
            setsid()
            // The servers must not inherit it: the pipe ends when this process does.
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        }

        /// Says that the endpoint serves, and lets go of the terminal.
        func ready(logFile: Int32) {
            var zero: UInt8 = 0
            _ = write(descriptor, &zero, 1)
            close(descriptor)
            let target = logFile >= 0 ? logFile : open("/dev/null", O_WRONLY | O_CLOEXEC)
            dup2(target, STDOUT_FILENO)
            dup2(target, STDERR_FILENO)
        }
    }

    static func launch(directory: ClusterDirectory, quiet: Bool) async throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            throw CommandFailure("cannot make a pipe: \(String(cString: strerror(errno)))")
        }
        keepDescriptorsFromChild()
        let child: pid_t
        do {
            defer { close(ends[1]) }
            child = try spawn(writeEnd: ends[1])
        } catch {
            close(ends[0])
            throw error
        }

        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let forwarding = Task {
            // The other one is in its own session: the terminal's Ctrl-C does not reach it.
            for await signal in signals { kill(child, signal.rawValue) }
        }
        defer { forwarding.cancel() }
        let serves = await listen(ends[0])
        close(ends[0])
        guard serves else {
            // It has said why.
            throw CommandFailure.silent(status: exitStatus(of: child))
        }
        if !quiet {
            let status = try StatusFile(directory: directory).current()
            Console.print(UpSummary.text(status, directory: directory, isDetached: true))
        }
    }

    /// Whoever started this may have left descriptors open, and would wait for their end for as long as the cluster is
    /// served.
    private static func keepDescriptorsFromChild() {
        guard let entries = opendir("/proc/self/fd") else { return }
        defer { closedir(entries) }
        while let entry = readdir(entries) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let descriptor = Int32(name), descriptor > STDERR_FILENO else { continue }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        }
    }

    private static func spawn(writeEnd: Int32) throws -> pid_t {
        let executable = try Executable.path()
        let arguments =
            CommandLine.arguments.filter { $0 != "--detach" } + ["--report-descriptor", String(descriptor)]
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        for target in [descriptor, STDOUT_FILENO, STDERR_FILENO] {
            posix_spawn_file_actions_adddup2(&actions, writeEnd, target)
        }
        let pointers = arguments.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        var child: pid_t = 0
        let result = posix_spawn(&child, executable, &actions, nil, pointers + [nil], environ)
        guard result == 0 else {
            throw CommandFailure("cannot start \"\(executable)\": \(String(cString: strerror(result)))")
        }
        return child
    }

    /// Passes on what is said until a byte 0 (true) or the end (false). On a thread of its own, for it blocks.
    private static func listen(_ descriptor: Int32) async -> Bool {
        await withCheckedContinuation { continuation in
            DispatchQueue(label: "slipstream.detached").async {
                var buffer = [UInt8](repeating: 0, count: 4096)
                while true {
                    let count = read(descriptor, &buffer, buffer.count)
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { return continuation.resume(returning: false) }
                    let said = buffer.prefix(count)
                    Console.write(String(decoding: said.filter { $0 != 0 }, as: UTF8.self), to: STDERR_FILENO)
                    if said.contains(0) { return continuation.resume(returning: true) }
                }
            }
        }
    }

    private static func exitStatus(of child: pid_t) -> Int32 {
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        // Ended by a signal: the low seven bits.
        if status & 0x7F != 0 {
            Console.note("slipstream: error: ended by signal \(status & 0x7F)")
            return 1
        }
        return max((status >> 8) & 0xFF, 1)
    }
}
