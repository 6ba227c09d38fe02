import ProxyCore
import Yams

import struct Topology.MaxLag

/// A value and where it stands.
struct Value {
    var path: [String]
    /// Of its key.
    var line: Int?
    var node: Node
}

extension SettingsReader {
    /// Text as it was written, whatever YAML would make of it: a port, a word, a path.
    mutating func string(_ value: Value) -> String? {
        guard let scalar = value.node.scalar else {
            note(value.line, value.path, "a single value is expected here, and this is \(kind(value.node))")
            return nil
        }
        let isNothing = scalar.string.isEmpty && scalar.style == .plain
        guard !isNothing else {
            note(value.line, value.path, "there is no value", "Give one, or leave the key out.")
            return nil
        }
        return scalar.string
    }

    mutating func mapping(_ value: Value) -> Node.Mapping? {
        if let mapping = value.node.mapping { return mapping }
        if value.node.scalar?.string.isEmpty == true { return Node.Mapping([]) }
        note(
            value.line,
            value.path,
            "a list of \"key: value\" is expected here, and this is \(kind(value.node))",
            "Write them below, indented."
        )
        return nil
    }

    private func kind(_ node: Node) -> String {
        switch node {
        case .scalar(let scalar): "\"\(scalar.string)\""
        case .mapping: "a list of \"key: value\""
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }

    mutating func integer(_ value: Value, _ range: ClosedRange<Int>) -> Int? {
        guard let text = string(value) else { return nil }
        let isNumber = !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x5F }
        guard isNumber, let number = Int(text.filter { $0 != "_" }) else {
            let bounds =
                range.upperBound == .max ? "\(range.lowerBound) or more" : "\(range.lowerBound) to \(range.upperBound)"
            note(value.line, value.path, "\"\(text)\" is not a whole number", "Give one of \(bounds).")
            return nil
        }
        guard range.contains(number) else {
            let bounds =
                number < range.lowerBound ? "less than \(range.lowerBound)" : "more than \(range.upperBound)"
            note(value.line, value.path, "\(number) is \(bounds)", "Give \(range.lowerBound) to \(range.upperBound).")
            return nil
        }
        return number
    }

    mutating func duration(_ value: Value) -> Duration? {
        guard let text = string(value) else { return nil }
        guard let duration = Duration(text: text) else {
            note(
                value.line,
                value.path,
                "\"\(text)\" is not a length of time",
                "Give a number with \(Duration.unitNames), such as 15s; a plain number is seconds."
            )
            return nil
        }
        return duration
    }

    /// An amount of data, a length of time, or both below keys of their own. 0 is no limit.
    mutating func maxLag(_ value: Value) -> MaxLag? {
        var maxLag = MaxLag()
        if let limits = value.node.mapping {
            read(limits, at: value.path, known: ["bytes", "time"]) { reader, key, value in
                switch key {
                case "bytes": maxLag.bytes = reader.bytes(value).flatMap { $0 == 0 ? nil : $0 }
                case "time": maxLag.time = reader.duration(value).flatMap { $0 == .zero ? nil : $0 }
                default: preconditionFailure("\(key) is a known key that nobody reads")
                }
            }
            return maxLag
        }
        guard let text = string(value) else { return nil }
        guard text != "0" else { return maxLag }
        // A plain number could be either.
        let hasUnit = text.last?.isLetter == true
        if hasUnit, let bytes = DataSize.bytes(text) {
            maxLag.bytes = bytes == 0 ? nil : bytes
        } else if hasUnit, let time = Duration(text: text) {
            maxLag.time = time == .zero ? nil : time
        } else {
            note(
                value.line,
                value.path,
                "\"\(text)\" is neither an amount of data nor a length of time",
                "Give a number with \(DataSize.unitNames), or with \(Duration.unitNames); "
                    + "both are {bytes: 16MB, time: 5s}."
            )
            return nil
        }
        return maxLag
    }

    private mutating func bytes(_ value: Value) -> UInt64? {
        guard let text = string(value) else { return nil }
        guard let bytes = DataSize.bytes(text) else {
            note(
                value.line,
                value.path,
                "\"\(text)\" is not an amount of data",
                "Give a number with \(DataSize.unitNames), such as 16MB; a plain number is bytes."
            )
            return nil
        }
        return bytes
    }

    mutating func choice<Choice: RawRepresentable & CaseIterable>(_ value: Value, _: Choice.Type) -> Choice?
    where Choice.RawValue == String {
        guard let text = string(value) else { return nil }
        if let choice = Choice(rawValue: text) { return choice }
        let names = Choice.allCases.map(\.rawValue)
        let closest = Spelling.closest(to: text, among: names).map { "Did you mean \"\($0)\"?" }
        note(value.line, value.path, "\"\(text)\" is none of \(Self.list(names))", closest)
        return nil
    }

    /// The path of a file that exists.
    mutating func existingFile(_ value: Value) -> String? {
        guard let text = string(value) else { return nil }
        let path = resolved(text)
        guard files.exists(path) else {
            note(value.line, value.path, "there is no file \"\(path)\"", "Make it, or name another.")
            return nil
        }
        return path
    }
}
