/// Quoting for statements that take no parameters (utility commands such as CREATE ROLE).
///
/// Source: PostgreSQL manual, "Lexical Structure", sections "Identifiers and Key Words" and "String Constants".
package enum SQLText {
    /// `text` as a string constant, whatever `standard_conforming_strings` says.
    package static func literal(_ text: String) -> String {
        let quoted = text.replacing("'", with: "''")
        guard quoted.contains("\\") else { return "'\(quoted)'" }
        return " E'" + quoted.replacing("\\", with: "\\\\") + "'"
    }

    /// `name` as a quoted identifier.
    package static func identifier(_ name: String) -> String {
        "\"" + name.replacing("\"", with: "\"\"") + "\""
    }
}
