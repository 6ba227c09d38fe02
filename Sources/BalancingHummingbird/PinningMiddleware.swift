import Balancing
public import Hummingbird
import Logging

/// Runs each request in a `PinScope`, and carries what it has written over to the client's next requests.
///
/// Put it outside of everything that reads or writes. What a response body writes while it is streamed comes too late
/// for its header, and is outside of the scope.
public struct PinningMiddleware<Store: PinStore>: RouterMiddleware {
    public typealias Context = Store.Context

    /// Which requests pin the client.
    public enum Trigger: Sendable {
        /// Those that wrote something, whatever their method.
        case writes
        /// Those with a method that is not safe (RFC 9110, 9.2.1), whether they wrote or not; writes of others pin themselves
        /// only. Such requests read from the primary, too.
        case unsafeMethods
        /// Those that wrote something with a method that is not safe: counters and logs of GET requests pin nobody.
        case writesOfUnsafeMethods
    }

    private let store: Store
    private let trigger: Trigger
    private let seconds: Double
    private let tokenSeconds: Double

    /// - Parameters:
    ///   - store: a `CookiePinStore` or a `SessionPinStore`.
    ///   - trigger: which requests pin the client.
    ///   - seconds: how long, when no token says it exactly.
    ///   - tokenSeconds: how long a token is kept; no replica should lag more.
    public init(store: Store, trigger: Trigger = .writes, seconds: Double = 5, tokenSeconds: Double = 3600) {
        precondition(seconds > 0 && tokenSeconds > 0, "a pin lasts more than 0 seconds")
        self.store = store
        self.trigger = trigger
        self.seconds = seconds
        self.tokenSeconds = tokenSeconds
    }

    public func handle(
        _ request: Request,
        context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        let scope = PinScope(try await store.pin(of: request, context: context) ?? .none)
        let isUnsafe = ![.get, .head, .options, .trace].contains(request.method)
        var response: Response
        do {
            response = try await withPinScope(scope) {
                guard isUnsafe, case .unsafeMethods = trigger else { return try await next(request, context) }
                return try await withPrimary { try await next(request, context) }
            }
        } catch {
            // What was written before the error was written: the client must see it all the same.
            guard pins(isUnsafe, scope) else { throw error }
            response = try self.response(to: error, request, context)
        }
        if pins(isUnsafe, scope) {
            for cookie in try await keep(scope, request, context) { response.setCookie(cookie) }
        }
        return response
    }

    private func pins(_ isUnsafe: Bool, _ scope: PinScope) -> Bool {
        switch trigger {
        case .writes: scope.hasWritten
        case .unsafeMethods: isUnsafe
        case .writesOfUnsafeMethods: isUnsafe && scope.hasWritten
        }
    }

    private func keep(_ scope: PinScope, _ request: Request, _ context: Context) async throws -> [Cookie] {
        var pin = scope.pin
        // Whose end no token tells ends by the clock.
        if scope.isUnresolved || pin.token == nil { pin.extend(by: Pin(until: secondsSince1970() + seconds)) }
        let lifetime = pin.token == nil ? pin.until - secondsSince1970() : tokenSeconds
        return try await store.keep(pin, for: max(1, Int(lifetime.rounded(.up))), of: request, context: context)
    }

    private func response(to error: any Error, _ request: Request, _ context: Context) throws -> Response {
        if let error = error as? any HTTPResponseError { return try error.response(from: request, context: context) }
        context.logger.error("a request failed after it had written: \(error)")
        return Response(status: .internalServerError)
    }
}
