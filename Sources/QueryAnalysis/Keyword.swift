/// The key words whose place in a statement matters to the classifier. All others are only told apart by their traits.
enum Keyword: String, CaseIterable {
    case none
    case all, analyse, analyze, and, `as`, atomic, begin, by, `case`, constraints, deferrable, delete, distinct, end
    case execute, `for`, from, global, hold, insert, into, isolation, key, local, materialized, merge, no, not, on, only
    case or, ordinality, prepared, read, recursive, replace, schema, select, serializable, share, snapshot, stdout,
        table
    case temp, temporary, ties, time, to, transaction, uescape, unlogged, update, values, verbose, with, work, write

    /// Between CREATE and TABLE, VIEW, FUNCTION, …
    var precedesKindOfObject: Bool {
        self == .or || self == .replace || self == .global || self == .local || self == .unlogged || self == .recursive
            || self == .temp || self == .temporary
    }
}

/// What the first word makes of a statement.
enum StatementStart: UInt8 {
    /// No statement that is known here.
    case other
    case query, explain, copy, show, cursor
    case begin, start, end, rollback, savepoint
    case set, prepare, declare, create, alter, change
    /// A statement that leaves state in the session whatever follows.
    case session
}

/// What the grammar lets a word be.
struct KeywordTraits: OptionSet {
    let rawValue: UInt8

    /// Some key word of PostgreSQL 14 to 18.
    static let keyword = KeywordTraits(rawValue: 1)
    /// Never the name of a function unless quoted: reserved words and those of `col_name_keyword`.
    static let namesNoFunction = KeywordTraits(rawValue: 2)
    /// Parentheses after it are part of a clause, unless there is a function of this name.
    static let opensClause = KeywordTraits(rawValue: 4)
}

struct KeywordEntry {
    var keyword: Keyword
    var start: StatementStart
    var traits: KeywordTraits

    static let none = KeywordEntry(keyword: .none, start: .other, traits: [])
}

/// The first 17 bytes of a word in lower case, as many as the longest key word has (`current_timestamp`), and its
/// length.
///
/// All of them count: a function may be called `current_timestamq`.
struct KeywordKey: Equatable {
    private(set) var low: UInt64 = 0
    private(set) var high: UInt64 = 0
    private(set) var last: UInt32 = 0
    private(set) var length: UInt32 = 0

    static let longest = 17

    init() {}

    /// - Parameters:
    ///   - count: at most `longest`.
    ///   - readable: how many bytes may be read, those behind the word with it.
    @inline(__always)
    init(_ bytes: UnsafePointer<UInt8>, count: Int, readable: Int) {
        length = UInt32(truncatingIfNeeded: count)
        low = Self.eight(bytes, count: count, readable: readable)
        guard count > 8 else { return }
        high = Self.eight(bytes + 8, count: count - 8, readable: readable - 8)
        if count > 16 { last = UInt32(foldCase(bytes[16])) }
    }

    /// Up to eight bytes in lower case.
    @inline(__always)
    private static func eight(_ bytes: UnsafePointer<UInt8>, count: Int, readable: Int) -> UInt64 {
        var word: UInt64 = 0
        if readable >= 8 {
            word = UnsafeRawPointer(bytes).loadUnaligned(as: UInt64.self)
            if count < 8 { word &= (1 &<< UInt64(count &* 8)) &- 1 }
        } else {
            for index in 0..<min(count, 8) { word |= UInt64(bytes[index]) &<< UInt64(index &* 8) }
        }
        // All eight at once: the high bit of a byte says whether it is at least "A", and whether it is beyond "Z".
        let low = word & 0x7F7F_7F7F_7F7F_7F7F
        let isUpper = (low &+ 0x3F3F_3F3F_3F3F_3F3F) ^ (low &+ 0x2525_2525_2525_2525)
        return word | (isUpper & ~word & 0x8080_8080_8080_8080) &>> 2
    }

    var slot: Int {
        let mixed = (low ^ (high &* 0x9E37_79B9_7F4A_7C15) &+ UInt64(length)) &* 0xD6E8_FEB8_6659_FD93
        return Int(truncatingIfNeeded: mixed >> 54)
    }
}

/// All key words, in a hash table with open addressing that is built once and never freed.
struct KeywordTable: @unchecked Sendable {
    private struct Slot {
        var key = KeywordKey()
        var entry = KeywordEntry.none
    }

    static let shared = KeywordTable()

    /// Immutable after `init`, hence safe to share.
    private let slots: UnsafeMutablePointer<Slot>
    private static let slotCount = 1024

    private init() {
        slots = .allocate(capacity: Self.slotCount)
        slots.initialize(repeating: Slot(), count: Self.slotCount)
        for words in [Self.reserved, Self.columnNames] {
            insert(words, traits: [.keyword, .namesNoFunction])
        }
        for words in [Self.typeFunctions, Self.unreserved, Self.unreservedLater] { insert(words, traits: .keyword) }
        insert(Self.clauses, traits: [.keyword, .opensClause])
        for (start, words) in Self.starts {
            for word in words.split(separator: " ") { slots[index(of: Self.key(word))].entry.start = start }
        }
    }

    private func insert(_ words: String, traits: KeywordTraits) {
        for word in words.split(separator: " ") {
            let key = Self.key(word)
            let index = index(of: key)
            slots[index].key = key
            slots[index].entry.keyword = Keyword(rawValue: String(word)) ?? .none
            slots[index].entry.traits.formUnion(traits)
        }
    }

    private static func key(_ word: Substring) -> KeywordKey {
        var word = word
        return word.withUTF8 { KeywordKey($0.baseAddress!, count: $0.count, readable: $0.count) }
    }

    /// The slot of a key, or the free one where it belongs.
    @inline(__always)
    private func index(of key: KeywordKey) -> Int {
        var index = key.slot
        while slots[index].key != key, slots[index].key.length != 0 { index = (index &+ 1) & (Self.slotCount &- 1) }
        return index
    }

    @inline(__always)
    func entry(of word: UnsafePointer<UInt8>, count: Int, readable: Int) -> KeywordEntry {
        guard count <= KeywordKey.longest else { return .none }
        return slots[index(of: KeywordKey(word, count: count, readable: readable))].entry
    }
}

// MARK: - The words (pg_get_keywords() of PostgreSQL 15, with those of 16 to 18 at the end)

extension KeywordTable {
    private static let reserved = """
        all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create \
        current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc \
        distinct do else end except false fetch for foreign from grant group having in initially intersect into \
        lateral leading limit localtime localtimestamp not null offset on only or order placing primary references \
        returning select session_user some symmetric table then to trailing true union unique user using variadic when \
        where window with
        """

    private static let columnNames = """
        between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping inout \
        int integer interval least national nchar none normalize nullif numeric out overlay position precision real \
        row setof smallint substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement \
        xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
        """

    private static let typeFunctions = """
        authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left \
        like natural notnull outer overlaps right similar tablesample verbose
        """

    private static let unreserved = """
        abort absolute access action add admin after aggregate also alter always asensitive assertion assignment at \
        atomic attach attribute backward before begin breadth by cache call called cascade cascaded catalog chain \
        characteristics checkpoint class close cluster columns comment comments commit committed compression \
        configuration conflict connection constraints content continue conversion copy cost csv cube current cursor \
        cycle data database day deallocate declare defaults deferred definer delete delimiter delimiters depends depth \
        detach dictionary disable discard document domain double drop each enable encoding encrypted enum escape event \
        exclude excluding exclusive execute explain expression extension external family filter finalize first \
        following force forward function functions generated global granted groups handler header hold hour identity \
        if immediate immutable implicit import include including increment index indexes inherit inherits inline input \
        insensitive insert instead invoker isolation key label language large last leakproof level listen load local \
        location lock locked logged mapping match matched materialized maxvalue merge method minute minvalue mode \
        month move name names new next nfc nfd nfkc nfkd no normalized nothing notify nowait nulls object of off oids \
        old operator option options ordinality others over overriding owned owner parallel parameter parser partial \
        partition passing password plans policy preceding prepare prepared preserve prior privileges procedural \
        procedure procedures program publication quote range read reassign recheck recursive ref referencing refresh \
        reindex relative release rename repeatable replace replica reset restart restrict return returns revoke role \
        rollback rollup routine routines rows rule savepoint schema schemas scroll search second security sequence \
        sequences serializable server session set sets share show simple skip snapshot sql stable standalone start \
        statement statistics stdin stdout storage stored strict strip subscription support sysid system tables \
        tablespace temp template temporary text ties transaction transform trigger truncate trusted type types uescape \
        unbounded uncommitted unencrypted unknown unlisten unlogged until update vacuum valid validate validator value \
        varying version view views volatile whitespace within without work wrapper write xml year yes zone
        """

    /// Since PostgreSQL 16. Those the grammar gives parentheses of their own are functions in `BuiltInFunctions`.
    private static let unreservedLater = """
        absent asensitive conditional empty enforced error format indent json json_array json_arrayagg json_exists \
        json_object json_objectagg json_query json_scalar json_serialize json_table json_value keep keys lsn \
        merge_action nested objects omit parameters path period plan quotes scalar source split string system_user \
        target unconditional virtual wait
        """

    private static let clauses = """
        by columns conflict content copy cube data delete document escape filter first groups ilike include insert is \
        join key like materialized next operator over overlaps passing path range repeatable return rollup rows second \
        set sets share similar tablesample update value varying verbose version view within zone
        """

    private static let starts: [(StatementStart, String)] = [
        (.query, "select values table with"),
        (.explain, "explain"), (.copy, "copy"), (.show, "show"), (.cursor, "fetch move close"),
        (.begin, "begin"), (.start, "start"), (.end, "commit end"), (.rollback, "rollback abort"),
        (.savepoint, "savepoint release"), (.set, "set"), (.prepare, "prepare"), (.declare, "declare"),
        (.create, "create"), (.alter, "alter"), (.change, "insert update delete merge"),
        (.session, "reset listen unlisten execute deallocate discard load do call"),
    ]
}
