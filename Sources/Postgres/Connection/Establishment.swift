import PostgresProtocol
import PostgresTransport

/// From a configuration to a connection that is ready: address, TLS, authentication, under one deadline.
///
/// It only moves bytes and waits; what is said, and what is believed, is decided by `Startup` and `TLSNegotiation`.
struct Establishment: Sendable {
    let configuration: PostgresConfiguration
    let loop: EventLoop
    let deadline: Deadline

    init(_ configuration: PostgresConfiguration, loop: EventLoop) {
        self.configuration = configuration
        self.loop = loop
        let own = configuration.connectTimeout.map { Deadline(after: $0) } ?? .never
        deadline = min(own, PostgresScope.current?.deadline ?? .never)
    }

    func connect() async throws(PostgresError) -> ConnectionCore {
        guard let observer = configuration.observer else { return try await connectUnobserved() }
        let server = "\(configuration.host):\(configuration.port)"
        let observation = Observation(observer, configuration, server: server)
        let running = observation.begin(.connect, statements: 0)
        do throws(PostgresError) {
            let core = try await connectUnobserved()
            observation.end(running, Observation.Counts())
            return core
        } catch {
            observation.end(running, Observation.Counts(error: error))
            throw error
        }
    }

    private func connectUnobserved() async throws(PostgresError) -> ConnectionCore {
        try configuration.check()
        do {
            return try await establish()
        } catch let error as PostgresError {
            throw error
        } catch let error as TransportError {
            throw refused(error)
        } catch let error as StartupError {
            throw refused(error)
        } catch {
            throw PostgresError(code: .cannotConnect, message: "\(error)", underlying: error)
        }
    }

    private func establish() async throws -> ConnectionCore {
        let mode = configuration.effectiveSSLMode
        let context = try await tlsContext(mode)
        var options = SocketOptions()
        // The system's own two hours are too long for a statement whose server vanished.
        options.keepalive = SocketOptions.Keepalive(idle: .seconds(60), interval: .seconds(10), count: 6)
        options.tcpUserTimeout = configuration.tcpUserTimeout
        options.sendBufferSize = configuration.socketBufferBytes
        options.receiveBufferSize = configuration.socketBufferBytes
        let socket = try await Connector.connect(to: endpoint, options: options, deadline: deadline, loop: loop)
        let channel = ByteChannel(socket)
        do {
            if let context { try await startTLS(channel, context, mode) }
            return try await startSession(channel, context, mode)
        } catch {
            channel.close()
            throw error
        }
    }

    private var endpoint: Endpoint {
        configuration.isUnixSocket
            ? .unix(path: "\(configuration.host)/.s.PGSQL.\(configuration.port)")
            : .tcp(host: configuration.host, port: UInt16(truncatingIfNeeded: configuration.port))
    }

    // MARK: TLS

    private func tlsContext(_ mode: PostgresConfiguration.SSLMode) async throws(TransportError) -> TLSContext? {
        let verification: TLSVerification
        switch mode {
        case .disable: return nil
        case .prefer: verification = .none
        case .require: verification = configuration.sslrootcert == nil ? .none : .chain
        case .verifyFull: verification = .chainAndHostName
        }
        let roots = configuration.sslrootcert.map { TLSRootCertificates.file($0) } ?? .system
        let cache = TLSContextCache.shared
        if let known = cache.find(verification, roots) { return known }
        // Reading a system's certificates takes long.
        return try await BackgroundThread.run(
            until: deadline, loop: loop, what: "reading the root certificates for \(place)",
            { Result { () throws(TransportError) in try cache.make(verification, roots) } }
        ).get()
    }

    private func startTLS(
        _ channel: ByteChannel, _ context: TLSContext, _ mode: PostgresConfiguration.SSLMode
    ) async throws {
        switch try await channel.askForTLS(until: deadline) {
        case .accepted:
            try await channel.startTLS(context, serverName: configuration.host, deadline: deadline)
        case .refused:
            if mode == .prefer { return }
            throw PostgresError(
                code: .tls, message: "\(place) does not offer TLS, which sslmode=\(mode.rawValue) requires",
                hint: "set ssl = on at the server, or connect with sslmode=prefer or disable")
        }
    }

    // MARK: The session

    private func startSession(
        _ channel: ByteChannel, _ context: TLSContext?, _ mode: PostgresConfiguration.SSLMode
    ) async throws -> ConnectionCore {
        var startup = Startup(startupOptions(channel, mode))
        let notices = configuration.noticeHandler.map { NoticeQueue($0) }
        var writer = ByteWriter(capacity: 1024)
        var inbound = Inbound(limits: .init(maximumLength: configuration.maximumMessageBytes, isAuthenticated: true))
        try startup.begin(into: &writer)
        try await send(&writer, channel)
        while true {
            let received = UnsafeRawBufferPointer(start: inbound.buffer.base, count: inbound.buffer.count)
            guard let size = try startup.frame(received), received.count >= size else {
                try await receive(&inbound.buffer, channel)
                continue
            }
            let body = UnsafeRawBufferPointer(rebasing: received[MessageFramer.headerSize..<size])
            let step = try startup.receive(tag: received[0], body: body, into: &writer)
            inbound.buffer.consume(size)
            switch step {
            case .needMore: continue
            case .notice(let report): notices?.add(report)
            case .send: try await send(&writer, channel)
            case .derive(let derivation):
                // Thousands of hashes: neither the loop nor the cooperative pool may wait for them.
                let salted = try await BackgroundThread.run(
                    until: deadline, loop: loop, what: "computing the SCRAM proof for \(place)",
                    { Result { () throws(SCRAMError) in try derivation.run() } })
                try startup.provide(salted.get(), into: &writer)
                try await send(&writer, channel)
            case .ready(let session):
                var server = ConnectionCore.ServerIdentity(address: place, tls: channel.tlsDescription)
                server.processID = session.backendKey?.processID
                server.secretKey = session.backendKey?.secretKey ?? []
                server.host = configuration.host
                if channel.isEncrypted { server.tlsContext = context }
                let core = try ConnectionCore(
                    channel: channel, loop: loop, inbound: inbound, parameters: session.parameters,
                    server: server, configuration: configuration, notices: notices)
                notices?.begin()
                return core
            }
        }
    }

    private func startupOptions(_ channel: ByteChannel, _ mode: PostgresConfiguration.SSLMode) -> Startup.Options {
        var options = Startup.Options(
            user: configuration.user, database: configuration.database,
            password: configuration.password.map { Password($0) })
        // What the codecs read as text depends on these two.
        options.parameters = [
            (name: "DateStyle", value: "ISO"), (name: "IntervalStyle", value: "postgres"),
        ]
        if let name = configuration.applicationName {
            options.parameters.append((name: "application_name", value: name))
        }
        for (name, value) in configuration.parameters.sorted(by: { $0.key < $1.key }) {
            options.parameters.append((name: name, value: value))
        }
        options.allowsCleartextPassword = channel.isEncrypted || configuration.allowsCleartextPassword
        options.isEncrypted = channel.isEncrypted
        options.isPeerVerified = channel.isEncrypted && mode == .verifyFull
        options.channelBinding = channel.serverCertificateHash()
        options.scramIterationLimit = configuration.maximumSCRAMIterations
        options.maximumMessageLength = configuration.maximumMessageBytes
        return options
    }

    // MARK: Bytes

    private func send(_ writer: inout ByteWriter, _ channel: ByteChannel) async throws(TransportError) {
        try await channel.sendAll(&writer, until: deadline)
    }

    private func receive(_ buffer: inout ReceiveBuffer, _ channel: ByteChannel) async throws(TransportError) {
        try await channel.receiveSome(&buffer, until: deadline)
    }

    // MARK: Errors

    private var place: String { "\(endpoint)" }

    private func refused(_ error: TransportError) -> PostgresError {
        let code: PostgresError.Code
        var hint: String?
        switch error {
        case .timedOut: code = .timedOut
        case .cancelled: code = .cancelled
        case .tls: code = .tls
        case .invalidAddress: code = .invalidConfiguration
        case .endOfFile:
            code = .connectionLost
            hint = "is this a PostgreSQL server, and does it take connections?"
        case .resolve, .system, .connect:
            code = .cannotConnect
            hint = "is the server running there, and does it take connections of this kind?"
        }
        return PostgresError(code: code, message: "\(place): \(error)", hint: hint, underlying: error)
    }

    private func refused(_ error: StartupError) -> PostgresError {
        switch error {
        case .refused(let report, _):
            // Whose text it is belongs to it: before the server proved who it is, it is only a claim (CVE-2024-10977), and one that did
            // is one of several, as in a pool of clients.
            let database = configuration.database ?? configuration.user
            return PostgresError(report, outcome: .notSent, sql: nil).with(
                message: "\(report.message) (connecting to \(place) as \(configuration.user), database \(database))")
        case .protocolViolation, .notPostgreSQL, .serverTooOld, .invalidNegotiation, .versionNotSupported,
            .bytesAfterTLSAnswer:
            return PostgresError(code: .brokenProtocol, message: "\(place): \(error)", underlying: error)
        case .tlsRequestFailed:
            return PostgresError(code: .tls, message: "\(place): \(error)", underlying: error)
        case .encoding, .reservedParameter:
            return PostgresError(code: .invalidConfiguration, message: "\(error)", underlying: error)
        case .cleartextPasswordNotAllowed:
            return PostgresError(
                code: .authentication, message: "\(place): \(error)",
                hint: "use TLS (sslmode=require), SCRAM at the server, or allow it with allowsCleartextPassword",
                underlying: error)
        case .methodNotSupported, .methodNotAllowed, .passwordMissing, .channelBindingNotPossible, .scram,
            .cryptoUnavailable, .authenticationNotCompleted:
            return PostgresError(code: .authentication, message: "\(place): \(error)", underlying: error)
        }
    }
}
