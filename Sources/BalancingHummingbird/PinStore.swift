public import Balancing
public import Hummingbird

/// Where a client's pin waits for its next request.
public protocol PinStore: Sendable {
    associatedtype Context: RequestContext

    /// What the client's last requests have left, or `nil`. Anything a client may have made up is `nil`, too.
    func pin(of request: Request, context: Context) async throws -> Pin?

    /// Keeps a pin.
    ///
    /// - Parameter seconds: for how long at most.
    /// - Returns: the header fields that the response must carry.
    func keep(_ pin: Pin, for seconds: Int, of request: Request, context: Context) async throws -> [Cookie]
}
