import Glibc
package import HostBasedAuthentication

/// What the kernel knows of addresses.
package enum NetworkInterfaces {
    /// The addresses of this host with their masks, as they are now.
    package static func networks() -> [AddressRange] {
        var head: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&head) == 0 else { return [] }
        defer { freeifaddrs(head) }
        var networks: [AddressRange] = []
        var next = head
        while let entry = next {
            if let address = entry.pointee.ifa_addr.flatMap(Self.address),
                let mask = entry.pointee.ifa_netmask.flatMap(Self.address), mask.isIPv6 == address.isIPv6
            {
                networks.append(AddressRange(address: address, mask: mask))
            }
            next = entry.pointee.ifa_next
        }
        return networks
    }

    /// Where the other side of a connection is.
    enum Peer {
        /// Behind a Unix-domain socket.
        case local
        case address(NetworkAddress)
        /// The connection is gone already. It must not be taken for a local one.
        case unknown
    }

    static func peer(of descriptor: Int32) -> Peer {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                guard getpeername(descriptor, $0, &length) == 0 else { return .unknown }
                if Int32($0.pointee.sa_family) == AF_UNIX { return .local }
                return address($0).map { .address($0) } ?? .unknown
            }
        }
    }

    private static func address(_ pointer: UnsafeMutablePointer<sockaddr>) -> NetworkAddress? {
        switch Int32(pointer.pointee.sa_family) {
        case AF_INET:
            pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { pointer in
                NetworkAddress(withUnsafeBytes(of: pointer.pointee.sin_addr) { Array($0) })
            }
        case AF_INET6:
            pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { pointer in
                NetworkAddress(withUnsafeBytes(of: pointer.pointee.sin6_addr) { Array($0) })
            }
        default:
            nil
        }
    }
}
