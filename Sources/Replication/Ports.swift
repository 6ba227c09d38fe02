import Glibc
import Synchronization

/// A port of 127.0.0.1 that nobody else can take until `release()`.
final class PortReservation: Sendable {
    let port: UInt16
    private let descriptor: Mutex<CInt?>

    private init(port: UInt16, descriptor: CInt) {
        self.port = port
        self.descriptor = Mutex(descriptor)
    }

    deinit {
        release()
    }

    /// Gives the port up: to be called right before a server takes it.
    func release() {
        descriptor.withLock { descriptor in
            if let descriptor { close(descriptor) }
            descriptor = nil
        }
    }

    /// Takes a port; `nil` when somebody has it.
    static func take(_ port: UInt16) -> PortReservation? {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        var yes: CInt = 1
        // As PostgreSQL does: connections of a server that just ended must not make its port look taken.
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<CInt>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        // Without listen(2) a second socket with SO_REUSEADDR could still bind.
        guard bound == 0, listen(descriptor, 1) == 0 else {
            close(descriptor)
            return nil
        }
        return PortReservation(port: port, descriptor: descriptor)
    }

    /// Takes a free port outside the range from which the kernel serves outgoing connections: one that it gave to a
    /// client between two starts of ours would be lost to us.
    static func takeAny(avoiding: Set<UInt16> = []) throws(ReplicationError) -> PortReservation {
        // PostgreSQL's own default belongs to somebody else's server, and the others to the endpoint's defaults.
        let reserved: Set<UInt16> = [5432, 5433, 6432, 8008]
        for _ in 0..<2000 {
            let port = UInt16.random(in: candidates)
            guard !reserved.contains(port), !avoiding.contains(port) else { continue }
            if let reservation = take(port) { return reservation }
        }
        throw ReplicationError(.environment, "there is no free port between \(candidates.lowerBound) and 65535")
    }

    /// Source: ip(7), `ip_local_port_range`.
    private static let candidates: ClosedRange<UInt16> = {
        let text = (try? FileSystem.readText("/proc/sys/net/ipv4/ip_local_port_range")) ?? nil
        let bounds = (text ?? "").split(whereSeparator: \.isWhitespace).compactMap { UInt16($0) }
        guard bounds.count == 2 else { return 20000...32000 }
        if bounds[0] > 12000 { return 10000...(bounds[0] - 1) }
        if bounds[1] < 64000 { return (bounds[1] + 1)...65535 }
        return 10000...65535
    }()
}
