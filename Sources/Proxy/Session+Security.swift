import Glibc
import Logging
import ProxyCore
import TransportSecurity

/// The client's side of TLS.
extension Session {
    /// As PostgreSQL, nothing is encrypted on a Unix-domain socket: it does not leave the host.
    var encryptionOffer: EncryptionOffer {
        guard worker.transportContexts.clients != nil, !client.isLocal else { return .none }
        return worker.transportContexts.clientMode.requiresEncryption ? .required : .offered
    }

    /// Goes on in TLS. Returns whether to look at the client's bytes again.
    func encrypt(_ reply: [UInt8], consumed: Int, isDirect: Bool) -> Bool {
        guard let context = worker.transportContexts.clients else {
            // The certificate was taken out of the configuration a moment ago.
            close()
            return false
        }
        do throws(TLSError) {
            let engine = try TLSEngine(server: context, requiresApplicationProtocol: isDirect)
            client.consume(consumed)
            client.send(reply)
            guard client.secure(engine, takesUnread: isDirect) else {
                close()
                return false
            }
        } catch {
            worker.logger.error("cannot begin TLS with a client: \(error)")
            close()
            return false
        }
        client.receive()
        return false
    }

    func clientIsSecured() {
        guard let engine = client.security?.engine else { return }
        let certificate = engine.peerCertificate
        login?.secured(
            ClientTransport(
                isEncrypted: true,
                clientCertificateCommonName: certificate?.commonName,
                clientCertificateDistinguishedName: certificate?.distinguishedName,
                channelBinding: engine.serverEndPoint
            )
        )
        worker.logger.debug("a client has connected by \(engine.version), \(engine.cipher)")
    }

    func logSecurityProblem() {
        guard let problem = client.securityProblem else { return }
        worker.logger.info("a client's TLS connection failed: \(problem)")
    }
}

extension Stream {
    /// Whether it is a Unix-domain socket.
    var isLocal: Bool {
        var address = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getsockname(descriptor, $0, &length) == 0 && $0.pointee.sa_family == sa_family_t(AF_UNIX)
            }
        }
    }
}
