import Logging
import PostgresAuth
import PostgresWire
import ProxyCore
import Topology

extension Session {
    /// Works off the client's bytes before it is authenticated. Returns whether to look at the bytes again.
    func advanceLogin() -> Bool {
        guard let action = login?.received(client.unread.bytes) else { return false }
        switch action {
        case .needMore:
            if !client.isFull { return client.receiveMore() }
            close(ErrorMessage(.fatal, .protocolViolation, "the client sent too much before it was authenticated"))
            return false
        case .reply(let bytes, let consumed):
            client.consume(consumed)
            client.send(bytes)
            return true
        case .encrypt(let reply, let consumed, let isDirect):
            return encrypt(reply, consumed: consumed, isDirect: isDirect)
        case .cancel(let key):
            worker.cancel(key, from: self)
            return false
        case .lookUpVerifier(let role, let consumed):
            client.consume(consumed)
            guard worker.admitsClient(self) else { return false }
            worker.lookUpVerifier(of: role, for: self)
            client.receive()
            return false
        case .refuse(let message):
            close(message)
            return false
        case .hangUp:
            close()
            return false
        case .authenticated(let credential, let reply, let consumed):
            client.consume(consumed)
            client.send(reply)
            authenticated(by: credential)
            return false
        }
    }

    private func authenticated(by credential: LoginCredential) {
        isAuthenticated = true
        worker.admission.left()
        guard var startup = login?.startup else { preconditionFailure("who is authenticated has said who it is") }
        let asked = startup.takeEndpointSettings()
        group = worker.group(database: database, user: role)
        profile = group.profile(StartupProfile(startup, database: database))
        if !credential.isEmpty { group.lastLogin = (profile, credential) }
        startupSettings = group.settings(of: startup)
        applicationName = startup.applicationName
        phase = .starting
        mode = worker.configuration.pooling.settings(database: database, user: role).mode
        settings = startupSettings
        preferencesChanged()
        do throws(ErrorMessage) {
            for (name, value) in asked { try set(name, to: value) }
        } catch {
            close(error.asFatal)
            return
        }
        client.receive()
        start(tried: 0)
    }

    /// The control plane has answered.
    func verifierFound(_ result: Result<RolePassword, any Error>) {
        guard phase == .login else { return }
        switch result {
        case .success(let password):
            let random = Random.bytes(SCRAMNonce.randomByteCount)
            let negotiation = login?.negotiation ?? []
            switch login?.verifierFound(password, secret: worker.mockSecret, random: random) {
            case .ask(let request):
                client.send(negotiation)
                client.send(request)
                advance()
            case .authenticated(let credential):
                client.send(negotiation)
                authenticated(by: credential)
            case .refuse(let message):
                close(message)
            case nil:
                return
            }
        case .failure(let error):
            worker.logger.warning("cannot read a verifier: \(error)")
            close(
                ErrorMessage(
                    .fatal,
                    .cannotConnectNow,
                    "no node can be asked for the password of user \"\(role)\"",
                    hint: "Look at \"slipstream status\", and try again."
                )
            )
        }
    }

    /// The parameters a client is told come from the primary, or from a standby while there is no primary.
    func start(tried: UInt64) {
        guard phase == .starting else { return }
        startTried = tried
        let nodes = worker.topology.nodes
        let candidate =
            nodes.first { $0.role == .primary && $0.state == .up && tried & (1 << $0.id.rawValue) == 0 }
            ?? nodes.first { $0.servesReads && tried & (1 << $0.id.rawValue) == 0 }
            ?? nodes.first { $0.role == .primary && tried & (1 << $0.id.rawValue) == 0 }
        guard let candidate else {
            close(
                ErrorMessage(
                    .fatal,
                    .cannotConnectNow,
                    "no node accepts connections",
                    hint: "Look at \"slipstream status\", and try again."
                )
            )
            return
        }
        if let welcome = profile.welcome {
            started(told: welcome)
        } else {
            let pool = group.pool(of: candidate.id)
            awaited = pool
            pool.lend(to: self)
        }
    }

    /// The functions of the database are known: what waited for them may begin.
    func functionsSettled() {
        guard phase == .starting, told !== ReportedParameters.none else { return }
        started(told: told)
    }

    /// It is known what the client is to be told.
    func started(told reported: ReportedParameters) {
        told = reported
        // Only now is it known that the database exists.
        if functions == nil { functions = worker.functions(of: database) }
        guard functions?.isSettled == true else { return }
        told = worker.parameters.shared(reported.reporting(applicationName: applicationName))
        route.hasASCIISafeEncoding = told.hasASCIISafeEncoding
        login = nil
        var writer = MessageWriter()
        writer.authenticationOk()
        writer.raw(told.messages(for: .none))
        writer.backendKeyData(cancelKey)
        writer.readyForQuery(.idle)
        client.send(writer.bytes)
        phase = .idle
        since = worker.now
        advance()
    }

    func startFailed(on node: NodeID, _ failure: ConnectionFailure) {
        switch failure {
        case .refused(_, let response) where !failure.blamesNode:
            client.send(response)
            close()
        case .refused, .unreachable, .unusable:
            start(tried: startTried | 1 << node.rawValue)
        }
    }
}
