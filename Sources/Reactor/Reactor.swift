import CReactor
import Glibc

/// One finished operation.
package struct Completion {
    /// What the caller gave with the operation.
    package var token: UInt64
    /// Bytes, or the accepted descriptor, or a negative errno.
    package var result: Int32
    /// The buffer lent to a `receive`; the receiver of the completion now holds it.
    package var buffer: BufferID?
    /// The operation has ended: an `accept` has to be started again.
    package var isLast = true
}

/// Why a loop could not be made.
package struct ReactorError: Error, CustomStringConvertible {
    package var operation: String
    package var code: Int32
    package var description: String { "\(operation): \(String(cString: strerror(code)))" }
}

/// What io_uring and epoll have in common; `Reactor` says what is promised.
protocol EventLoop: AnyObject {
    func accept(_ descriptor: Int32, token: UInt64)
    func connect(_ descriptor: Int32, _ target: sockaddr_in, token: UInt64)
    /// - Parameter memory: `nil` to be lent a buffer when bytes are there.
    func receive(_ descriptor: Int32, into memory: UnsafeMutableRawBufferPointer?, token: UInt64)
    func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, token: UInt64)
    func cancel(_ descriptor: Int32)
    /// The descriptor is about to be closed.
    func forget(_ descriptor: Int32)
    func wait(timeout: Int64, gather: Int, gatherMicroseconds: UInt32)
    func next() -> Completion?
}

/// The completion-style socket loop of one worker: io_uring where the kernel lets us, epoll elsewhere, behind one contract.
///
/// The contract:
/// - Every operation completes exactly once, in `next()`, with the token it was started with; `accept` completes once
///   per connection until it fails.
/// - At most one `receive` and one `send` are outstanding per descriptor. A `send` completes when all bytes were taken,
///   or with an error. A `receive` that is not told where to put the bytes is lent a buffer when bytes are there, so that
///   an idle connection holds none; without a buffer to lend it fails with `ENOBUFS` and may be started again.
/// - After `cancel`, what is outstanding on the descriptor completes soon (with `ECANCELED`, or with its result where
///   that was faster); memory given to a `send` or `receive` stays untouched until then. `close` comes after that.
/// - Only `wake` may be called from another thread.
package final class Reactor {
    package enum Kind: String, Sendable {
        case uring = "io_uring"
        case epoll
    }

    package let kind: Kind
    package let buffers: BufferPool
    private let loop: any EventLoop
    private let wakeDescriptor: Int32

    /// Makes a loop on the calling thread, which must be the one that uses it.
    package init(kind: Kind) throws(ReactorError) {
        self.kind = kind
        buffers = BufferPool()
        wakeDescriptor = creactor_eventfd()
        guard wakeDescriptor >= 0 else { throw ReactorError(operation: "eventfd", code: errno) }
        do throws(ReactorError) {
            switch kind {
            case .uring: loop = try UringLoop(buffers: buffers, wakeDescriptor: wakeDescriptor)
            case .epoll: loop = try EpollLoop(buffers: buffers, wakeDescriptor: wakeDescriptor)
            }
        } catch {
            Glibc.close(wakeDescriptor)
            throw error
        }
    }

    deinit {
        Glibc.close(wakeDescriptor)
    }

    /// Names the calling thread, as `top -H` shows it: 15 bytes at most.
    package func nameThread(_ name: String) {
        creactor_name_thread(name)
    }

    /// Asks the scheduler for longer turns of the calling thread.
    ///
    /// What a loop sends wakes others, which would rather run at once: it is to finish what it has begun, and let many run
    /// after it. Source: sched_setattr(2); slices of normal threads since Linux 6.12, without effect before.
    package func askForLongTurns() {
        creactor_ask_for_slice(10_000_000)
    }

    /// Whether io_uring can be had, and if not, why.
    package static func uringProblem() -> ReactorError? {
        do throws(ReactorError) {
            _ = try Reactor(kind: .uring)
            return nil
        } catch {
            return error
        }
    }

    // MARK: - Operations

    /// Accepts connections on a listening socket, again and again.
    package func accept(_ descriptor: Int32, token: UInt64) {
        loop.accept(descriptor, token: token)
    }

    /// Connects to an IPv4 address (host byte order).
    package func connect(_ descriptor: Int32, address: UInt32, port: UInt16, token: UInt64) {
        var socketAddress = sockaddr_in()
        socketAddress.sin_family = sa_family_t(AF_INET)
        socketAddress.sin_port = port.bigEndian
        socketAddress.sin_addr.s_addr = address.bigEndian
        loop.connect(descriptor, socketAddress, token: token)
    }

    /// Receives into a buffer that is lent when bytes arrive. 0 bytes: the peer has closed.
    package func receive(_ descriptor: Int32, token: UInt64) {
        loop.receive(descriptor, into: nil, token: token)
    }

    /// Receives into memory the caller holds.
    package func receive(_ descriptor: Int32, into memory: UnsafeMutableRawBufferPointer, token: UInt64) {
        loop.receive(descriptor, into: memory, token: token)
    }

    /// Sends all of `bytes`, which stay untouched until the completion.
    package func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, token: UInt64) {
        loop.send(descriptor, bytes, token: token)
    }

    /// Ends what is outstanding on a descriptor.
    package func cancel(_ descriptor: Int32) {
        loop.cancel(descriptor)
    }

    /// Closes a descriptor on which nothing is outstanding any more.
    package func close(_ descriptor: Int32) {
        loop.forget(descriptor)
        Glibc.close(descriptor)
    }

    // MARK: - Waiting

    /// Submits what was started and waits until something completes, `wake` is called or the time is over.
    ///
    /// - Parameters:
    ///   - timeout: nanoseconds; negative for no limit.
    ///   - gather: when the loop can, wait up to `gatherMicroseconds` for that many completions: fewer wake-ups when many
    ///     answers are on their way (decision note on the reactor).
    package func wait(timeout: Int64, gather: Int = 1, gatherMicroseconds: UInt32 = 0) {
        loop.wait(timeout: timeout, gather: gather, gatherMicroseconds: gatherMicroseconds)
    }

    /// The next completion, or `nil` when it is time to `wait` again.
    package func next() -> Completion? {
        loop.next()
    }

    /// Makes `wait` return. May be called from any thread, as long as the reactor lives.
    package var waker: Waker {
        Waker(descriptor: wakeDescriptor)
    }

    /// Wakes a reactor from another thread.
    package struct Waker: Sendable {
        fileprivate let descriptor: Int32

        package func wake() {
            var one: UInt64 = 1
            _ = Glibc.write(descriptor, &one, 8)
        }
    }
}
