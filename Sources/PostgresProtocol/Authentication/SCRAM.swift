// RFC 5802 (SCRAM), RFC 7677 (SCRAM-SHA-256), RFC 5929 (tls-server-end-point); manual, "SASL Authentication".

/// The client's half of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
///
/// Theory of operation:
/// ```
/// clientFirst ──> serverFirst ──> (derivation, off the loop) ──> clientFinal ──> serverFinal ──> verified
/// ```
/// Each step is taken once, in this order; anything else is an error. The proof shows the server that we know the
/// password without showing the password; the server's signature shows us that it knew a verifier of it, so an exchange
/// that ends before `verified` proves nothing about the server.
package struct SCRAM: Sendable {
    package static let plainMechanism = "SCRAM-SHA-256"
    package static let plusMechanism = "SCRAM-SHA-256-PLUS"
    package static let defaultIterationLimit = 100_000

    /// What the client says about channel binding, and proves by its final message.
    package enum ChannelBinding: Sendable, Equatable {
        /// `n`: this connection has nothing to bind to.
        case unsupported
        /// `y`: it has, but the server did not offer `-PLUS`. A server that did offer it refuses this: someone between
        /// us took the offer away.
        case notOffered
        /// `p`: the hash of the server's certificate.
        case tlsServerEndPoint([UInt8])
    }

    private enum State {
        case initial
        case firstSent
        case deriving(serverFirst: [UInt8], nonce: [UInt8])
        case finalSent(serverSignature: [UInt8])
        case verified
        case failed
    }

    private let channelBinding: ChannelBinding
    private let password: Password
    private let iterationLimit: Int
    private let nonce: [UInt8]
    private let userName: String
    private var state = State.initial

    package init(
        channelBinding: ChannelBinding, password: Password, iterationLimit: Int = defaultIterationLimit
    ) throws(SCRAMError) {
        do throws(Crypto.Failure) {
            // 18 bytes are 24 characters of base64, as many as libpq's.
            let nonce = Base64.encode(try Crypto.randomBytes(18))
            self.init(channelBinding: channelBinding, password: password, iterationLimit: iterationLimit, nonce: nonce)
        } catch {
            throw .cryptoUnavailable(error.operation)
        }
    }

    /// - Parameter userName: Empty, as the server takes the name from the startup message; the RFC's example has one.
    init(
        channelBinding: ChannelBinding, password: Password, iterationLimit: Int, nonce: [UInt8], userName: String = ""
    ) {
        self.channelBinding = channelBinding
        self.password = password
        self.iterationLimit = iterationLimit
        self.nonce = nonce
        self.userName = userName
    }

    package var mechanism: String {
        if case .tlsServerEndPoint = channelBinding { SCRAM.plusMechanism } else { SCRAM.plainMechanism }
    }

    /// Whether the server has proved that it knows the password's verifier.
    package var isVerified: Bool {
        if case .verified = state { true } else { false }
    }

    private var gs2Header: [UInt8] {
        switch channelBinding {
        case .unsupported: Array("n,,".utf8)
        case .notOffered: Array("y,,".utf8)
        case .tlsServerEndPoint: Array("p=tls-server-end-point,,".utf8)
        }
    }

    private var clientFirstBare: [UInt8] { Array("n=\(userName),r=".utf8) + nonce }

    /// Takes the state out, so that a step that throws leaves an exchange nobody can go on with.
    private mutating func leaveState() -> State {
        let left = state
        state = .failed
        return left
    }

    package mutating func clientFirst() throws(SCRAMError) -> [UInt8] {
        guard case .initial = leaveState() else { throw .outOfOrder }
        state = .firstSent
        return gs2Header + clientFirstBare
    }

    /// `r=<nonce>,s=<salt>,i=<iterations>`
    package mutating func serverFirst(_ message: [UInt8]) throws(SCRAMError) -> Derivation {
        guard case .firstSent = leaveState() else { throw .outOfOrder }
        var attributes = Attributes(message)
        if attributes.nextName == UInt8(ascii: "m") { throw .mandatoryExtension }
        let serverNonce = try attributes.next("r")
        // Ours, and something of the server's own after it: otherwise an old exchange could be played back.
        guard serverNonce.starts(with: nonce), serverNonce.count > nonce.count,
            serverNonce.allSatisfy({ 0x21...0x7E ~= $0 })
        else { throw .wrongNonce }
        guard let salt = Base64.decode(try attributes.next("s")), !salt.isEmpty else { throw .malformed("salt") }
        let iterations = try SCRAM.iterations(try attributes.next("i"), limit: iterationLimit)
        try attributes.finish()
        state = .deriving(serverFirst: message, nonce: Array(serverNonce))
        return Derivation(password: SASLprep.prepare(password), salt: salt, iterations: iterations)
    }

    private static func iterations(_ text: ArraySlice<UInt8>, limit: Int) throws(SCRAMError) -> Int {
        // `posit-number`: no sign, no leading zero.
        guard let first = text.first, first != UInt8(ascii: "0"), text.allSatisfy({ 0x30...0x39 ~= $0 }) else {
            throw .malformed("iteration count")
        }
        // The server decides how much of our time this takes, so there is an end to it.
        guard let count = Int(String(decoding: text, as: UTF8.self)), count <= limit else {
            throw .tooManyIterations(limit: limit)
        }
        return count
    }

    package mutating func clientFinal(_ saltedPassword: SaltedPassword) throws(SCRAMError) -> [UInt8] {
        guard case .deriving(let serverFirst, let serverNonce) = leaveState() else { throw .outOfOrder }
        var bindingInput = gs2Header
        if case .tlsServerEndPoint(let hash) = channelBinding { bindingInput += hash }
        let withoutProof = Array("c=".utf8) + Base64.encode(bindingInput) + Array(",r=".utf8) + serverNonce
        let comma = [UInt8(ascii: ",")]
        let authMessage = clientFirstBare + comma + serverFirst + comma + withoutProof
        do throws(Crypto.Failure) {
            let clientKey = try Crypto.hmacSHA256(key: saltedPassword.bytes, Array("Client Key".utf8))
            let storedKey = try Crypto.sha256(clientKey)
            let clientSignature = try Crypto.hmacSHA256(key: storedKey, authMessage)
            let proof = zip(clientKey, clientSignature).map { $0 ^ $1 }
            let serverKey = try Crypto.hmacSHA256(key: saltedPassword.bytes, Array("Server Key".utf8))
            state = .finalSent(serverSignature: try Crypto.hmacSHA256(key: serverKey, authMessage))
            return withoutProof + Array(",p=".utf8) + Base64.encode(proof)
        } catch {
            throw .cryptoUnavailable(error.operation)
        }
    }

    /// `v=<signature>`, or `e=<error>`
    package mutating func serverFinal(_ message: [UInt8]) throws(SCRAMError) {
        guard case .finalSent(let expected) = leaveState() else { throw .outOfOrder }
        var attributes = Attributes(message)
        if attributes.nextName == UInt8(ascii: "e") {
            throw .serverError(escapedForDisplay(try attributes.next("e"), limit: 256))
        }
        guard let signature = Base64.decode(try attributes.next("v")) else { throw .malformed("server signature") }
        try attributes.finish()
        guard Crypto.isEqual(signature, expected) else { throw .wrongServerSignature }
        state = .verified
    }

    /// The one slow step, to be run off the event loop.
    package struct Derivation: Sendable {
        let password: [UInt8]
        package let salt: [UInt8]
        package let iterations: Int

        package func run() throws(SCRAMError) -> SaltedPassword {
            do {
                return SaltedPassword(
                    bytes: try Crypto.pbkdf2SHA256(password: password, salt: salt, iterations: iterations))
            } catch {
                throw .cryptoUnavailable(error.operation)
            }
        }
    }

    /// As good as the password, for this server.
    package struct SaltedPassword: Sendable {
        let bytes: [UInt8]
    }
}

extension SCRAM: CustomStringConvertible, CustomReflectable {
    package var description: String { mechanism }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension SCRAM.Derivation: CustomStringConvertible, CustomReflectable {
    package var description: String { "\(iterations) iterations" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension SCRAM.SaltedPassword: CustomStringConvertible, CustomReflectable {
    package var description: String { "********" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// Why a SCRAM exchange failed. None of these shows a secret.
package enum SCRAMError: Error, Equatable, CustomStringConvertible {
    case malformed(String)
    /// The server demands an extension this client does not have.
    case mandatoryExtension
    case wrongNonce
    case tooManyIterations(limit: Int)
    case serverError(String)
    /// The server does not know our password: not the server we mean, whoever it is.
    case wrongServerSignature
    case outOfOrder
    case cryptoUnavailable(String)

    package var description: String {
        switch self {
        case .malformed(let what): "malformed SCRAM message: \(what)"
        case .mandatoryExtension: "the server demands a SCRAM extension that is not supported"
        case .wrongNonce: "the server's SCRAM nonce does not begin with ours"
        case .tooManyIterations(let limit): "the server asks for more than \(limit) SCRAM iterations"
        case .serverError(let text): "the server ended the SCRAM exchange: \(text)"
        case .wrongServerSignature: "the server did not prove that it knows the password"
        case .outOfOrder: "a SCRAM message out of order"
        case .cryptoUnavailable(let what): "OpenSSL does not provide \(what)"
        }
    }
}

/// `a=value,b=value`: read strictly in the order of the RFC's grammar.
private struct Attributes {
    private var rest: ArraySlice<UInt8>

    init(_ message: [UInt8]) { rest = message[...] }

    var nextName: UInt8? { rest.first }

    mutating func next(_ name: Unicode.Scalar) throws(SCRAMError) -> ArraySlice<UInt8> {
        guard rest.count >= 2, rest.first == UInt8(ascii: name), rest.dropFirst().first == UInt8(ascii: "=") else {
            throw .malformed("no attribute \(name) where it belongs")
        }
        let value = rest.dropFirst(2).prefix { $0 != UInt8(ascii: ",") }
        rest = rest[value.endIndex...]
        // The comma stays away only at the end of the message, and never ends it.
        if !rest.isEmpty {
            rest.removeFirst()
            if rest.isEmpty { throw .malformed("a comma at the end") }
        }
        return value
    }

    func finish() throws(SCRAMError) {
        if !rest.isEmpty { throw .malformed("bytes after the last attribute") }
    }
}
