import ConfigurationFile
import FoundationEssentials
import Glibc
import Proxy
import ProxyCore
import Topology

/// A configuration file on disk.
enum SettingsFile {
    /// What it says.
    ///
    /// - Throws: `CommandFailure` that tells all that is wrong.
    static func read(_ path: String) throws -> Settings {
        do throws(ConfigurationProblems) {
            return try parse(path)
        } catch {
            throw failure(error)
        }
    }

    private static func failure(_ error: ConfigurationProblems) -> CommandFailure {
        let lines = error.problems.map(\.description).joined(separator: "\n")
        return CommandFailure("the configuration cannot be used:\n\(lines)")
    }

    /// How far each node of a cluster may be behind.
    ///
    /// - Throws: `CommandFailure` that tells what is said of nodes that it does not have.
    static func maxLags(_ settings: Settings, from path: String?, ofNodes names: [String]) throws -> [MaxLag] {
        do throws(ConfigurationProblems) {
            return try settings.maxLags(ofNodes: names, file: path ?? "")
        } catch {
            throw failure(error)
        }
    }

    static func parse(_ path: String) throws(ConfigurationProblems) -> Settings {
        let text: String
        do throws(Unreadable) {
            text = try Disk.text(of: path)
        } catch {
            throw ConfigurationProblems(
                problems: [ConfigurationProblem(file: path, message: "it cannot be read: \(error)")]
            )
        }
        return try Settings(yaml: text, name: path, files: Disk())
    }

    private struct Disk: ConfigurationFiles {
        func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
        func read(_ path: String) throws -> String { try Self.text(of: path) }

        static func text(of path: String) throws(Unreadable) -> String {
            errno = 0
            guard let data = try? Data(contentsOf: URL(filePath: path)) else { throw Unreadable(code: errno) }
            guard let text = String(validating: data, as: UTF8.self) else { throw Unreadable(code: EILSEQ) }
            return text
        }
    }

    private struct Unreadable: Error, CustomStringConvertible {
        var code: Int32
        var description: String { code == EILSEQ ? "it is not UTF-8" : String(cString: strerror(code)) }
    }
}

extension EndpointConfiguration {
    /// Takes over what a configuration file says.
    mutating func apply(_ settings: Settings) {
        if let addresses = settings.listenAddresses { hosts = addresses }
        if let directory = settings.unixSocketDirectory { socketDirectory = directory.isEmpty ? nil : directory }
        switch settings.inputOutput {
        case .auto: backend = .auto
        case .uring: backend = .uring
        case .epoll: backend = .epoll
        case nil: break
        }
        pooling = settings.pooling
        routing = settings.routing
        consistency = settings.consistency
        pinTime = settings.pinTime ?? pinTime
        transactions = settings.transactions
        primaryWait = settings.primaryWait
        login.passwords = settings.passwords
        if let rules = settings.rules { login.rules = rules }
    }
}
