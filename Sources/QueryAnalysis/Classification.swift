import Glibc

/// What a query string does, as far as routing is concerned. Ordered: of several statements in one string the greatest
/// counts.
package enum StatementEffect: UInt8, Sendable, Comparable {
    /// Nothing at all: an empty string, or only comments.
    case empty
    /// Proven to read only and to leave no state behind: may run on any node.
    case read
    /// Reads only and leaves no state behind, but means something else on a standby: the primary answers it, and it
    /// does not count as a write.
    case primaryRead
    /// SAVEPOINT, RELEASE, ROLLBACK TO, SET LOCAL, SET TRANSACTION: only meaningful inside a transaction, where the
    /// server is settled.
    case transactionControl
    /// COMMIT, END, ROLLBACK, ABORT (with AND CHAIN too).
    case transactionEnd
    /// BEGIN or START TRANSACTION with READ ONLY and not SERIALIZABLE: may run on a standby.
    case beginReadOnly
    /// Any other BEGIN or START TRANSACTION.
    case begin
    /// May write, or is not understood: the primary.
    case write
    /// May leave state behind in the server session (SET, LISTEN, PREPARE, temporary tables, DO, CALL, volatile
    /// functions of the user, …), and may write.
    case sessionState

    package static func < (left: StatementEffect, right: StatementEffect) -> Bool { left.rawValue < right.rawValue }

    /// For a person.
    package var name: String {
        switch self {
        case .empty: "nothing"
        case .read: "read"
        case .primaryRead: "read of the primary"
        case .transactionControl: "transaction control"
        case .transactionEnd: "end of a transaction"
        case .beginReadOnly: "begin of a read-only transaction"
        case .begin: "begin of a transaction"
        case .write: "write"
        case .sessionState: "session state"
        }
    }
}

/// What a query string has to do with state that its text alone does not settle.
package struct StatementTraits: OptionSet, Sendable, Hashable {
    package let rawValue: UInt16

    package init(rawValue: UInt16) { self.rawValue = rawValue }

    // Every query asks for these, in other modules, where what OptionSet brings is not specialized.
    package static var none: StatementTraits { StatementTraits(rawValue: 0) }
    package func contains(_ other: StatementTraits) -> Bool { rawValue & other.rawValue == other.rawValue }

    /// Names prepared statements in SQL (EXECUTE, DEALLOCATE, PREPARE) or lists them.
    package static let namesStatements = StatementTraits(rawValue: 1)
    /// Asks for what the session last took from a sequence, or defines what does.
    package static let asksSequence = StatementTraits(rawValue: 2)
    /// Makes, drops or alters a database, in which then nobody may be connected.
    package static let changesDatabases = StatementTraits(rawValue: 4)
    /// Leaves what not even DISCARD ALL takes back: a library, the seed of `random()`.
    package static let cannotBeDiscarded = StatementTraits(rawValue: 8)
    /// May take a value from a sequence, for which the session may ask later.
    package static let mayTakeFromSequence = StatementTraits(rawValue: 16)
    /// Rather a standby than the primary, for a read.
    package static let wantsStandby = StatementTraits(rawValue: 32)
    /// About the endpoint itself: an `EndpointCommand`, if it stands alone.
    package static let isEndpointCommand = StatementTraits(rawValue: 64)
    /// A comment says how old what it reads may be: `RoutingHint.maxStaleness(in:)`.
    package static let limitsStaleness = StatementTraits(rawValue: 128)
    /// Uses something that may write unseen. A standby refuses that; on the primary it counts as a write.
    package static let mayHideWrite = StatementTraits(rawValue: 256)
    /// Names the time at which its transaction began: `now()`, `current_date` and their kin.
    package static let tellsTransactionTime = StatementTraits(rawValue: 512)

    /// Those that matter although a statement is only prepared or described.
    package static var ofUnexecuted: StatementTraits { StatementTraits(rawValue: 1 | 64) }
}

/// The verdict on one query string.
package struct Classification: Sendable, Equatable {
    package var effect: StatementEffect
    package var traits = StatementTraits.none
    /// Why, in words for a person: "calls the volatile function nextval".
    package var reason: String
    /// How many statements the string holds; empty ones do not count.
    package var statements: Int

    package init(effect: StatementEffect, reason: String, statements: Int = 1) {
        self.effect = effect
        self.reason = reason
        self.statements = statements
    }
}

/// Classifies one simple-query string or the text of one Parse.
///
/// Sound, not complete: it may call a read a write, never the reverse. What no text can show (views, row security, domains
/// and casts over volatile functions) is known as far as the catalog has it (`HiddenEffects`), and else left to the server:
/// a standby cannot write, and its error is not an answer.
///
/// Whether a backslash escapes in a plain `'…'` depends on `standard_conforming_strings`, a setting of the session.
/// When the two readings put the end of a string in different places, both are classified and the greater effect
/// counts; a reading under which the text cannot be lexed is an error on the server, so it has no effect there.
///
/// - Parameters:
///   - sql: the text without its terminating zero, in UTF-8 or any other encoding a server may use, that is one whose
///     multi-byte characters hold no ASCII byte. SJIS, BIG5, GBK, UHC, GB18030, JOHAB and SHIFT_JIS_2004, which only
///     clients may use, do not qualify: the caller sends such sessions to the primary.
///   - functions: the functions of the session's database.
///   - explains: whether the reason is wanted.
package func classify(
    _ sql: UnsafeRawBufferPointer,
    functions: FunctionCatalog,
    explains: Bool = true
) -> Classification {
    guard let base = sql.baseAddress, sql.count > 0 else {
        return Classification(effect: .empty, reason: "holds no statement", statements: 0)
    }
    guard memchr(base, 0, sql.count) == nil else {
        return Classification(effect: .write, reason: "holds a zero byte")
    }
    let text = UnsafeBufferPointer(start: base.assumingMemoryBound(to: UInt8.self), count: sql.count)
    var standard = StatementClassifier(Lexer(text), functions: functions, explains: explains)
    let verdict = standard.classification()
    guard standard.lexer.isAmbiguous else { return verdict }

    var escaping = StatementClassifier(Lexer(text, backslashEscapes: true), functions: functions, explains: explains)
    let other = escaping.classification()
    guard escaping.lexer.failure == nil else { return verdict }
    var greater = other.effect > verdict.effect ? other : verdict
    greater.traits = verdict.traits.union(other.traits)
    return greater
}

extension Classification {
    /// As the free function, for text at hand.
    package static func of(_ sql: String, functions: FunctionCatalog = FunctionCatalog()) -> Classification {
        var sql = sql
        return sql.withUTF8 { classify(UnsafeRawBufferPointer($0), functions: functions) }
    }
}
