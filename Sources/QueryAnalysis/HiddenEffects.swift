/// What using a name makes of a query, although the query's text does not show it.
struct HiddenEffect: Sendable, Equatable {
    var effect = StatementEffect.read
    /// It may write besides, which is for a standby to find out: most functions are volatile only because nobody said
    /// otherwise.
    var mayWrite = false
}

/// What views, tables with row security, domains, types and sequences hide, by unqualified name, each with the worst of
/// all schemas.
struct HiddenEffects: Sendable, Equatable {
    /// By ``nameHash(_:)``, for which no string has to be made. Two names of one hash are taken for one, the worse one.
    private var effects: [UInt64: HiddenEffect] = [:]
    /// The ``nameShape(length:first:last:)``s of all names, as a set of bits: a filter in front of a look-up.
    private(set) var shapes: UInt64 = 0

    static let none = HiddenEffects()

    subscript(hash: UInt64) -> HiddenEffect? { effects[hash] }

    /// Adds to what a name hides. Returns whether that was news.
    mutating func add(_ hidden: HiddenEffect, to name: String) -> Bool {
        guard let first = name.utf8.first, let last = name.utf8.last else { return false }
        let hash = nameHash(name.utf8)
        let known = effects[hash] ?? HiddenEffect()
        let worse = HiddenEffect(effect: max(known.effect, hidden.effect), mayWrite: known.mayWrite || hidden.mayWrite)
        guard worse != known else { return false }
        effects[hash] = worse
        shapes |= 1 << nameShape(length: name.utf8.count, first: first, last: last)
        return true
    }
}

/// What using a name runs: a view's query; a policy's or a domain's condition, as a query.
package struct Definition: Sendable {
    package var name: String
    package var query: String

    package init(name: String, query: String) {
        self.name = name
        self.query = query
    }
}

extension FunctionCatalog {
    /// These functions, and what using other names hides, as this classifier understands their definitions.
    ///
    /// - Parameters:
    ///   - sequences: relations that are ahead on a standby.
    ///   - believed: the same functions; of the users' only those are volatile of which more is known than that nobody
    ///     said otherwise. What they make of a definition is certain enough to keep it from standbys.
    package func hiding(
        _ definitions: [Definition],
        sequences: [String],
        believed: FunctionCatalog
    ) -> FunctionCatalog {
        var hidden = HiddenEffects.none
        for name in sequences { _ = hidden.add(HiddenEffect(effect: .primaryRead), to: name) }
        // Definitions use each other, in any order.
        var hasNews = !definitions.isEmpty
        while hasNews {
            hasNews = false
            let functions = FunctionCatalog(believed, hidden: hidden)
            for definition in definitions {
                let verdict = Classification.of(definition.query, functions: functions)
                let found = HiddenEffect(
                    effect: verdict.effect,
                    mayWrite: verdict.traits.contains(.mayHideWrite)
                )
                if hidden.add(found, to: definition.name) { hasNews = true }
            }
        }
        return FunctionCatalog(self, hidden: hidden)
    }

    /// These functions, and what using other names hides according to an older catalog.
    package func hidingWhat(_ older: FunctionCatalog) -> FunctionCatalog { FunctionCatalog(self, hidden: older.hidden) }
}
