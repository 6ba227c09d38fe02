import Foundation
import Testing
import TransportSecurity

/// Certificates made by the `openssl` command, once per run.
struct Certificates {
    let directory: String

    static let made: Certificates = {
        let directory = FileManager.default.temporaryDirectory
            .appending(path: "slipstream-certificates-\(ProcessInfo.processInfo.processIdentifier)").path
        let process = Process()
        process.executableURL = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "EndpointTests/Clients/certificates")
        process.arguments = [directory]
        do {
            try process.run()
            process.waitUntilExit()
        } catch {
            Issue.record(error)
        }
        if process.terminationStatus != 0 { Issue.record("openssl could not make certificates") }
        atexit {
            let directory = FileManager.default.temporaryDirectory
                .appending(path: "slipstream-certificates-\(ProcessInfo.processInfo.processIdentifier)")
            try? FileManager.default.removeItem(at: directory)
        }
        return Certificates(directory: directory)
    }()

    func path(_ name: String) -> String { directory + "/" + name }

    func identity(_ name: String) -> TLSIdentity {
        TLSIdentity(certificateFile: path(name + ".crt"), keyFile: path(name + ".key"))
    }

    func authority(_ name: String = "ca", revocations: String? = nil) -> TLSAuthority {
        TLSAuthority(certificatesFile: path(name + ".crt"), revocationsFile: revocations.map(path))
    }

    /// What `openssl` says the certificate's hash is.
    func hash(_ name: String, _ algorithm: String) throws -> String {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["openssl", "x509", "-in", path(name + ".crt"), "-noout", "-fingerprint", "-" + algorithm]
        process.standardOutput = pipe
        try process.run()
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text.split(separator: "=").last?.filter(\.isHexDigit).lowercased() ?? ""
    }
}
