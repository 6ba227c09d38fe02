/// Names of settings in raw text.
package enum SettingNames {
    /// Words with a dot between, which may be names of settings that an application has made up (`myapp.user`).
    ///
    /// It finds too many, columns among them: asking a server for a setting that does not exist does no harm.
    ///
    /// - Returns: at most 64, as `folded` spells them.
    package static func dotted(in bytes: RawSpan) -> Set<String> {
        var names: Set<String> = []
        bytes.withUnsafeBytes { bytes in
            var start = 0
            while start < bytes.count, names.count < 64 {
                guard isWord(bytes[start]), !isDigit(bytes[start]) else {
                    start += 1
                    continue
                }
                var end = start
                var dots = 0
                while end < bytes.count, isWord(bytes[end]) || (bytes[end] == dot && isNext(bytes, end)) {
                    if bytes[end] == dot { dots += 1 }
                    end += 1
                }
                if dots > 0, end - start <= 128, let name = String(validating: bytes[start..<end], as: UTF8.self) {
                    names.insert(folded(name))
                }
                start = end + 1
            }
        }
        return names
    }

    /// One spelling of a name: the server compares names of settings without regard to the case of ASCII letters.
    package static func folded(_ name: String) -> String {
        String(decoding: name.utf8.map(foldCase), as: UTF8.self)
    }

    private static let dot = UInt8(ascii: ".")

    private static func isNext(_ bytes: UnsafeRawBufferPointer, _ dot: Int) -> Bool {
        dot + 1 < bytes.count && isWord(bytes[dot + 1]) && !isDigit(bytes[dot + 1])
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    }

    /// As the server has it but for `$`, which mostly ends a string here.
    private static func isWord(_ byte: UInt8) -> Bool {
        let letter = byte | 0x20
        let isLetter = letter >= UInt8(ascii: "a") && letter <= UInt8(ascii: "z")
        return isLetter || isDigit(byte) || byte == UInt8(ascii: "_") || byte >= 0x80
    }
}
