/// Something in a configuration file that cannot stand.
package struct ConfigurationProblem: Error, Sendable, Equatable, CustomStringConvertible {
    package var file: String
    /// From 1; `nil` when it is about the whole file.
    package var line: Int?
    /// The way to the value, such as `databases.shop.pool_size`.
    package var key: String?
    package var message: String
    /// What to do about it.
    package var remedy: String?

    package init(
        file: String,
        line: Int? = nil,
        key: String? = nil,
        message: String,
        remedy: String? = nil
    ) {
        self.file = file
        self.line = line
        self.key = key
        self.message = message
        self.remedy = remedy
    }

    /// `slipstream.yaml:3: pool_mode: …`
    package var description: String {
        var text = file
        if let line { text += ":\(line)" }
        if let key { text += ": \(key)" }
        text += ": \(message)"
        if let remedy { text += ". \(remedy)" }
        return text
    }
}

/// All that is wrong with a configuration file.
package struct ConfigurationProblems: Error, Sendable, Equatable {
    package var problems: [ConfigurationProblem]

    package init(problems: [ConfigurationProblem]) {
        self.problems = problems
    }
}
