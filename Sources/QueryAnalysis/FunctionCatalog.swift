/// `pg_proc.provolatile`, worst last.
package enum Volatility: UInt8, Sendable, Comparable {
    case immutable
    case stable
    case volatile

    package static func < (left: Volatility, right: Volatility) -> Bool { left.rawValue < right.rawValue }
}

/// The functions of one database by unqualified name, each with the worst volatility of all its overloads in all
/// schemas.
///
/// An empty catalog stands for one that is not loaded yet: only the commonest built-in functions are known then.
package struct FunctionCatalog: Sendable, Equatable {
    struct Entry: Sendable, Equatable {
        /// The worst volatility of those in `pg_catalog`.
        var builtIn: Volatility?
        /// The worst volatility of all others.
        var users: Volatility?
        /// What a call makes of a query.
        var effect: StatementEffect = .read
        /// Whatever its volatility says, its source looks as if it, or what it calls, wrote.
        var mayWrite = false
    }

    /// Of which copies cost little.
    private final class Table: Sendable {
        let entries: [String: Entry]
        /// The ``nameShape(length:first:last:)``s of the users' volatile functions, as a set of bits.
        let volatileShapes: UInt64
        let leavesState: Bool
        let asksSequences: Bool
        let beginsReadCommitted: Bool
        let hidden: HiddenEffects
        /// Those of ``hidden``, which every query asks for.
        let hiddenShapes: UInt64

        static let empty = Table([:], volatileShapes: 0)

        init(
            _ entries: [String: Entry],
            volatileShapes: UInt64,
            leavesState: Bool = false,
            asksSequences: Bool = false,
            beginsReadCommitted: Bool = false,
            hidden: HiddenEffects = .none
        ) {
            self.entries = entries
            self.volatileShapes = volatileShapes
            self.leavesState = leavesState
            self.asksSequences = asksSequences
            self.beginsReadCommitted = beginsReadCommitted
            self.hidden = hidden
            hiddenShapes = hidden.shapes
        }
    }

    private let table: Table

    /// Volatile functions of languages that are not trusted are to be passed as they are in `pg_proc`; immutable and
    /// stable ones are believed.
    ///
    /// - Parameters:
    ///   - functions: all rows of `pg_proc`; `isBuiltIn` says that the function is in `pg_catalog`.
    ///   - leavesState: a function of the users may leave state in the session.
    ///   - asksSequences: something in the database (code, a default, a view) asks for the last values of sequences.
    ///   - writers: the functions whose sources look as if they, or what they call, wrote.
    ///   - beginsReadCommitted: a transaction in the database is READ COMMITTED unless its session says otherwise.
    package init(
        _ functions: some Sequence<(name: String, volatility: Volatility, isBuiltIn: Bool)>,
        leavesState: Bool = false,
        asksSequences: Bool = false,
        writers: some Sequence<String> = [],
        beginsReadCommitted: Bool = false
    ) {
        var entries: [String: Entry] = [:]
        var volatileShapes: UInt64 = 0
        for function in functions {
            let worst = function.isBuiltIn ? \Entry.builtIn : \Entry.users
            let known = entries[function.name, default: Entry()][keyPath: worst] ?? .immutable
            entries[function.name, default: Entry()][keyPath: worst] = max(known, function.volatility)
        }
        for name in writers { entries[name]?.mayWrite = true }
        for (name, entry) in entries {
            entries[name]?.effect = Self.effect(of: name, entry)
            if entry.users == .volatile, let first = name.utf8.first, let last = name.utf8.last {
                volatileShapes |= 1 << nameShape(length: name.utf8.count, first: first, last: last)
            }
        }
        table = Table(
            entries,
            volatileShapes: volatileShapes,
            leavesState: leavesState,
            asksSequences: asksSequences,
            beginsReadCommitted: beginsReadCommitted
        )
    }

    /// The same functions, with what other names hide.
    init(_ functions: FunctionCatalog, hidden: HiddenEffects) {
        table = Table(
            functions.table.entries,
            volatileShapes: functions.table.volatileShapes,
            leavesState: functions.leavesState,
            asksSequences: functions.asksSequences,
            beginsReadCommitted: functions.beginsReadCommitted,
            hidden: hidden
        )
    }

    /// As the other, of functions that are all the users'.
    package init(_ functions: some Sequence<(name: String, volatility: Volatility)>) {
        self.init(functions.map { (name: $0.name, volatility: $0.volatility, isBuiltIn: false) })
    }

    package init() { table = .empty }

    /// The worst volatility of each name.
    package var volatilities: [String: Volatility] {
        table.entries.mapValues { max($0.builtIn ?? .immutable, $0.users ?? .immutable) }
    }

    package static func == (left: FunctionCatalog, right: FunctionCatalog) -> Bool {
        left.table === right.table
            || (left.table.entries == right.table.entries && left.table.leavesState == right.table.leavesState
                && left.table.asksSequences == right.table.asksSequences
                && left.table.beginsReadCommitted == right.table.beginsReadCommitted
                && left.table.hidden == right.table.hidden)
    }

    /// A write may leave state in the session that its text does not tell: by a trigger, say.
    package var leavesState: Bool { table.leavesState }
    /// Something in the database (code, a default, a view) asks for the last values of sequences.
    package var asksSequences: Bool { table.asksSequences }
    /// A transaction is READ COMMITTED unless its session says otherwise: neither the server's configuration nor a setting of
    /// the database or of a role makes it another.
    package var beginsReadCommitted: Bool { table.beginsReadCommitted }

    /// What names that are no functions' make of a query.
    var hidden: HiddenEffects { table.hidden }
    var hiddenShapes: UInt64 { table.hiddenShapes }

    package var isEmpty: Bool { table.entries.isEmpty }

    /// A volatile function of a user may do anything the user may: create a temporary table, call `set_config`, take an
    /// advisory lock. So it is taken to leave state in the session.
    private static func effect(of name: String, _ entry: Entry) -> StatementEffect {
        let listed = BuiltInFunctions.effect(of: name)
        var effect = StatementEffect.read
        switch entry.builtIn {
        case .volatile: effect = listed ?? .write
        case .immutable, .stable: effect = listed ?? .read
        case nil: break
        }
        switch entry.users {
        case .volatile: effect = max(effect, BuiltInFunctions.knownExtensions.contains(name) ? .write : .sessionState)
        case .immutable, .stable: effect = max(effect, listed ?? .read)
        case nil: break
        }
        return effect
    }

    /// What a call of a function makes of a query, and whether it may write besides; nil when there is no such function.
    /// It is the caller who knows what follows from that.
    func effect(of name: String) -> HiddenEffect? {
        if let entry = table.entries[name] { return HiddenEffect(effect: entry.effect, mayWrite: entry.mayWrite) }
        if BuiltInFunctions.grammatical.contains(name) { return HiddenEffect() }
        // A list says nothing of a name that a loaded catalog does not have: it may be a user's newest function.
        guard isEmpty else { return nil }
        if let effect = BuiltInFunctions.effect(of: name) { return HiddenEffect(effect: effect) }
        return BuiltInFunctions.common.contains(name) ? HiddenEffect() : nil
    }

    /// Whether attribute notation may hide a call: `SELECT t.f FROM t` calls `f(t)` when `t` has no column `f`.
    func mayHaveVolatile(shape: UInt64) -> Bool { table.volatileShapes & (1 << shape) != 0 }

    func isUsersVolatile(_ name: String) -> Bool {
        table.entries[name]?.users == .volatile
    }
}
