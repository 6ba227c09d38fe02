import Glibc

/// Ports of 127.0.0.1.
enum LoopbackPort {
    /// `port` itself when it is free, any free one for 0.
    ///
    /// The port is given back before whoever wants it binds it; asking first is for the message, which comes before a
    /// cluster is made rather than after.
    ///
    /// - Parameter option: to name in the message.
    static func free(_ port: UInt16, option: String) throws -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw refusal(port, option) }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr = in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        return try withUnsafeMutablePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                guard bind(descriptor, generic, length) == 0, getsockname(descriptor, generic, &length) == 0 else {
                    throw refusal(port, option)
                }
            }
            return UInt16(bigEndian: pointer.pointee.sin_port)
        }
    }

    private static func refusal(_ port: UInt16, _ option: String) -> CommandFailure {
        let number = errno
        switch number {
        case EADDRINUSE:
            return CommandFailure(
                "port \(port) of 127.0.0.1 is in use",
                remedy: "Name another with \(option), or 0 to have a free one chosen."
            )
        default:
            return CommandFailure(
                "cannot listen on port \(port) of 127.0.0.1: \(String(cString: strerror(number)))",
                remedy: "Name another with \(option)."
            )
        }
    }
}
