import COpenSSL

/// An X.509 certificate.
package final class Certificate {
    let pointer: OpaquePointer

    init(owning pointer: OpaquePointer) {
        self.pointer = pointer
    }

    deinit {
        X509_free(pointer)
    }

    /// The subject's first common name; `nil` without one, or when a NUL in it could make it look like another.
    package var commonName: String? {
        let name = X509_get_subject_name(pointer)
        let index = X509_NAME_get_index_by_NID(name, NID_commonName, -1)
        guard index >= 0, let value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index)) else { return nil }
        return Self.text(of: value)
    }

    /// The subject's distinguished name as RFC 2253 writes it, which is what `pg_ident.conf` is matched against.
    package var distinguishedName: String? {
        guard let bio = BIO_new(BIO_s_mem()) else { return nil }
        defer { BIO_free(bio) }
        // The flags PostgreSQL takes, too; XN_FLAG_RFC2253 as a macro is too much for Swift.
        let flags =
            UInt(ASN1_STRFLGS_ESC_2253 | ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB | ASN1_STRFLGS_UTF8_CONVERT)
            | UInt(ASN1_STRFLGS_DUMP_UNKNOWN | ASN1_STRFLGS_DUMP_DER)
            | UInt(XN_FLAG_SEP_COMMA_PLUS) | UInt(XN_FLAG_DN_REV) | UInt(XN_FLAG_DUMP_UNKNOWN_FIELDS)
        guard X509_NAME_print_ex(bio, X509_get_subject_name(pointer), 0, flags) >= 0 else { return nil }
        var bytes: UnsafeMutablePointer<CChar>?
        let count = copenssl_memory_bytes(bio, &bytes)
        guard let bytes, count > 0 else { return nil }
        let text = UnsafeRawBufferPointer(start: bytes, count: count)
        return text.contains(0) ? nil : String(decoding: text, as: UTF8.self)
    }

    /// The certificate's hash by the hash of its signature, SHA-256 where that is MD5 or SHA-1 (RFC 5929, section 4.1).
    var endPointHash: [UInt8]? {
        var hash: Int32 = NID_undef
        guard X509_get_signature_info(pointer, &hash, nil, nil, nil) == 1 else { return nil }
        if hash == NID_md5 || hash == NID_sha1 { hash = NID_sha256 }
        guard hash != NID_undef, let digest = EVP_get_digestbyname(OBJ_nid2sn(hash)) else { return nil }
        var bytes = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var count: UInt32 = 0
        guard X509_digest(pointer, digest, &bytes, &count) == 1 else { return nil }
        return Array(bytes.prefix(Int(count)))
    }

    /// Names and addresses the certificate is for, of the kinds that hosts have.
    enum AlternativeName {
        case name(String)
        /// 4 or 16 bytes.
        case address([UInt8])
    }

    var alternativeNames: [AlternativeName] {
        guard let extensionData = X509_get_ext_d2i(pointer, NID_subject_alt_name, nil, nil) else { return [] }
        let names = OpaquePointer(extensionData)
        defer { copenssl_general_names_free(names) }
        return (0..<copenssl_general_name_count(names)).compactMap { index in
            guard let general = copenssl_general_name(names, index) else { return nil }
            switch general.pointee.type {
            case GEN_DNS:
                return general.pointee.d.dNSName.flatMap { Self.text(of: $0) }.map { .name($0) }
            case GEN_IPADD:
                return general.pointee.d.iPAddress.map { .address(Self.bytes(of: $0)) }
            default:
                return nil
            }
        }
    }

    private static func bytes(of value: UnsafePointer<ASN1_STRING>) -> [UInt8] {
        Array(UnsafeBufferPointer(start: ASN1_STRING_get0_data(value), count: Int(ASN1_STRING_length(value))))
    }

    private static func text(of value: UnsafePointer<ASN1_STRING>) -> String? {
        var converted: UnsafeMutablePointer<UInt8>?
        let count = ASN1_STRING_to_UTF8(&converted, value)
        guard count >= 0, let converted else { return nil }
        defer { CRYPTO_free(converted, nil, 0) }
        let bytes = UnsafeBufferPointer(start: converted, count: Int(count))
        return bytes.contains(0) ? nil : String(decoding: bytes, as: UTF8.self)
    }
}
