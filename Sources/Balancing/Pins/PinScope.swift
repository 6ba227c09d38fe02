import Synchronization

/// What one request, job or other unit of work remembers of its writes.
///
/// A scope is bound to a task and inherited by its children: what a child task writes pins its siblings and its parent,
/// too, and nothing outlives `withPinScope`, however that ends. A detached task inherits nothing: pass it the scope
/// (`PinScope.current`) and open it again there. Work outside of any scope shares `PinScope.outside`.
public final class PinScope: Sendable {
    private struct State {
        var pin: Pin
        /// How many writes there were, and how many of them the pin's token covers.
        var writes = 0
        var resolvedWrites = 0
        var chosen: Database?
    }

    private let state: Mutex<State>

    /// - Parameter pin: what the same client's earlier requests have left.
    public init(_ pin: Pin = .none) {
        state = Mutex(State(pin: pin))
    }

    /// The scope of the present task.
    public static var current: PinScope { bound ?? outside }

    /// That of all work outside of any scope. Nobody knows there who reads what he has written himself, so each write pins
    /// all of it.
    public static let outside = PinScope()

    @TaskLocal static var bound: PinScope?

    /// Every read goes to the primary: see `withPrimary`.
    @TaskLocal static var readsFromPrimary = false

    public var pin: Pin { state.withLock(\.pin) }

    /// Something was written in this scope.
    public var hasWritten: Bool { state.withLock { $0.writes > 0 } }

    /// Something was written of which no token is known yet: only the primary is sure to show it.
    public var isUnresolved: Bool { state.withLock { $0.writes > $0.resolvedWrites } }

    /// Pins the reads that follow.
    public func extend(by pin: Pin) {
        state.withLock { $0.pin.extend(by: pin) }
    }

    /// Notes a write, which pins the reads that follow.
    ///
    /// - Parameter until: seconds since 1970; 0 when a token will tell.
    public func wrote(until: Double = 0) {
        state.withLock { state in
            state.writes += 1
            state.pin.extend(by: Pin(until: until))
        }
    }

    /// Asks for a token that covers the writes which are done by now, and remembers it. `token` asks the primary, or
    /// Slipstream's endpoint, where its log ends.
    ///
    /// A write of another task that begins meanwhile may be missing from the answer, and stays unresolved.
    ///
    /// - Throws: what `token` throws; nothing is resolved then.
    public func resolveWrites(
        isolation: isolated (any Actor)? = #isolation,
        _ token: () async throws -> FreshnessToken
    ) async rethrows {
        let covered = state.withLock(\.writes)
        let token = try await token()
        state.withLock { state in
            state.resolvedWrites = max(state.resolvedWrites, covered)
            state.pin.extend(by: Pin(token: token))
        }
    }

    /// The database its reads have been sent to, as long as they stay together: see `SteadyRouter`.
    func chosen(_ choose: (Database?) -> Database?) -> Database? {
        let before = state.withLock(\.chosen)
        let after = choose(before)
        if after != before { state.withLock { $0.chosen = after } }
        return after
    }
}

/// Runs one unit of work in a scope of its own.
///
/// - Throws: what `operation` throws.
public func withPinScope<Result>(
    _ scope: PinScope = PinScope(),
    isolation: isolated (any Actor)? = #isolation,
    _ operation: () async throws -> Result
) async rethrows -> Result {
    try await PinScope.$bound.withValue(scope, operation: operation)
}

/// Reads from the primary for as long as `operation` runs, in its child tasks, too. May be nested; when the outermost one
/// ends, reads are as before.
///
/// - Throws: what `operation` throws.
public func withPrimary<Result>(
    isolation: isolated (any Actor)? = #isolation,
    _ operation: () async throws -> Result
) async rethrows -> Result {
    try await PinScope.$readsFromPrimary.withValue(true, operation: operation)
}

/// As above, without suspension.
public func withPrimary<Result>(_ operation: () throws -> Result) rethrows -> Result {
    try PinScope.$readsFromPrimary.withValue(true, operation: operation)
}
