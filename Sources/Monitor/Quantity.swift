/// Numbers for a person.
package enum Quantity {
    package static func bytes(_ count: UInt64) -> String {
        var value = Double(count)
        for unit in ["B", "kB", "MB", "GB"] {
            if value < 1024 { return "\(fixed(value, value == value.rounded() ? 0 : 1)) \(unit)" }
            value /= 1024
        }
        return "\(fixed(value, 1)) TB"
    }

    package static func seconds(_ seconds: Double) -> String {
        if seconds < 10 { return "\(fixed(seconds, 2)) s" }
        if seconds < 120 { return "\(fixed(seconds, 0)) s" }
        if seconds < 7200 { return "\(fixed(seconds / 60, 0)) min" }
        return "\(fixed(seconds / 3600, 0)) h"
    }

    /// A time somebody has written down: `5 s`.
    package static func limit(_ seconds: Double) -> String {
        seconds < 10 && seconds == seconds.rounded() ? "\(fixed(seconds, 0)) s" : Self.seconds(seconds)
    }

    /// `value` with so many digits after the point.
    package static func fixed(_ value: Double, _ digits: Int) -> String {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let scaled = (abs(value) * scale).rounded()
        guard scaled < 1e15 else { return String(value) }
        let whole = Int64(scaled / scale)
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return "\(sign)\(whole)" }
        let fraction = String(Int64(scaled) - whole * Int64(scale))
        return "\(sign)\(whole).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
    }
}
