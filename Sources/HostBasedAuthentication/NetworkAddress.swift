import Glibc

/// An IP address of either family.
package struct NetworkAddress: Sendable, Hashable, CustomStringConvertible {
    /// 4 bytes of IPv4 or 16 of IPv6, in network order.
    package let bytes: [UInt8]

    /// `nil` unless there are 4 or 16 bytes.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        self.bytes = bytes
    }

    /// Reads `127.0.0.1` or `fe80::1`; `nil` for anything else, names included.
    package init?(_ text: String) {
        var buffer = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &buffer) == 1 {
            bytes = Array(buffer.prefix(4))
        } else if inet_pton(AF_INET6, text, &buffer) == 1 {
            bytes = buffer
        } else {
            return nil
        }
    }

    package var isIPv6: Bool { bytes.count == 16 }
    package var bitCount: Int { bytes.count * 8 }

    package var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        _ = inet_ntop(isIPv6 ? AF_INET6 : AF_INET, bytes, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The mask whose first `length` bits are set.
    package static func mask(length: Int, isIPv6: Bool) -> NetworkAddress? {
        let size = isIPv6 ? 16 : 4
        guard (0...size * 8).contains(length) else { return nil }
        return NetworkAddress(
            (0..<size).map { index in
                let bits = min(8, max(0, length - 8 * index))
                return UInt8(truncatingIfNeeded: 0xFF00 >> bits)
            }
        )
    }
}

/// Addresses that agree in the bits of a mask.
package struct AddressRange: Sendable, Hashable {
    package var address: NetworkAddress
    package var mask: NetworkAddress

    /// - Precondition: both are of one family.
    package init(address: NetworkAddress, mask: NetworkAddress) {
        precondition(address.isIPv6 == mask.isIPv6, "an address and its mask are of one family")
        self.address = address
        self.mask = mask
    }

    package func contains(_ other: NetworkAddress) -> Bool {
        guard other.isIPv6 == address.isIPv6 else { return false }
        return zip(zip(address.bytes, mask.bytes), other.bytes).allSatisfy { pair, byte in
            (pair.0 ^ byte) & pair.1 == 0
        }
    }
}
