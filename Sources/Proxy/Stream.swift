import Glibc
import ProxyCore
import Reactor

/// What a stream tells its owner. Calls come from the worker's loop, one at a time.
protocol StreamOwner: AnyObject {
    /// Bytes were added to `stream.input`.
    func streamDidReceive(_ stream: Stream)
    /// Everything that was to be sent has been taken.
    func streamDidSendAll(_ stream: Stream)
    func streamDidConnect(_ stream: Stream)
    /// The TLS handshake begun with `secure` is done.
    func streamDidSecure(_ stream: Stream)
    /// The peer has closed or the connection failed; `code` is an errno, 0 after an orderly end.
    func streamDidBreak(_ stream: Stream, code: Int32)
    /// The time that was set with `Worker.limitTime` is over.
    func streamTookTooLong(_ stream: Stream)
}

extension StreamOwner {
    func streamDidSecure(_ stream: Stream) {}
}

/// One connected socket of a worker: what it has received and not worked off, and what it has still to send.
///
/// At most one receive and one send are outstanding. Buffers are held only while bytes are in them.
final class Stream {
    /// Bytes received into one buffer. `start..<end` are not worked off; up to `scanned` they were looked at.
    struct Input {
        var buffer: BufferID
        @Offset var start: Int
        @Offset var scanned: Int
        @Offset var end: Int

        var count: Int { end - start }
    }

    struct Send {
        var buffer: BufferID
        @Offset var start: Int
        @Offset var count: Int
        /// The buffer is this send's alone: more can be put behind it before it is started.
        var isOpen = false
    }

    /// A place in a buffer, stored small: an idle stream is mostly these.
    @propertyWrapper
    struct Offset {
        private var stored: UInt32

        init(wrappedValue: Int) { stored = UInt32(truncatingIfNeeded: wrappedValue) }

        var wrappedValue: Int {
            get { Int(stored) }
            set { stored = UInt32(truncatingIfNeeded: newValue) }
        }
    }

    let index: Int
    let reactor: Reactor
    let worker: Worker
    /// Outlives the stream or has closed it: `close` ends the reference.
    private(set) unowned(unsafe) var owner: (any StreamOwner)?

    // What is not private belongs to this file and to Stream+Security.
    var queue: [Send] = []
    /// From `secure` on: what goes through the socket is ciphertext.
    var security: StreamSecurity?
    let descriptor: Int32
    @Offset private(set) var queueHead: Int
    var input: Input?
    /// Received while `input` was still in use.
    var nextInput: Input?
    private var current: Send?
    var isReceiving = false
    /// The peer has sent its last byte.
    var hasEnded = false
    private(set) var receivesIntoInput = false
    private var isConnecting = false
    private(set) var isClosing = false
    private var closesWhenSent = false
    private var cancelled = false
    private var isForgotten = false

    init(index: Int, descriptor: Int32, worker: Worker) {
        self.index = index
        self.descriptor = descriptor
        self.worker = worker
        self.reactor = worker.reactor
        _queueHead = Offset(wrappedValue: 0)
    }

    func belongs(to owner: any StreamOwner) {
        self.owner = owner
    }

    // MARK: - Connecting

    func connect(address: UInt32, port: UInt16) {
        isConnecting = true
        reactor.connect(descriptor, address: address, port: port, token: Token.connect.token(for: index))
    }

    func didConnect(_ result: Int32) {
        isConnecting = false
        if isClosing {
            closeIfQuiet()
        } else if result < 0 {
            owner?.streamDidBreak(self, code: -result)
        } else {
            owner?.streamDidConnect(self)
        }
    }

    // MARK: - Receiving

    /// The unread bytes and, before them, those of the same buffer that were worked off.
    var bytes: UnsafeRawBufferPointer {
        guard let input else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(rebasing: reactor.buffers.memory(of: input.buffer)[..<input.end])
    }

    /// The unread bytes.
    var unread: UnsafeRawBufferPointer {
        guard let input else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(rebasing: reactor.buffers.memory(of: input.buffer)[input.start..<input.end])
    }

    var hasUnread: Bool { (input?.count ?? 0) > 0 }

    /// Whether unread bytes fill a whole buffer, so that no more can be joined to them.
    var isFull: Bool { (input?.count ?? 0) == BufferPool.bufferSize }

    /// Receives what comes next, unless something received is still waiting.
    func receive() {
        guard !isReceiving, !isClosing, !hasEnded, nextInput == nil else { return }
        if let security {
            receive(security)
            return
        }
        isReceiving = true
        receivesIntoInput = false
        reactor.receive(descriptor, token: Token.receive.token(for: index))
    }

    /// Receives more behind the unread bytes, which are not enough to go on with.
    ///
    /// Bytes that have come already are joined at once; the return value says so.
    func receiveMore() -> Bool {
        guard var input, input.count > 0 else {
            if promoteNext() { return true }
            receive()
            return false
        }
        if let waiting = nextInput {
            makeRoom()
            input = self.input ?? input
            let count = min(waiting.count, BufferPool.bufferSize - input.end)
            guard count > 0 else { return false }
            let target = reactor.buffers.memory(of: input.buffer)
            let source = reactor.buffers.memory(of: waiting.buffer)
            target.baseAddress?.advanced(by: input.end)
                .copyMemory(from: UnsafeRawPointer(source.baseAddress!) + waiting.start, byteCount: count)
            self.input?.end += count
            if count == waiting.count {
                reactor.buffers.release(waiting.buffer)
                nextInput = nil
            } else {
                nextInput?.start += count
                nextInput?.scanned += count
            }
            return true
        }
        guard !isReceiving, !isClosing, !hasEnded else { return false }
        makeRoom()
        guard let room = self.input, room.end < BufferPool.bufferSize else {
            worker.retryReceive(self)
            return false
        }
        if let security { return receiveMore(security) }
        isReceiving = true
        receivesIntoInput = true
        let memory = reactor.buffers.memory(of: room.buffer)
        reactor.receive(
            descriptor,
            into: UnsafeMutableRawBufferPointer(rebasing: memory[room.end...]),
            token: Token.receive.token(for: index)
        )
        return false
    }

    /// Moves the unread bytes to the front of a buffer when there is little room behind them. A buffer that a send still
    /// reads from is left alone: the bytes move to another.
    func makeRoom() {
        guard let input, input.start > 0, !(isReceiving && receivesIntoInput) else { return }
        let isShared = reactor.buffers.holders(of: input.buffer) > 1
        guard isShared || input.end > BufferPool.bufferSize / 2 else { return }
        let source = reactor.buffers.memory(of: input.buffer)
        var target = input.buffer
        if isShared {
            guard let fresh = reactor.buffers.take() else { return }
            target = fresh
        }
        reactor.buffers.memory(of: target).baseAddress?
            .copyMemory(from: UnsafeRawPointer(source.baseAddress!) + input.start, byteCount: input.count)
        if isShared { reactor.buffers.release(input.buffer) }
        self.input = Input(buffer: target, start: 0, scanned: input.scanned - input.start, end: input.count)
    }

    /// The first `count` unread bytes are worked off.
    func consume(_ count: Int) {
        guard var input else { return }
        input.start += count
        input.scanned = max(input.scanned, input.start)
        if input.start >= input.end, !(isReceiving && receivesIntoInput) {
            reactor.buffers.release(input.buffer)
            self.input = nil
            _ = promoteNext()
        } else {
            self.input = input
        }
    }

    /// Overwrites a number in the unread bytes, big-endian; `offset` as in `bytes`.
    func overwrite(_ value: Int32, at offset: Int) {
        guard let input else { return }
        reactor.buffers.memory(of: input.buffer).storeBytes(of: value.bigEndian, toByteOffset: offset, as: Int32.self)
    }

    /// Moves bytes towards the end, over others that nobody needs; offsets as in `bytes`.
    func move(_ range: Range<Int>, by count: Int) {
        guard let input, !range.isEmpty, let base = reactor.buffers.memory(of: input.buffer).baseAddress else { return }
        (base + range.lowerBound + count).copyMemory(from: base + range.lowerBound, byteCount: range.count)
    }

    /// Bytes up to this offset of the buffer were looked at.
    func markScanned(_ offset: Int) {
        input?.scanned = offset
    }

    private func promoteNext() -> Bool {
        guard input == nil, let waiting = nextInput else { return false }
        input = waiting
        nextInput = nil
        return true
    }

    func didReceive(_ result: Int32, _ buffer: BufferID?) {
        isReceiving = false
        if isClosing {
            if let buffer { reactor.buffers.release(buffer) }
            closeIfQuiet()
            return
        }
        if result <= 0 {
            if result == -Int32(ENOBUFS) {
                worker.retryReceive(self)
            } else {
                hasEnded = true
                owner?.streamDidBreak(self, code: -result)
            }
            return
        }
        if let security, let buffer {
            security.ciphertext = Input(buffer: buffer, start: 0, scanned: 0, end: Int(result))
            deliver(security)
            return
        }
        if let buffer {
            let received = Input(buffer: buffer, start: 0, scanned: 0, end: Int(result))
            if input == nil {
                input = received
            } else {
                nextInput = received
            }
        } else {
            input?.end += Int(result)
        }
        owner?.streamDidReceive(self)
    }

    // MARK: - Sending

    var isSending: Bool { current != nil }

    /// Sends a range of a buffer, which stays held until all of it was taken.
    func send(_ buffer: BufferID, _ range: Range<Int>) {
        guard !range.isEmpty, !isClosing else { return }
        if let security {
            let bytes = UnsafeRawBufferPointer(rebasing: reactor.buffers.memory(of: buffer)[range])
            encrypt(bytes, security)
            return
        }
        reactor.buffers.retain(buffer)
        enqueue(Send(buffer: buffer, start: range.lowerBound, count: range.count))
    }

    /// Sends bytes of our own making.
    func send(_ bytes: [UInt8]) {
        guard !isClosing else { return }
        if let security {
            bytes.withUnsafeBytes { encrypt($0, security) }
        } else {
            sendPlain(bytes)
        }
    }

    /// Sends bytes as they are, whatever they are.
    func sendPlain(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            guard let buffer = reactor.buffers.take() else {
                worker.breakLater(self)
                return
            }
            let part = rest.prefix(BufferPool.bufferSize)
            reactor.buffers.memory(of: buffer).copyBytes(from: part)
            enqueue(Send(buffer: buffer, start: 0, count: part.count))
            rest = rest.dropFirst(part.count)
        }
    }

    func enqueue(_ send: Send) {
        if current == nil {
            start(send)
        } else {
            queue.append(send)
        }
    }

    private func start(_ send: Send) {
        current = send
        let memory = UnsafeRawBufferPointer(reactor.buffers.memory(of: send.buffer))
        reactor.send(
            descriptor,
            UnsafeRawBufferPointer(rebasing: memory[send.start..<send.start + send.count]),
            token: Token.send.token(for: index)
        )
    }

    func didSend(_ result: Int32) {
        guard let sent = current else { return }
        reactor.buffers.release(sent.buffer)
        current = nil
        if result < 0 || Int(result) < sent.count {
            dropQueue()
            if isClosing {
                closeIfQuiet()
            } else {
                owner?.streamDidBreak(self, code: result < 0 ? -result : EPIPE)
            }
            return
        }
        if queueHead < queue.count {
            let following = queue[queueHead]
            queueHead += 1
            if queueHead == queue.count {
                queue.removeAll(keepingCapacity: true)
                queueHead = 0
            }
            start(following)
        } else if isClosing {
            closeIfQuiet()
        } else {
            if let security { sentAll(security) }
            owner?.streamDidSendAll(self)
        }
    }

    private func dropQueue() {
        for send in queue[queueHead...] { reactor.buffers.release(send.buffer) }
        queue.removeAll(keepingCapacity: true)
        queueHead = 0
    }

    // MARK: - Closing

    /// Closes the socket as soon as nothing is outstanding on it.
    ///
    /// - Parameter flush: send first what is queued, for a few seconds at most.
    func close(flush: Bool = false) {
        guard !isClosing else {
            if !flush { abandon() }
            return
        }
        if let security { end(security, politely: flush) }
        isClosing = true
        owner = nil
        for held in [input, nextInput] {
            // Memory the kernel receives into is given back when the receive has ended.
            if let held, !(isReceiving && receivesIntoInput && held.buffer == input?.buffer) {
                reactor.buffers.release(held.buffer)
            }
        }
        if !(isReceiving && receivesIntoInput) { input = nil }
        nextInput = nil
        if flush, current != nil {
            closesWhenSent = true
            worker.limitClosing(self)
        } else {
            abandon()
        }
    }

    func tookTooLong() {
        owner?.streamTookTooLong(self)
    }

    func breakNow() {
        if !isClosing { owner?.streamDidBreak(self, code: ENOBUFS) }
    }

    /// Gives up what is still to be sent.
    func abandon() {
        guard !cancelled else { return }
        closesWhenSent = false
        dropQueue()
        cancelOutstanding()
        closeIfQuiet()
    }

    private func cancelOutstanding() {
        guard !cancelled, isReceiving || current != nil || isConnecting else { return }
        cancelled = true
        reactor.cancel(descriptor)
    }

    private func closeIfQuiet() {
        if isForgotten || (current != nil && closesWhenSent) { return }
        if isReceiving || current != nil || isConnecting {
            cancelOutstanding()
            return
        }
        if let input {
            reactor.buffers.release(input.buffer)
            self.input = nil
        }
        isForgotten = true
        reactor.close(descriptor)
        worker.forget(self)
    }
}
