// Manual, "Start-up": StartupMessage -> authentication -> ParameterStatus, BackendKeyData -> ReadyForQuery.

/// From an open (and, if wanted, encrypted) connection to a session that is ready for its first query.
///
/// Theory of operation:
/// ```
/// begin ──> connecting ─┬─ R ok (trust) ────────────────────────────────┐
///               │       ├─ R cleartext/md5 ──> passwordSent ─ R ok ─────┤
///   v (once) ───┘       └─ R sasl ──> sasl ─ R continue ──> deriving    ├──> authenticated ─ Z ──> ready
///                                       ┌─────── provide ──────┘        │         │
///                                       └──> sasl ─ R final, R ok ──────┘    S, K (once)
/// ```
/// The driver frames what it receives with `frame`, hands each message to `receive`, and does what the returned step
/// says. NoticeResponse may come at any time, ErrorResponse ends everything. A message that is not in the picture throws,
/// and a machine that has thrown takes no more. No credential is written before the method passed every policy, and
/// AuthenticationOk is believed only where the picture has it.
package struct Startup: Sendable {
    package struct Options: Sendable {
        package var user: String
        package var database: String?
        /// Session settings such as `application_name`. UTF8 as the client's encoding is always asked for.
        package var parameters: [(name: String, value: String)] = []
        package var password: Password?
        package var version = ProtocolVersion.v30
        /// Whether the password may be sent as it is: over TLS, or because the user said so.
        package var allowsCleartextPassword = false
        package var allowedMethods = Set(AuthenticationMethod.allCases)
        package var isEncrypted = false
        /// Whether the server's certificate proved its name, so that its texts can be taken for its own.
        package var isPeerVerified = false
        /// The hash of the server's certificate (RFC 5929, tls-server-end-point), if the connection has one.
        package var channelBinding: [UInt8]?
        package var requiresChannelBinding = false
        package var scramIterationLimit = SCRAM.defaultIterationLimit
        package var maximumMessageLength = MessageFramer.Limits.defaultMaximumLength

        package init(user: String, database: String? = nil, password: Password? = nil) {
            self.user = user
            self.database = database
            self.password = password
        }
    }

    package enum AuthenticationMethod: String, Sendable, CaseIterable {
        case none
        case password
        case md5
        case scramSHA256 = "scram-sha-256"
    }

    package enum Step: Sendable {
        case needMore
        /// The writer holds bytes to send.
        case send
        /// Work for a thread that may be slow; its result goes to `provide`.
        case derive(SCRAM.Derivation)
        case notice(ServerReport)
        case ready(ServerSession)
    }

    private enum State: Sendable {
        case initial
        case connecting
        case passwordSent
        case sasl(SCRAM)
        case deriving(SCRAM)
        case authenticated
        case ready
        case failed
    }

    /// How much of a foreign protocol's greeting an error shows.
    static let shownBytes = 64

    private let options: Options
    private var state = State.initial
    private var session: ServerSession
    private var hasReceived = false
    private var hasNegotiated = false
    /// Whether the server has proved its identity, by certificate or by SCRAM signature.
    private var isVerified: Bool

    package init(_ options: Options) {
        self.options = options
        session = ServerSession(version: options.version)
        isVerified = options.isPeerVerified
    }

    /// Writes the startup message.
    package mutating func begin(into writer: inout ByteWriter) throws(StartupError) {
        guard case .initial = leaveState() else { throw unexpected(0) }
        guard options.version == .v30 || options.version == .v32 else { throw .versionNotSupported(options.version) }
        if options.password?.text.utf8.contains(0) == true { throw .encoding(.zeroByte("password")) }
        var parameters = [(name: "user", value: options.user)]
        if let database = options.database { parameters.append((name: "database", value: database)) }
        parameters.append((name: "client_encoding", value: "UTF8"))
        for parameter in options.parameters {
            // The first of two equal names would be overruled by the second; to the server case makes no difference.
            let name = parameter.name.lowercased()
            if parameters.contains(where: { $0.name.lowercased() == name }) || name == "database" {
                if name == "client_encoding", parameter.value == "UTF8" { continue }
                throw .reservedParameter(escapedForDisplay(parameter.name.utf8, limit: Startup.shownBytes))
            }
            parameters.append(parameter)
        }
        do { try writer.startup(version: options.version, parameters: parameters) } catch { throw .encoding(error) }
        state = .connecting
    }

    /// The size of the message that `received` begins with, or nil if its header is not all there.
    ///
    /// The first byte of the first answer decides whether this is PostgreSQL at all: another protocol's greeting would
    /// otherwise be taken for a length of a gigabyte that we wait for.
    package mutating func frame(_ received: UnsafeRawBufferPointer) throws(StartupError) -> Int? {
        guard let tag = received.first else { return nil }
        if !hasReceived {
            switch tag {
            case BackendMessage.Tag.authentication, BackendMessage.Tag.errorResponse,
                BackendMessage.Tag.noticeResponse, BackendMessage.Tag.negotiateProtocolVersion:
                break
            default:
                state = .failed
                throw .notPostgreSQL(escapedForDisplay(received, limit: Startup.shownBytes))
            }
        }
        guard received.count >= MessageFramer.headerSize else { return nil }
        let length = Int32(bigEndian: received.loadUnaligned(fromByteOffset: 1, as: Int32.self))
        do {
            return try MessageFramer.judge(tag: tag, length: length, limits: limits)
        } catch {
            state = .failed
            if hasReceived { throw .protocolViolation(error) }
            let text = UnsafeRawBufferPointer(rebasing: received.dropFirst())
            if tag == BackendMessage.Tag.errorResponse {
                // Protocol 2 sends `E`, text and a zero byte, with no length between; a true length begins with no letter.
                guard let first = text.first, first >= 0x20 else { throw .protocolViolation(error) }
                throw .serverTooOld(escapedForDisplay(text.prefix { $0 != 0 }, limit: 1024))
            }
            throw .notPostgreSQL(escapedForDisplay(received, limit: Startup.shownBytes))
        }
    }

    private var limits: MessageFramer.Limits {
        var isAuthenticated = false
        switch state {
        case .authenticated, .ready: isAuthenticated = true
        default: break
        }
        return MessageFramer.Limits(maximumLength: options.maximumMessageLength, isAuthenticated: isAuthenticated)
    }

    package mutating func receive(
        tag: UInt8, body: UnsafeRawBufferPointer, into writer: inout ByteWriter
    ) throws(StartupError) -> Step {
        let message: BackendMessage
        do {
            message = try BackendMessage(tag: tag, body: body)
        } catch {
            state = .failed
            throw .protocolViolation(error)
        }
        return try receive(message, tag: tag, into: &writer)
    }

    private mutating func receive(
        _ message: BackendMessage, tag: UInt8, into writer: inout ByteWriter
    ) throws(StartupError) -> Step {
        hasReceived = true
        let current = leaveState()
        switch (current, message) {
        case (.initial, _), (.ready, _), (.failed, _): throw unexpected(tag)
        case (_, .errorResponse(let report)): throw .refused(report.escaped(), isVerified: isVerified)
        case (_, .noticeResponse(let report)):
            state = current
            return .notice(report.escaped())
        case (.connecting, .negotiateProtocolVersion(let answer)):
            try negotiate(answer)
            state = .connecting
            return .needMore
        case (.connecting, .authentication(let request)):
            return try answer(request, tag: tag, into: &writer)
        case (.passwordSent, .authentication(.ok)):
            return authenticationOkReceived()
        case (.sasl(var scram), .authentication(let request)):
            return try continueSASL(&scram, request, tag: tag)
        case (.authenticated, _):
            state = .authenticated
            return try settle(message, tag: tag)
        default: throw unexpected(tag)
        }
    }

    /// Hands in the result of a derivation; the writer then holds bytes to send.
    package mutating func provide(
        _ saltedPassword: SCRAM.SaltedPassword, into writer: inout ByteWriter
    ) throws(StartupError) {
        guard case .deriving(var scram) = leaveState() else { throw unexpected(0) }
        let response: [UInt8]
        do { response = try scram.clientFinal(saltedPassword) } catch { throw .scram(error) }
        do { try writer.saslResponse(response) } catch { throw .encoding(error) }
        state = .sasl(scram)
    }

    /// Takes the state out, so that a throw leaves a machine that takes no more.
    private mutating func leaveState() -> State {
        let left = state
        state = .failed
        return left
    }

    private mutating func authenticationOkReceived() -> Step {
        state = .authenticated
        return .needMore
    }

    private func unexpected(_ tag: UInt8) -> StartupError {
        .protocolViolation(.unexpectedMessage(tag, while: "starting up"))
    }
}

// MARK: - Authentication

extension Startup {
    /// The server's first request: the policies are applied here, before any credential is written.
    private mutating func answer(
        _ request: AuthenticationRequest, tag: UInt8, into writer: inout ByteWriter
    ) throws(StartupError) -> Step {
        switch request {
        case .ok:
            try allow(AuthenticationMethod.none, "nothing at all")
            return authenticationOkReceived()
        case .cleartextPassword:
            try allow(.password, "cleartext password")
            guard options.allowsCleartextPassword else { throw .cleartextPasswordNotAllowed }
            let password = try password(for: "cleartext password")
            do { try writer.password(password.text) } catch { throw .encoding(error) }
            state = .passwordSent
        case .md5Password(let salt):
            try allow(.md5, "MD5 password")
            let password = try password(for: "MD5")
            let response: String
            do {
                response = try password.md5Response(user: options.user, salt: salt)
            } catch {
                throw .cryptoUnavailable(error.operation)
            }
            do { try writer.password(response) } catch { throw .encoding(error) }
            state = .passwordSent
        case .sasl(let mechanisms):
            try beginSASL(mechanisms, into: &writer)
        case .saslContinue, .saslFinal:
            throw unexpected(tag)
        case .unsupported(let code):
            throw .methodNotSupported(AuthenticationRequest.methodName(code: code))
        }
        return .send
    }

    private func allow(_ method: AuthenticationMethod, _ name: String) throws(StartupError) {
        guard options.allowedMethods.contains(method) else { throw .methodNotAllowed(name) }
        if options.requiresChannelBinding, method != .scramSHA256 {
            throw .channelBindingNotPossible("the server asks for \(name)")
        }
    }

    private func password(for method: String) throws(StartupError) -> Password {
        // As with libpq, an empty password is none.
        guard let password = options.password, !password.text.isEmpty else { throw .passwordMissing(method) }
        return password
    }

    private mutating func beginSASL(_ mechanisms: [String], into writer: inout ByteWriter) throws(StartupError) {
        let offersPlus = mechanisms.contains(SCRAM.plusMechanism)
        let offersPlain = mechanisms.contains(SCRAM.plainMechanism)
        guard offersPlus || offersPlain else {
            let names = escapedForDisplay(mechanisms.joined(separator: ", ").utf8, limit: 256)
            throw .methodNotSupported("SASL (\(names))")
        }
        try allow(.scramSHA256, "SCRAM-SHA-256")
        // A server offers -PLUS over TLS only: here, someone else has ended its TLS and goes on in the clear.
        if offersPlus, !options.isEncrypted {
            throw .methodNotAllowed("SCRAM-SHA-256-PLUS over an unencrypted connection")
        }
        let binding: SCRAM.ChannelBinding
        switch (options.channelBinding, offersPlus) {
        case (let hash?, true): binding = .tlsServerEndPoint(hash)
        case (_?, false):
            if options.requiresChannelBinding { throw .channelBindingNotPossible("the server does not offer it") }
            binding = .notOffered
        case (nil, _):
            if options.requiresChannelBinding {
                throw .channelBindingNotPossible("this connection has no certificate to bind to")
            }
            guard offersPlain else { throw .methodNotSupported(SCRAM.plusMechanism) }
            binding = .unsupported
        }
        let password = try password(for: "SCRAM-SHA-256")
        let first: [UInt8]
        var scram: SCRAM
        do throws(SCRAMError) {
            scram = try SCRAM(
                channelBinding: binding, password: password, iterationLimit: options.scramIterationLimit)
            first = try scram.clientFirst()
        } catch {
            throw .scram(error)
        }
        do { try writer.saslInitialResponse(mechanism: scram.mechanism, data: first) } catch { throw .encoding(error) }
        state = .sasl(scram)
    }

    private mutating func continueSASL(
        _ scram: inout SCRAM, _ request: AuthenticationRequest, tag: UInt8
    ) throws(StartupError) -> Step {
        do throws(SCRAMError) {
            switch request {
            case .saslContinue(let message):
                let derivation = try scram.serverFirst(message)
                state = .deriving(scram)
                return .derive(derivation)
            case .saslFinal(let message):
                try scram.serverFinal(message)
                isVerified = true
                state = .sasl(scram)
                return .needMore
            default: break
            }
        } catch {
            throw .scram(error)
        }
        guard request == .ok else { throw unexpected(tag) }
        guard scram.isVerified else { throw .authenticationNotCompleted }
        return authenticationOkReceived()
    }

    private mutating func negotiate(_ answer: NegotiateProtocolVersion) throws(StartupError) {
        if hasNegotiated { throw .invalidNegotiation("sent twice") }
        hasNegotiated = true
        let newest = answer.newestVersion
        guard newest.major == 3 else { throw .versionNotSupported(newest) }
        if newest > options.version { throw .invalidNegotiation("\(newest) is newer than what was asked for") }
        // 3.1 was never released; poolers used the number for something else.
        if newest.minor == 1 { throw .invalidNegotiation("3.1 does not exist") }
        let asked = options.parameters.map(\.name)
        for option in answer.unrecognizedOptions {
            guard option.hasPrefix("_pq_."), asked.contains(option) else {
                let name = escapedForDisplay(option.utf8, limit: Startup.shownBytes)
                throw .invalidNegotiation("the option \(name) was not asked for")
            }
        }
        if newest == options.version, answer.unrecognizedOptions.isEmpty {
            throw .invalidNegotiation("nothing was changed")
        }
        session.version = newest
    }
}

// MARK: - After authentication

extension Startup {
    private mutating func settle(_ message: BackendMessage, tag: UInt8) throws(StartupError) -> Step {
        switch message {
        case .parameterStatus(let status):
            do {
                try session.parameters.record(status)
            } catch {
                state = .failed
                throw .protocolViolation(error)
            }
            return .needMore
        case .backendKeyData(let key):
            let isKeyRight = session.version >= .v32 || key.secretKey.count == 4
            guard session.backendKey == nil, isKeyRight else { break }
            session.backendKey = key
            return .needMore
        case .readyForQuery(let status):
            session.transactionStatus = status
            state = .ready
            return .ready(session)
        default: break
        }
        state = .failed
        throw unexpected(tag)
    }
}
