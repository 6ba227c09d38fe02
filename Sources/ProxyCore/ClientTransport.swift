/// How a client's bytes come to the endpoint, and who its certificate says it is.
package struct ClientTransport: Sendable, Equatable {
    package var isEncrypted = false
    /// Of a certificate that was verified; `nil` without one.
    package var clientCertificateCommonName: String?
    /// As RFC 2253 writes it.
    package var clientCertificateDistinguishedName: String?
    /// `tls-server-end-point` (RFC 5929), to which a login can be bound.
    package var channelBinding: [UInt8]?

    package init(
        isEncrypted: Bool = false,
        clientCertificateCommonName: String? = nil,
        clientCertificateDistinguishedName: String? = nil,
        channelBinding: [UInt8]? = nil
    ) {
        self.isEncrypted = isEncrypted
        self.clientCertificateCommonName = clientCertificateCommonName
        self.clientCertificateDistinguishedName = clientCertificateDistinguishedName
        self.channelBinding = channelBinding
    }
}

/// Whether a client may, or must, encrypt its connection.
package enum EncryptionOffer: Sendable, Equatable {
    case none
    case offered
    case required
}
