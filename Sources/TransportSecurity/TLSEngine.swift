import COpenSSL

/// The TLS of one connection, without its socket: ciphertext in, plaintext out, and the reverse. Synchronous, and bound to
/// one thread at a time.
///
/// OpenSSL reads and writes through a BIO of ours that stands on the caller's memory, so that nothing is kept between two
/// calls but half a record. What OpenSSL says on its own account (handshake, alerts, KeyUpdate) gathers in `pending`, which the
/// caller sends ahead of anything else.
///
/// Source: OpenSSL's manual, SSL_read(3), SSL_get_error(3), BIO_meth_new(3); RFC 8446.
package final class TLSEngine {
    package enum Phase: Equatable, Sendable {
        case handshaking
        case established
        /// The peer has sent close_notify: it will send no more.
        case ended
        case failed(TLSError)
    }

    package struct Decrypted: Equatable {
        /// Of the ciphertext.
        package var consumed: Int
        /// Of plaintext.
        package var produced: Int
    }

    package struct Encrypted: Equatable {
        /// Of the plaintext.
        package var consumed: Int
        /// Of ciphertext.
        package var produced: Int
    }

    /// What a record adds to its plaintext at most with the ciphers of TLS 1.2 and 1.3, and what a KeyUpdate ahead of it takes.
    package static let recordOverhead = 512
    private static let recordSize = 16_384

    package private(set) var phase: Phase = .handshaking
    /// The handshake is done, whatever came behind it.
    package private(set) var isEstablished = false

    private let connection: OpaquePointer
    private let window = Window()
    private let requiresApplicationProtocol: Bool
    private let verification: Verification

    /// What is asked of a server's certificate beyond what its context asks.
    package enum Verification: Sendable, Equatable {
        case none
        /// It must be for this host, a name or an address.
        case host(String)
    }

    /// The side of the server.
    ///
    /// - Parameter requiresApplicationProtocol: the client must name `postgresql` by ALPN.
    package init(server context: TLSContext, requiresApplicationProtocol: Bool = false) throws(TLSError) {
        precondition(context.isServer, "a context for servers")
        self.requiresApplicationProtocol = requiresApplicationProtocol
        verification = .none
        connection = try Self.connection(context, window)
        SSL_set_accept_state(connection)
    }

    /// The side of the client. `pending` holds its first message at once.
    ///
    /// - Parameter host: what the server is called, a name or an address; a name is told to the server (SNI).
    package init(client context: TLSContext, host: String, verification: Verification = .none) throws(TLSError) {
        precondition(!context.isServer, "a context for clients")
        requiresApplicationProtocol = false
        self.verification = verification
        connection = try Self.connection(context, window)
        SSL_set_connect_state(connection)
        // RFC 6066, section 3: an address is no name.
        if HostName.address(host) == nil, !host.isEmpty { _ = copenssl_set_host_name(connection, host) }
        shakeHands()
    }

    deinit {
        SSL_free(connection)
    }

    private static func connection(_ context: TLSContext, _ window: Window) throws(TLSError) -> OpaquePointer {
        ERR_clear_error()
        guard let connection = SSL_new(context.pointer) else { throw .fromQueue("cannot make a TLS connection") }
        guard let bio = BIO_new(windowMethod.pointer) else {
            SSL_free(connection)
            throw .fromQueue("cannot make a TLS connection")
        }
        BIO_set_data(bio, Unmanaged.passUnretained(window).toOpaque())
        BIO_set_init(bio, 1)
        SSL_set_bio(connection, bio, bio)
        return connection
    }

    // MARK: - Bytes

    /// What OpenSSL has to say to the peer on its own account.
    package var hasPending: Bool { !window.pending.isEmpty }

    /// Takes what there is to say.
    package func takePending() -> [UInt8] {
        defer { window.pending = [] }
        return window.pending
    }

    /// Plaintext waits that found no room: it comes without further ciphertext.
    package var hasPlaintext: Bool { phase == .established && SSL_pending(connection) > 0 }

    /// Works off ciphertext: shakes hands as long as that is due, then decrypts as much as there is room for.
    ///
    /// A `phase` that has changed afterwards says what else there was to learn; plaintext that was produced came before.
    package func decrypt(
        _ ciphertext: UnsafeRawBufferPointer,
        into plaintext: UnsafeMutableRawBufferPointer
    ) -> Decrypted {
        window.input = ciphertext
        defer { window.input = UnsafeRawBufferPointer(start: nil, count: 0) }
        if phase == .handshaking { shakeHands() }
        var produced = 0
        while phase == .established, produced < plaintext.count, let base = plaintext.baseAddress {
            ERR_clear_error()
            let room = Int32(clamping: plaintext.count - produced)
            let count = SSL_read(connection, base + produced, room)
            if count > 0 {
                produced += Int(count)
            } else if !goesOn(after: count) {
                break
            }
        }
        return Decrypted(consumed: ciphertext.count - window.input.count, produced: produced)
    }

    /// Encrypts as much as certainly fits.
    package func encrypt(
        _ plaintext: UnsafeRawBufferPointer,
        into ciphertext: UnsafeMutableRawBufferPointer
    ) -> Encrypted {
        guard phase == .established || phase == .ended else { return Encrypted(consumed: 0, produced: 0) }
        window.output = ciphertext
        window.outputCount = 0
        defer { window.output = UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        var consumed = 0
        while consumed < plaintext.count, let base = plaintext.baseAddress {
            let room = ciphertext.count - window.outputCount - Self.recordOverhead
            let count = min(plaintext.count - consumed, room, Self.recordSize)
            guard count > 0 else { break }
            ERR_clear_error()
            let written = SSL_write(connection, base + consumed, Int32(count))
            guard written == Int32(count) else {
                // The BIO takes everything, so that this is no "try again".
                fail(.fromQueue("cannot encrypt"))
                break
            }
            consumed += count
        }
        return Encrypted(consumed: consumed, produced: window.outputCount)
    }

    /// Says close_notify, which is then pending.
    package func close() {
        guard phase == .established || phase == .ended else { return }
        ERR_clear_error()
        _ = SSL_shutdown(connection)
        ERR_clear_error()
    }

    // MARK: - Handshake

    private func shakeHands() {
        ERR_clear_error()
        let result = SSL_do_handshake(connection)
        guard result == 1 else {
            _ = goesOn(after: result)
            return
        }
        phase = .established
        if let problem = problemWithPeer {
            close()
            fail(problem)
        } else {
            isEstablished = true
        }
    }

    private var problemWithPeer: TLSError? {
        if requiresApplicationProtocol, !hasApplicationProtocol {
            return TLSError("a direct TLS connection without the application protocol \"postgresql\" (ALPN)")
        }
        switch verification {
        case .none: return nil
        case .host(let name): return HostName.problem(with: peerCertificate, host: name)
        }
    }

    private var hasApplicationProtocol: Bool {
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(connection, &name, &length)
        return length > 0
    }

    /// Whether to call again at once.
    private func goesOn(after result: Int32) -> Bool {
        switch SSL_get_error(connection, result) {
        case SSL_ERROR_WANT_READ:
            break
        case SSL_ERROR_ZERO_RETURN:
            phase = .ended
        case SSL_ERROR_SSL:
            let verdict = SSL_get_verify_result(connection)
            var problem = TLSError.fromQueue()
            if verdict != Int(X509_V_OK), let reason = X509_verify_cert_error_string(verdict) {
                problem.description += ": \(String(cString: reason))"
            }
            fail(problem)
        case let code:
            // Neither a BIO that takes everything nor a context without callbacks has anything else to wait for.
            fail(.fromQueue("unexpected state \(code)"))
        }
        return false
    }

    private func fail(_ problem: TLSError) {
        phase = .failed(problem)
    }

    // MARK: - What was agreed upon

    /// "TLSv1.3", for the log.
    package var version: String { SSL_get_version(connection).map { String(cString: $0) } ?? "" }
    package var cipher: String {
        SSL_CIPHER_get_name(SSL_get_current_cipher(connection)).map { String(cString: $0) } ?? ""
    }

    /// The peer's certificate. A client's was verified when there is one: otherwise there would be no connection.
    package var peerCertificate: Certificate? {
        SSL_get1_peer_certificate(connection).map(Certificate.init(owning:))
    }

    /// Our own.
    package var certificate: Certificate? {
        guard let pointer = SSL_get_certificate(connection), X509_up_ref(pointer) == 1 else { return nil }
        return Certificate(owning: pointer)
    }

    /// The channel binding `tls-server-end-point`: the hash of the server's certificate (RFC 5929, section 4). `nil` when it
    /// has none, as for signatures that name no hash.
    package var serverEndPoint: [UInt8]? {
        (SSL_is_server(connection) == 1 ? certificate : peerCertificate)?.endPointHash
    }

    /// Asks the peer for a new key, as it may do at any time, and so tests do.
    package func updateKey(requestsPeer: Bool) {
        _ = SSL_key_update(connection, requestsPeer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED)
    }
}

/// The memory OpenSSL reads from and writes to during one call.
private final class Window {
    var input = UnsafeRawBufferPointer(start: nil, count: 0)
    var output = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    var outputCount = 0
    var pending: [UInt8] = []

    func read(_ target: UnsafeMutablePointer<CChar>, _ room: Int) -> Int {
        let count = min(room, input.count)
        guard count > 0, let source = input.baseAddress else { return 0 }
        UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: count)
        input = UnsafeRawBufferPointer(rebasing: input[count...])
        return count
    }

    /// In order: once something is pending, everything behind it is.
    func write(_ source: UnsafePointer<CChar>, _ count: Int) {
        if pending.isEmpty, let target = output.baseAddress, output.count - outputCount >= count {
            (target + outputCount).copyMemory(from: source, byteCount: count)
            outputCount += count
        } else {
            pending.append(contentsOf: UnsafeRawBufferPointer(start: source, count: count))
        }
    }
}

/// The BIO that stands on a `Window`.
private final class WindowMethod: @unchecked Sendable {
    let pointer: OpaquePointer?

    init() {
        pointer = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "window")
        BIO_meth_set_read(pointer) { bio, target, room in
            guard let bio, let target, let data = BIO_get_data(bio) else { return -1 }
            BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY)
            let count = Unmanaged<Window>.fromOpaque(data).takeUnretainedValue().read(target, Int(room))
            if count == 0 {
                BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
                return -1
            }
            return Int32(count)
        }
        BIO_meth_set_write(pointer) { bio, source, count in
            guard let bio, let source, let data = BIO_get_data(bio) else { return -1 }
            BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY)
            Unmanaged<Window>.fromOpaque(data).takeUnretainedValue().write(source, Int(count))
            return count
        }
        BIO_meth_set_ctrl(pointer) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
    }
}

private let windowMethod = WindowMethod()
