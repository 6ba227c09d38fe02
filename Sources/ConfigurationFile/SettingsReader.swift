import HostBasedAuthentication
import ProxyCore
import Yams

extension Settings {
    /// Reads the text of a configuration file, and the files it names.
    ///
    /// - Parameters:
    ///   - name: of the file, for messages. Relative paths in it start at its directory.
    /// - Throws: all problems, in the order of their lines.
    package init(
        yaml text: String,
        name: String,
        files: some ConfigurationFiles
    ) throws(ConfigurationProblems) {
        var reader = SettingsReader(file: name, files: files)
        reader.read(text)
        guard reader.problems.isEmpty else {
            throw ConfigurationProblems(problems: reader.problems.sorted { ($0.line ?? 0) < ($1.line ?? 0) })
        }
        self = reader.settings
    }
}

/// Goes through a file key by key, and notes what cannot stand.
struct SettingsReader<Files: ConfigurationFiles> {
    let file: String
    let files: Files
    var settings = Settings()
    var problems: [ConfigurationProblem] = []
    /// Where rules were given, for there are two ways.
    private var rulesKey: String?

    init(file: String, files: Files) {
        self.file = file
        self.files = files
    }

    mutating func read(_ text: String) {
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            problems.append(syntaxProblem(error))
            return
        }
        // An empty file, or one of comments alone, is the defaults.
        guard let root, root.scalar?.string.isEmpty != true else { return }
        guard let mapping = root.mapping else {
            problems.append(
                ConfigurationProblem(
                    file: file,
                    line: root.mark?.line,
                    message: "the file is not a list of \"key: value\"",
                    remedy: "\"slipstream config example\" prints one that is."
                )
            )
            return
        }
        read(mapping, at: [], known: SettingsKeys.top) { reader, key, value in reader.take(key, value) }
        checkTogether()
    }

    // MARK: - Keys

    /// Hands on the values of known keys.
    mutating func read(
        _ mapping: Node.Mapping,
        at path: [String],
        known: [String],
        _ body: (inout Self, String, Value) -> Void
    ) {
        for (keyNode, node) in mapping {
            guard let key = keyNode.scalar?.string else {
                note(keyNode.mark?.line, path, "a key is not plain text")
                continue
            }
            let line = keyNode.mark?.line
            guard known.contains(key) else {
                let remedy =
                    SettingsKeys.elsewhere[key]
                    ?? Spelling.closest(to: key, among: known).map { "Did you mean \"\($0)\"?" }
                    ?? (path.isEmpty
                        ? "\"slipstream config example\" shows all keys." : "Known here are \(Self.list(known)).")
                note(line, path + [key], "unknown key", remedy)
                continue
            }
            body(&self, key, Value(path: path + [key], line: line, node: node))
        }
    }

    static func list(_ words: [String]) -> String {
        words.count < 2 ? words.joined() : words.dropLast().joined(separator: ", ") + " and " + words[words.count - 1]
    }

    mutating func note(_ line: Int?, _ path: [String], _ message: String, _ remedy: String? = nil) {
        problems.append(
            ConfigurationProblem(
                file: file,
                line: line,
                key: path.isEmpty ? nil : path.joined(separator: "."),
                message: message,
                remedy: remedy
            )
        )
    }

    // MARK: - Whole files

    private func syntaxProblem(_ error: any Error) -> ConfigurationProblem {
        func problem(_ line: Int?, _ message: String, _ remedy: String? = nil) -> ConfigurationProblem {
            ConfigurationProblem(file: file, line: line, message: message, remedy: remedy)
        }
        switch error as? YamlError {
        case .scanner(let context, let text, let mark, _), .parser(let context, let text, let mark, _),
            .composer(let context, let text, let mark, _):
            let place = context.map { " \($0.text)" } ?? ""
            return problem(
                mark.line,
                "this is not YAML: \(text)\(place)",
                "Write \"key: value\", and indent with spaces."
            )
        case .duplicatedKeysInMapping(let names, let context):
            return problem(
                context.mark.line,
                "a key is given twice from here on: \(names.joined(separator: ", "))",
                "Keep one of them."
            )
        case .reader(let text, _, _, _):
            return problem(nil, "this is not a text of Unicode characters: \(text)")
        case .no, .memory, .writer, .emitter, .representer, .dataCouldNotBeDecoded, nil:
            return problem(nil, "this cannot be read as YAML: \(error)")
        }
    }

    /// What holds between keys.
    private mutating func checkTogether() {
        let tls = settings.clientTLS
        if (tls.certificateFile == nil) != (tls.keyFile == nil) {
            let (given, missing) = tls.keyFile == nil ? ("cert", "key") : ("key", "cert")
            note(
                nil,
                ["client_tls_\(given)_file"],
                "a certificate and its key go together",
                "Give client_tls_\(missing)_file, too."
            )
        }
        let server = settings.serverTLS
        if (server.certificateFile == nil) != (server.keyFile == nil) {
            let (given, missing) = server.keyFile == nil ? ("cert", "key") : ("key", "cert")
            note(
                nil,
                ["server_tls_\(given)_file"],
                "a certificate and its key go together",
                "Give server_tls_\(missing)_file, too."
            )
        }
    }

    // MARK: - Rules

    mutating func takeRules(_ key: String, _ value: Value) {
        if let other = rulesKey {
            return note(value.line, value.path, "rules are given by \"\(other)\" already", "Keep one of them.")
        }
        rulesKey = key
        guard let text = string(value) else { return }
        let parsed: (rules: HostBasedRules, problems: [HostBasedRuleProblem])
        if key == "hba_file" {
            let path = resolved(text)
            let rules: String
            do {
                rules = try files.read(path)
            } catch {
                return note(value.line, value.path, "\"\(path)\" cannot be read: \(error)", "Name a file that can be.")
            }
            parsed = HostBasedRules.parse(rules)
            for problem in parsed.problems {
                problems.append(
                    ConfigurationProblem(
                        file: path,
                        line: problem.line,
                        message: problem.message,
                        remedy: problem.remedy
                    )
                )
            }
        } else {
            guard value.node.scalar?.style != .folded else {
                return note(value.line, value.path, "\">\" joins the lines of the rules", "Write \"hba: |\".")
            }
            parsed = HostBasedRules.parse(text)
            // A block begins on the line behind its "|".
            let isBlock = value.node.scalar?.style == .literal
            let before = (value.node.mark?.line ?? 0) - (isBlock ? 0 : 1)
            for problem in parsed.problems { note(before + problem.line, value.path, problem.message, problem.remedy) }
        }
        settings.rules = parsed.rules
    }

    /// A path in the file as one from anywhere.
    func resolved(_ path: String) -> String {
        guard !path.hasPrefix("/"), let slash = file.lastIndex(of: "/") else { return path }
        return file[...slash] + path
    }
}
