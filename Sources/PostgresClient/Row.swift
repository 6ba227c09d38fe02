/// One row of an answer, in PostgreSQL's text form. SQL NULL is `nil`.
package struct Row: Sendable, Equatable {
    /// Column names, shared by all rows of one answer.
    package let columns: [String]
    package let values: [String?]

    package init(columns: [String], values: [String?]) {
        self.columns = columns
        self.values = values
    }

    /// The value of a column by position, from 0. `nil` for SQL NULL and for a position that does not exist.
    package subscript(_ index: Int) -> String? {
        values.indices.contains(index) ? values[index] : nil
    }

    /// The value of a column by name. `nil` for SQL NULL and for a name that does not exist.
    package subscript(_ name: String) -> String? {
        columns.firstIndex(of: name).flatMap { values[$0] }
    }
}
