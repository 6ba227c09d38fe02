import PostgresWire

/// The parameters a server has reported (ParameterStatus), or a client was told.
///
/// A value that never changes, shared by those who have the same. `in_hot_standby` is always off: clients talk to an
/// endpoint that writes, whatever server answers.
package final class ReportedParameters: Sendable {
    fileprivate struct Entry: Sendable, Hashable {
        var name: [UInt8]
        var value: [UInt8]
    }

    package static let none = ReportedParameters([])

    fileprivate let entries: [Entry]
    /// The client's encoding is one in which every byte below 128 is the ASCII character: the lexer may trust what it sees.
    ///
    /// Source: PostgreSQL manual, "Supported Character Sets": those that a server cannot use are the others.
    package let hasASCIISafeEncoding: Bool

    private init(_ entries: [Entry]) {
        self.entries = entries
        let value = entries.first { $0.name.elementsEqual("client_encoding".utf8) }?.value ?? []
        let encoding = String(decoding: value, as: UTF8.self).uppercased()
        hasASCIISafeEncoding = !Self.clientOnlyEncodings.contains(encoding)
    }

    private static let clientOnlyEncodings: Set = [
        "BIG5", "GB18030", "GBK", "JOHAB", "SJIS", "SHIFT_JIS_2004", "UHC",
    ]

    package func equals(_ other: ReportedParameters) -> Bool {
        self === other || entries == other.entries
    }

    /// With the parameter of a whole ParameterStatus message.
    package func reporting(_ message: RawSpan) -> ReportedParameters {
        let body = message.extracting(MessageHeader.size..<message.byteCount)
        guard let nameEnd = body.terminator(from: 0, before: body.byteCount),
            let valueEnd = body.terminator(from: nameEnd + 1, before: body.byteCount)
        else { return self }
        return reporting(body.array(0..<nameEnd), body.array(nameEnd + 1..<valueEnd))
    }

    package func reporting(_ name: [UInt8], _ value: [UInt8]) -> ReportedParameters {
        var entries = entries
        let isOfServer = name.elementsEqual("in_hot_standby".utf8)
        let entry = Entry(name: name, value: isOfServer ? Array("off".utf8) : value)
        if let index = entries.firstIndex(where: { $0.name == name }) {
            guard entries[index] != entry else { return self }
            entries[index] = entry
        } else {
            entries.append(entry)
        }
        return ReportedParameters(entries)
    }

    /// The ParameterStatus messages for a client that was told `told`.
    package func messages(for told: ReportedParameters) -> [UInt8] {
        var writer = MessageWriter()
        for entry in entries where !told.entries.contains(entry) {
            writer.message(.parameterStatus) {
                $0.raw(entry.name)
                $0.byte(0)
                $0.raw(entry.value)
                $0.byte(0)
            }
        }
        return writer.bytes
    }
}

extension ReportedParameters {
    /// Makes equal parameters one object, so that comparing them is one look.
    package struct Table {
        private static let limit = 1_024
        private var known: [[Entry]: ReportedParameters] = [:]

        package init() {}

        package mutating func shared(_ parameters: ReportedParameters) -> ReportedParameters {
            if let first = known[parameters.entries] { return first }
            if known.count == Self.limit { known.removeAll(keepingCapacity: true) }
            known[parameters.entries] = parameters
            return parameters
        }
    }
}
