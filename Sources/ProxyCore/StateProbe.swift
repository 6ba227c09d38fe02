package import PostgresWire
import QueryAnalysis

/// Asks a server session what state it holds, after statements whose text does not tell.
///
/// One query, whose answer says which settings were made, and whether there is anything that cannot be made again
/// elsewhere. Everything in it is named with its schema: the session's `search_path` may be anybody's.
package struct StateProbe: Sendable {
    /// What the server session holds.
    package struct Result: Sendable, Equatable {
        package var settings: [(name: String, value: [UInt8])] = []
        /// The names of protocol-level prepared statements.
        package var statements: Set<[UInt8]> = []
        /// The names of those that SQL has prepared.
        package var sqlStatements: [[UInt8]] = []
        /// State that cannot be replayed, in words for the log.
        package var holds: [String] = []

        package static func == (left: Result, right: Result) -> Bool {
            left.statements == right.statements && left.sqlStatements == right.sqlStatements
                && left.holds == right.holds && left.settings.elementsEqual(right.settings) { $0 == $1 }
        }
    }

    /// How `holds` names a temporary table, function or type.
    package static let temporaryObject = "a temporary object"

    package private(set) var result = Result()
    /// The query failed: nothing is known.
    package private(set) var hasFailed = false

    package init() {}

    /// - Parameter names: settings that `pg_settings` does not show, to be asked for by name.
    package static func query(names: [String]) -> [UInt8] {
        var writer = MessageWriter()
        writer.message(.query) {
            $0.raw(sql(names: names))
            $0.byte(0)
        }
        return writer.bytes
    }

    /// As `query`, by messages that leave the unnamed statement and portal alone.
    package static func extendedQuery(names: [String]) -> [UInt8] {
        var writer = MessageWriter()
        let name = Array("slipstream: state".utf8) + [0]
        writer.message(.parse) {
            $0.raw(name)
            $0.raw(sql(names: names))
            for _ in 0..<3 { $0.byte(0) }
        }
        writer.message(.bind) {
            $0.raw(name)
            $0.raw(name)
            for _ in 0..<6 { $0.byte(0) }
        }
        writer.message(.execute) {
            $0.raw(name)
            $0.int32(0)
        }
        writer.closeStatement(Array(name.dropLast()))
        writer.sync()
        return writer.bytes
    }

    private static func sql(names: [String]) -> [UInt8] {
        var sql = Array(fixed.utf8)
        for name in names {
            let name = SessionSettings.literal(Array(name.utf8))
            sql += Array("\nUNION ALL SELECT 's', ".utf8) + name
            sql += Array(", pg_catalog.current_setting(".utf8) + name + Array(", true)".utf8)
        }
        return sql
    }

    /// Rows of a kind, a name and a value.
    private static let fixed = """
        /* slipstream: state */ SELECT 's' AS k, name AS n, setting AS v FROM pg_catalog.pg_settings \
        WHERE source OPERATOR(pg_catalog.=) 'session' \
        AND pg_catalog.left(name, 12) OPERATOR(pg_catalog.<>) 'transaction_'
        UNION ALL SELECT 's', 'role', pg_catalog.current_setting('role') \
        WHERE pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none'
        UNION ALL SELECT CASE WHEN from_sql THEN 'h' ELSE 'p' END, \
        CASE WHEN from_sql THEN 'a prepared statement' ELSE name END, name \
        FROM pg_catalog.pg_prepared_statements
        UNION ALL SELECT 'h', 'a cursor WITH HOLD', name FROM pg_catalog.pg_cursors WHERE is_holdable
        UNION ALL SELECT 'h', 'a session authorization', '' WHERE SESSION_USER OPERATOR(pg_catalog.<>) \
        (SELECT usename FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a \
        JOIN pg_catalog.pg_user AS u ON u.usesysid OPERATOR(pg_catalog.=) a.usesysid)
        UNION ALL SELECT 'h', 'LISTEN', c FROM pg_catalog.pg_listening_channels() AS c
        UNION ALL (SELECT 'h', 'an advisory lock', '' FROM pg_catalog.pg_locks \
        WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() \
        AND locktype OPERATOR(pg_catalog.=) 'advisory' LIMIT 1)
        UNION ALL (SELECT 'h', 'a temporary object', '' WHERE pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0 \
        AND (EXISTS (SELECT FROM pg_catalog.pg_class \
        WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
        OR EXISTS (SELECT FROM pg_catalog.pg_proc \
        WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
        OR EXISTS (SELECT FROM pg_catalog.pg_type \
        WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())))
        """

    /// A whole message of the answer, up to ReadyForQuery.
    package mutating func received(_ type: BackendMessage, _ message: RawSpan) {
        switch type {
        case .errorResponse: hasFailed = true
        case .dataRow: row(message)
        default: break
        }
    }

    private mutating func row(_ message: RawSpan) {
        var offset = MessageHeader.size + 2
        var columns: [[UInt8]?] = []
        while columns.count < 3, offset + 4 <= message.byteCount {
            let count = Int(message.int32(at: offset))
            offset += 4
            guard count >= 0 else {
                columns.append(nil)
                continue
            }
            guard offset + count <= message.byteCount else { return }
            columns.append(message.array(offset..<offset + count))
            offset += count
        }
        guard columns.count == 3, let kind = columns[0], let name = columns[1] else { return }
        switch kind {
        case [UInt8(ascii: "s")]:
            // A setting of one's own that does not exist is not set.
            if let value = columns[2] {
                // `pg_settings` says TimeZone and DateStyle.
                result.settings.append((SettingNames.folded(String(decoding: name, as: UTF8.self)), value))
            }
        case [UInt8(ascii: "p")]:
            result.statements.insert(name)
        default:
            if name.elementsEqual("a prepared statement".utf8) { result.sqlStatements.append(columns[2] ?? []) }
            result.holds.append(String(decoding: name, as: UTF8.self))
        }
    }
}
