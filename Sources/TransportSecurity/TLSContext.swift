import COpenSSL

/// The versions that are spoken. Older ones are broken (RFC 8996).
package enum TLSVersion: Int, Sendable, Comparable {
    case v1_2 = 2
    case v1_3 = 3

    package static func < (left: TLSVersion, right: TLSVersion) -> Bool { left.rawValue < right.rawValue }

    fileprivate var code: Int32 {
        switch self {
        case .v1_2: TLS1_2_VERSION
        case .v1_3: TLS1_3_VERSION
        }
    }
}

/// Which versions and ciphers are agreed to.
package struct TLSParameters: Sendable, Equatable {
    package var versions: ClosedRange<TLSVersion> = .v1_2 ... .v1_3
    /// A list of OpenSSL's, for TLS 1.2; `nil` for OpenSSL's default. Those of TLS 1.3 are all good.
    package var ciphers: String?

    package init() {}
}

/// A certificate and its key, in PEM files.
package struct TLSIdentity: Sendable, Equatable {
    /// The certificate, and behind it those that lead to the authority.
    package var certificateFile: String
    package var keyFile: String

    package init(certificateFile: String, keyFile: String) {
        self.certificateFile = certificateFile
        self.keyFile = keyFile
    }
}

/// Whose certificates are trusted.
package struct TLSAuthority: Sendable, Equatable {
    package var certificatesFile: String
    package var revocationsFile: String?

    package init(certificatesFile: String, revocationsFile: String? = nil) {
        self.certificatesFile = certificatesFile
        self.revocationsFile = revocationsFile
    }
}

/// What is asked of a client's certificate.
package enum ClientCertificates: Sendable, Equatable {
    case ignored
    /// Verified when there is one.
    case accepted(TLSAuthority)
    case required(TLSAuthority)
}

/// Files read, checked and ready for any number of connections, of any thread.
///
/// Neither renegotiation nor compression, both known for attacks, and no session is resumed: pooled connections live long, and
/// a ticket's key would have to be shared and changed (decision note on TLS).
package final class TLSContext: @unchecked Sendable {
    /// OpenSSL counts its references, and locks what connections share.
    let pointer: OpaquePointer
    let isServer: Bool

    /// The protocol PostgreSQL's clients and servers agree on by ALPN (RFC 7301), as it goes over the wire.
    static let applicationProtocol: [UInt8] = [10] + Array("postgresql".utf8)

    private init(isServer: Bool, _ parameters: TLSParameters) throws(TLSError) {
        ERR_clear_error()
        guard let pointer = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else {
            throw .fromQueue("cannot make a TLS context")
        }
        self.pointer = pointer
        self.isServer = isServer
        copenssl_forbid_known_attacks(pointer)
        // Buffers go back to the allocator between records: an idle connection holds none.
        copenssl_set_mode(pointer, Int(SSL_MODE_RELEASE_BUFFERS) | Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
        copenssl_set_session_cache_off(pointer)
        SSL_CTX_set_num_tickets(pointer, 0)
        // A key with a pass phrase is an error; OpenSSL's own callback would ask on the terminal, and wait.
        SSL_CTX_set_default_passwd_cb(pointer) { _, _, _, _ in 0 }
        guard copenssl_set_min_proto_version(pointer, parameters.versions.lowerBound.code) == 1,
            copenssl_set_max_proto_version(pointer, parameters.versions.upperBound.code) == 1
        else { throw .fromQueue("cannot set the versions of TLS") }
        if let ciphers = parameters.ciphers, SSL_CTX_set_cipher_list(pointer, ciphers) != 1 {
            throw .fromQueue("cannot use the ciphers \"\(ciphers)\"")
        }
    }

    deinit {
        SSL_CTX_free(pointer)
    }

    /// For a server.
    ///
    /// - Throws: `TLSError` that names the file.
    package static func server(
        identity: TLSIdentity,
        clients: ClientCertificates = .ignored,
        parameters: TLSParameters = TLSParameters()
    ) throws(TLSError) -> TLSContext {
        let context = try TLSContext(isServer: true, parameters)
        copenssl_set_dh_auto(context.pointer)
        try context.load(identity)
        switch clients {
        case .ignored:
            SSL_CTX_set_verify(context.pointer, SSL_VERIFY_NONE, nil)
        case .accepted(let authority), .required(let authority):
            try context.trust(authority)
            guard let names = SSL_load_client_CA_file(authority.certificatesFile) else {
                throw .fromQueue("cannot read the authorities in \"\(authority.certificatesFile)\"")
            }
            SSL_CTX_set_client_CA_list(context.pointer, names)
            var mode = SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE
            if case .required = clients { mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT }
            SSL_CTX_set_verify(context.pointer, mode, nil)
        }
        SSL_CTX_set_alpn_select_cb(context.pointer, selectApplicationProtocol, nil)
        return context
    }

    /// For a client.
    ///
    /// - Parameter authority: who must have signed the server's certificate; `nil` takes any.
    /// - Throws: `TLSError` that names the file.
    package static func client(
        authority: TLSAuthority? = nil,
        identity: TLSIdentity? = nil,
        parameters: TLSParameters = TLSParameters()
    ) throws(TLSError) -> TLSContext {
        let context = try TLSContext(isServer: false, parameters)
        if let identity { try context.load(identity) }
        if let authority {
            try context.trust(authority)
            SSL_CTX_set_verify(context.pointer, SSL_VERIFY_PEER, nil)
        } else {
            SSL_CTX_set_verify(context.pointer, SSL_VERIFY_NONE, nil)
        }
        let offer = applicationProtocol
        guard SSL_CTX_set_alpn_protos(context.pointer, offer, UInt32(offer.count)) == 0 else {
            throw .fromQueue("cannot offer the application protocol")
        }
        return context
    }

    private func load(_ identity: TLSIdentity) throws(TLSError) {
        guard SSL_CTX_use_certificate_chain_file(pointer, identity.certificateFile) == 1 else {
            throw .fromQueue("cannot read the certificate \"\(identity.certificateFile)\"")
        }
        guard SSL_CTX_use_PrivateKey_file(pointer, identity.keyFile, SSL_FILETYPE_PEM) == 1 else {
            throw .fromQueue("cannot read the private key \"\(identity.keyFile)\"")
        }
        guard SSL_CTX_check_private_key(pointer) == 1 else {
            throw .fromQueue(
                "the private key \"\(identity.keyFile)\" does not belong to the certificate "
                    + "\"\(identity.certificateFile)\""
            )
        }
    }

    private func trust(_ authority: TLSAuthority) throws(TLSError) {
        guard SSL_CTX_load_verify_file(pointer, authority.certificatesFile) == 1 else {
            throw .fromQueue("cannot read the authorities in \"\(authority.certificatesFile)\"")
        }
        guard let revocations = authority.revocationsFile else { return }
        let store = SSL_CTX_get_cert_store(pointer)
        guard X509_STORE_load_file(store, revocations) == 1 else {
            throw .fromQueue("cannot read the revocation list \"\(revocations)\"")
        }
        X509_STORE_set_flags(store, UInt(X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL))
    }
}

/// A client that names protocols must name ours (RFC 7301, section 3.2); most name none.
private func selectApplicationProtocol(
    _: OpaquePointer?,
    _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ chosenLength: UnsafeMutablePointer<UInt8>?,
    _ offer: UnsafePointer<UInt8>?,
    _ offerLength: UInt32,
    _: UnsafeMutableRawPointer?
) -> Int32 {
    guard let chosen, let chosenLength, let offer else { return SSL_TLSEXT_ERR_ALERT_FATAL }
    var rest = UnsafeBufferPointer(start: offer, count: Int(offerLength))[...]
    while let length = rest.first, rest.count > Int(length) {
        let name = rest.prefix(Int(length) + 1)
        if name.elementsEqual(TLSContext.applicationProtocol) {
            chosen.pointee = offer + name.startIndex + 1
            chosenLength.pointee = length
            return SSL_TLSEXT_ERR_OK
        }
        rest = rest.dropFirst(Int(length) + 1)
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL
}
