public import Balancing
public import Hummingbird

/// Keeps pins on the server, by a key of the application's choice: the session, or the user, whose other devices then see
/// his writes, too.
public struct SessionPinStore<Context: RequestContext, Storage: PersistDriver>: PinStore {
    private let storage: Storage
    private let key: @Sendable (Request, Context) -> String?

    /// - Parameters:
    ///   - storage: shared by all processes that serve the site.
    ///   - key: whose pin it is; `nil` for clients without one, who are not pinned beyond a request.
    public init(storage: Storage, key: @escaping @Sendable (Request, Context) -> String?) {
        self.storage = storage
        self.key = key
    }

    public func pin(of request: Request, context: Context) async throws -> Pin? {
        guard let key = key(request, context) else { return nil }
        return try await storage.get(key: "pin:" + key, as: String.self).flatMap { Pin($0) }
    }

    public func keep(_ pin: Pin, for seconds: Int, of request: Request, context: Context) async throws -> [Cookie] {
        if let key = key(request, context) {
            try await storage.set(key: "pin:" + key, value: pin.description, expires: .seconds(seconds))
        }
        return []
    }
}
