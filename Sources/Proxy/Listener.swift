import Glibc
import HostBasedAuthentication

/// Why the endpoint cannot listen.
package struct ListenError: Error, CustomStringConvertible {
    package var description: String
}

/// Making listening sockets.
enum Listener {
    /// One TCP socket per address and worker: the kernel spreads the clients over those of an address.
    ///
    /// - Parameters:
    ///   - hosts: addresses, `*` or `localhost`.
    ///   - port: 0 has one chosen, the same for all addresses.
    /// - Returns: the sockets of each address, and their port.
    static func tcp(hosts: [String], port: UInt16, count: Int) throws(ListenError) -> ([[Int32]], UInt16) {
        var sockets: [[Int32]] = []
        var port = port
        do throws(ListenError) {
            for address in try addresses(hosts) {
                let (more, actual) = try tcp(address, port: port, count: count)
                sockets.append(more)
                port = actual
            }
        } catch {
            sockets.joined().forEach { close($0) }
            throw error
        }
        return (sockets, port)
    }

    /// The addresses that are meant, each once.
    private static func addresses(_ hosts: [String]) throws(ListenError) -> [NetworkAddress] {
        var addresses: [NetworkAddress] = []
        for host in hosts {
            let texts: [String] =
                switch host {
                case "*": hasIPv6 ? ["0.0.0.0", "::"] : ["0.0.0.0"]
                case "localhost": hasIPv6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"]
                default: [host]
                }
            for text in texts {
                guard let address = NetworkAddress(text) else {
                    throw ListenError(description: "\"\(text)\" is not an IP address, \"*\" or \"localhost\"")
                }
                if !addresses.contains(address) { addresses.append(address) }
            }
        }
        return addresses
    }

    /// Whether this host has the IPv6 loopback address.
    private static var hasIPv6: Bool {
        guard let loopback = NetworkAddress("::1"), let probe = try? bound(loopback, 0, shares: false) else {
            return false
        }
        close(probe)
        return true
    }

    private static func tcp(
        _ address: NetworkAddress,
        port: UInt16,
        count: Int
    ) throws(ListenError) -> ([Int32], UInt16) {
        // A socket that does not share its port finds out whether another process has it.
        let probe = try bound(address, port, shares: false)
        // The port stands at the same place in both families' addresses.
        var chosen = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        withUnsafeMutablePointer(to: &chosen) { pointer in
            _ = pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(probe, $0, &length) }
        }
        close(probe)
        let actual = UInt16(bigEndian: chosen.sin6_port)
        var sockets: [Int32] = []
        for _ in 0..<count {
            do throws(ListenError) {
                let socket = try bound(address, actual, shares: true)
                sockets.append(socket)
                guard listen(socket, 4096) == 0 else { throw failure("listen on port \(actual) of \(address)") }
            } catch {
                sockets.forEach { close($0) }
                throw error
            }
        }
        return (sockets, actual)
    }

    /// The Unix-domain socket `.s.PGSQL.<port>` in a directory, as PostgreSQL's clients look for it.
    static func unix(directory: String, port: UInt16) throws(ListenError) -> (Int32, path: String) {
        let path = directory + "/.s.PGSQL.\(port)"
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < capacity else {
            throw ListenError(description: "the socket path \(path) is longer than \(capacity - 1) bytes")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw failure("make a socket") }
        unlink(path)
        let result = bind(descriptor, to: &address)
        guard result == 0, chmod(path, 0o777) == 0, listen(descriptor, 4096) == 0 else {
            let error = failure("listen on \(path)")
            close(descriptor)
            throw error
        }
        return (descriptor, path)
    }

    /// What every connection wants: no delay for small messages, and an end when the peer's host is gone.
    static func setOptions(ofConnection descriptor: Int32) {
        for (level, option) in [(Int32(IPPROTO_TCP), TCP_NODELAY), (SOL_SOCKET, SO_KEEPALIVE)] {
            set(descriptor, level, option)
        }
    }

    private static func bound(_ address: NetworkAddress, _ port: UInt16, shares: Bool) throws(ListenError) -> Int32 {
        let family = address.isIPv6 ? AF_INET6 : AF_INET
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw failure("make a socket") }
        set(descriptor, SOL_SOCKET, SO_REUSEADDR)
        if shares { set(descriptor, SOL_SOCKET, SO_REUSEPORT) }
        let result: Int32
        if address.isIPv6 {
            // IPv4 has sockets of its own, so that rules see IPv4 addresses.
            set(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY)
            var target = sockaddr_in6()
            target.sin6_family = sa_family_t(AF_INET6)
            target.sin6_port = port.bigEndian
            withUnsafeMutableBytes(of: &target.sin6_addr) { $0.copyBytes(from: address.bytes) }
            result = bind(descriptor, to: &target)
        } else {
            var target = sockaddr_in()
            target.sin_family = sa_family_t(AF_INET)
            target.sin_port = port.bigEndian
            withUnsafeMutableBytes(of: &target.sin_addr) { $0.copyBytes(from: address.bytes) }
            result = bind(descriptor, to: &target)
        }
        guard result == 0 else {
            let error = failure("listen on port \(port) of \(address)")
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func bind<Address>(_ descriptor: Int32, to address: inout Address) -> Int32 {
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<Address>.size))
            }
        }
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32) {
        var one: Int32 = 1
        setsockopt(descriptor, level, option, &one, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func failure(_ what: String) -> ListenError {
        ListenError(description: "cannot \(what): \(String(cString: strerror(errno)))")
    }
}
