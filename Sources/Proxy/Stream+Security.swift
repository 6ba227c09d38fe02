import Glibc
import Reactor
import TransportSecurity

/// The TLS of a stream, and where it stands.
final class StreamSecurity {
    let engine: TLSEngine
    /// Received and not decrypted, for want of room.
    var ciphertext: Stream.Input?
    /// The next plaintext goes behind the unread bytes.
    var joins = false
    /// A look at what waits is due; a receive was asked for.
    var isDecryptDue = false
    /// Receiving goes on when all was sent: a peer that keeps asking for new keys must read our answers.
    var receivesWhenSent = false
    /// How the stream ends once the bytes before were taken: an errno, 0 for close_notify.
    var ending: Int32?
    /// The owner knows that the handshake is done.
    var isAnnounced = false
    /// TLS itself answered what was decrypted last.
    var hasAnswered = false

    init(_ engine: TLSEngine) {
        self.engine = engine
    }

    /// Something can be decrypted, or said, without receiving more.
    var hasWaiting: Bool { ciphertext != nil || ending != nil || engine.hasPlaintext }
}

/// TLS from some point of a stream's life on. Above it nothing changes: `input` is plaintext, what is sent is plaintext, and
/// the owner is called as often as without.
///
/// Ciphertext is received into a lent buffer, and decrypted at once into another, or behind the unread bytes; it waits only
/// when they leave no room. What is sent is encrypted at once, into buffers that go out in order.
extension Stream {
    /// Goes on in TLS. Nothing in plaintext is accepted from here on; what was sent before still goes out as it is.
    ///
    /// - Parameter takesUnread: the unread bytes are the beginning of the handshake. Otherwise there must be none: somebody in
    ///   the middle may have put them there (CVE-2021-23214, CVE-2021-23222).
    /// - Returns: false when there are such bytes.
    func secure(_ engine: TLSEngine, takesUnread: Bool = false) -> Bool {
        guard security == nil, !isClosing, nextInput == nil, !(isReceiving && receivesIntoInput) else { return false }
        let security = StreamSecurity(engine)
        if let unread = input {
            guard takesUnread else { return false }
            security.ciphertext = unread
            input = nil
        }
        self.security = security
        sendPending(security)
        noteEnding(security)
        return true
    }

    /// Why TLS came to an end; `nil` while it has not, or when the peer closed as it should.
    var securityProblem: String? {
        guard let security else { return nil }
        switch security.engine.phase {
        case .failed(let problem): return problem.description
        case .handshaking: return hasEnded ? "the peer closed the connection during the TLS handshake" : nil
        case .established, .ended: return nil
        }
    }

    // MARK: - Receiving

    func receive(_ security: StreamSecurity) {
        security.joins = false
        receiveCiphertext(security)
    }

    /// Returns whether bytes were joined to the unread ones.
    func receiveMore(_ security: StreamSecurity) -> Bool {
        security.joins = true
        if security.hasWaiting, security.ending == nil, let count = decrypt(security), count > 0 {
            security.isDecryptDue = false
            return true
        }
        receiveCiphertext(security)
        return false
    }

    private func receiveCiphertext(_ security: StreamSecurity) {
        guard !isReceiving, !security.isDecryptDue, !security.receivesWhenSent else { return }
        if security.hasWaiting {
            security.isDecryptDue = true
            worker.decryptLater(self)
        } else {
            isReceiving = true
            reactor.receive(descriptor, token: Token.receive.token(for: index))
        }
    }

    func decryptWaiting() {
        guard let security, security.isDecryptDue, !isClosing else { return }
        security.isDecryptDue = false
        guard nextInput == nil else { return }
        deliver(security)
    }

    /// Decrypts what is there, and tells the owner what came of it.
    func deliver(_ security: StreamSecurity) {
        guard let count = security.ending == nil ? decrypt(security) : 0 else {
            worker.retryReceive(self)
            return
        }
        if !security.isAnnounced, security.engine.isEstablished {
            security.isAnnounced = true
            owner?.streamDidSecure(self)
            guard !isClosing else { return }
        }
        if count > 0 {
            owner?.streamDidReceive(self)
        } else if let ending = security.ending {
            hasEnded = true
            owner?.streamDidBreak(self, code: ending)
        } else if isSending, security.isAnnounced, security.hasAnswered {
            security.receivesWhenSent = true
        } else {
            receiveCiphertext(security)
        }
    }

    /// Decrypts as much as there is room for. Returns how many bytes that were; `nil` when no buffer can be had.
    private func decrypt(_ security: StreamSecurity) -> Int? {
        let buffers = reactor.buffers
        let engine = security.engine
        var ciphertext = UnsafeRawBufferPointer(start: nil, count: 0)
        if let waiting = security.ciphertext {
            ciphertext = UnsafeRawBufferPointer(
                rebasing: buffers.memory(of: waiting.buffer)[waiting.start..<waiting.end]
            )
        }
        let joins = security.joins && input != nil && nextInput == nil
        if joins { makeRoom() }
        let decrypted: TLSEngine.Decrypted
        if joins, let room = input, room.end < BufferPool.bufferSize {
            let memory = UnsafeMutableRawBufferPointer(rebasing: buffers.memory(of: room.buffer)[room.end...])
            decrypted = engine.decrypt(ciphertext, into: memory)
            input?.end += decrypted.produced
        } else {
            guard nextInput == nil, let fresh = buffers.take() else { return nil }
            decrypted = engine.decrypt(ciphertext, into: buffers.memory(of: fresh))
            let received = Input(buffer: fresh, start: 0, scanned: 0, end: decrypted.produced)
            if decrypted.produced == 0 {
                buffers.release(fresh)
            } else if input == nil {
                input = received
            } else {
                nextInput = received
            }
        }
        consume(decrypted.consumed, of: security)
        security.hasAnswered = engine.hasPending
        sendPending(security)
        noteEnding(security)
        return decrypted.produced
    }

    private func noteEnding(_ security: StreamSecurity) {
        switch security.engine.phase {
        case .handshaking, .established: break
        case .ended: security.ending = 0
        case .failed: security.ending = EPROTO
        }
    }

    private func consume(_ count: Int, of security: StreamSecurity) {
        guard let waiting = security.ciphertext else { return }
        let isOver: Bool =
            switch security.engine.phase {
            case .handshaking, .established: waiting.count == count
            case .ended, .failed: true
            }
        if isOver {
            reactor.buffers.release(waiting.buffer)
            security.ciphertext = nil
        } else {
            security.ciphertext?.start += count
        }
    }

    // MARK: - Sending

    /// Before the handshake is done nothing can be said; whoever tries has nobody to say it to.
    func encrypt(_ plaintext: UnsafeRawBufferPointer, _ security: StreamSecurity) {
        var rest = plaintext
        while !rest.isEmpty {
            switch security.engine.phase {
            case .handshaking, .failed: return
            case .established, .ended: break
            }
            let encrypted: TLSEngine.Encrypted
            if let last = queue.last, queueHead < queue.count, last.isOpen,
                case let end = last.start + last.count, end + 2 * TLSEngine.recordOverhead < BufferPool.bufferSize
            {
                let memory = reactor.buffers.memory(of: last.buffer)
                encrypted = security.engine.encrypt(rest, into: UnsafeMutableRawBufferPointer(rebasing: memory[end...]))
                queue[queue.count - 1].count += encrypted.produced
            } else if let fresh = reactor.buffers.take() {
                encrypted = security.engine.encrypt(rest, into: reactor.buffers.memory(of: fresh))
                if encrypted.produced > 0 {
                    enqueue(Send(buffer: fresh, start: 0, count: encrypted.produced, isOpen: true))
                } else {
                    reactor.buffers.release(fresh)
                }
            } else {
                worker.breakLater(self)
                return
            }
            sendPending(security)
            guard encrypted.consumed > 0 else {
                worker.breakLater(self)
                return
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[encrypted.consumed...])
        }
    }

    private func sendPending(_ security: StreamSecurity) {
        if security.engine.hasPending { sendPlain(security.engine.takePending()) }
    }

    func sentAll(_ security: StreamSecurity) {
        guard security.receivesWhenSent else { return }
        security.receivesWhenSent = false
        receiveCiphertext(security)
    }

    // MARK: - Closing

    func end(_ security: StreamSecurity, politely: Bool) {
        if politely {
            security.engine.close()
            sendPending(security)
        }
        if let waiting = security.ciphertext {
            reactor.buffers.release(waiting.buffer)
            security.ciphertext = nil
        }
    }
}
