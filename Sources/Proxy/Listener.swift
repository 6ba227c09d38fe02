import Glibc

/// Why the endpoint cannot listen.
package struct ListenError: Error, CustomStringConvertible {
    package var description: String
}

/// Making listening sockets.
enum Listener {
    /// One TCP socket per worker on the same address: the kernel spreads the clients over them.
    ///
    /// - Parameter port: 0 has one chosen.
    /// - Returns: the sockets and their port.
    static func tcp(host: String, port: UInt16, count: Int) throws(ListenError) -> ([Int32], UInt16) {
        var address = in_addr()
        guard inet_pton(AF_INET, host, &address) == 1 else {
            throw ListenError(description: "\"\(host)\" is not an IPv4 address")
        }
        // A socket that does not share its port finds out whether another process has it.
        let probe = try bound(address, port, shares: false)
        var chosen = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &chosen) { pointer in
            _ = pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(probe, $0, &length) }
        }
        close(probe)
        let actual = UInt16(bigEndian: chosen.sin_port)
        var sockets: [Int32] = []
        for _ in 0..<count {
            do throws(ListenError) {
                let socket = try bound(address, actual, shares: true)
                sockets.append(socket)
                guard listen(socket, 4096) == 0 else { throw failure("listen on port \(actual)") }
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
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
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

    private static func bound(_ address: in_addr, _ port: UInt16, shares: Bool) throws(ListenError) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | O_NONBLOCK | O_CLOEXEC, 0)
        guard descriptor >= 0 else { throw failure("make a socket") }
        set(descriptor, SOL_SOCKET, SO_REUSEADDR)
        if shares { set(descriptor, SOL_SOCKET, SO_REUSEPORT) }
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_port = port.bigEndian
        target.sin_addr = address
        let result = withUnsafePointer(to: &target) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            let error = failure("listen on port \(port)")
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32) {
        var one: Int32 = 1
        setsockopt(descriptor, level, option, &one, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func failure(_ what: String) -> ListenError {
        ListenError(description: "cannot \(what): \(String(cString: strerror(errno)))")
    }
}
