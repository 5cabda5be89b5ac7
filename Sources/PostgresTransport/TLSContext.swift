import CPostgresOpenSSL
import Glibc

/// What is asked of the peer's certificate.
package enum TLSVerification: Sendable, Hashable {
    /// Encrypted, but with anybody.
    case none
    /// The chain leads to a trusted root.
    case chain
    /// And the certificate is for the host that was asked for.
    case chainAndHostName
}

package enum TLSRootCertificates: Sendable, Hashable {
    case system
    /// A file of PEM certificates.
    case file(String)
}

package enum TLSVersion: Sendable, Hashable {
    case tls12
    case tls13

    fileprivate var number: Int32 {
        switch self {
        case .tls12: TLS1_2_VERSION
        case .tls13: TLS1_3_VERSION
        }
    }
}

/// The settings of TLS connections, to be made once and used for many.
///
/// Sessions are not resumed, so that each connection verifies the certificate anew; renegotiation is refused.
///
/// Safe to share: the `SSL_CTX` is not changed after `init`, and OpenSSL lets threads make connections from one at once.
package final class TLSContext: @unchecked Sendable {
    package let verification: TLSVerification
    private let context: OpaquePointer

    package init(
        verification: TLSVerification, rootCertificates: TLSRootCertificates = .system,
        minimumVersion: TLSVersion = .tls12, maximumVersion: TLSVersion? = nil
    ) throws(TransportError) {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_client_method()) else { throw .openSSL(.configuration) }
        self.context = context
        self.verification = verification
        // From here on `deinit` frees it, also when this throws.
        guard postgres_SSL_CTX_set_min_proto_version(context, minimumVersion.number) == 1 else {
            throw .openSSL(.configuration)
        }
        if let maximumVersion, postgres_SSL_CTX_set_max_proto_version(context, maximumVersion.number) != 1 {
            throw .openSSL(.configuration)
        }
        SSL_CTX_set_options(
            context,
            postgres_SSL_OP_NO_RENEGOTIATION | postgres_SSL_OP_NO_COMPRESSION | postgres_SSL_OP_NO_TICKET)
        postgres_SSL_CTX_set_session_cache_mode(context, Int(SSL_SESS_CACHE_OFF))
        postgres_SSL_CTX_set_mode(context, Int(SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
        SSL_CTX_set_verify(context, verification == .none ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nil)
        guard verification != .none else { return }
        switch rootCertificates {
        case .system:
            guard SSL_CTX_set_default_verify_paths(context) == 1 else { throw .openSSL(.configuration) }
        case .file(let path):
            guard SSL_CTX_load_verify_file(context, path) == 1 else {
                throw .openSSL(.configuration, "root certificates in \(path)")
            }
        }
    }

    deinit { SSL_CTX_free(context) }

    /// A connection in the client's role, to be freed by the caller.
    func makeConnection(serverName: String?) throws(TransportError) -> OpaquePointer {
        ERR_clear_error()
        guard let connection = SSL_new(context) else { throw .openSSL(.configuration) }
        do {
            SSL_set_connect_state(connection)
            try setServerName(serverName, of: connection)
        } catch {
            SSL_free(connection)
            throw error
        }
        return connection
    }

    private func setServerName(_ serverName: String?, of connection: OpaquePointer) throws(TransportError) {
        guard let name = serverName.map(ServerName.init), !name.text.isEmpty else {
            guard verification != .chainAndHostName else {
                throw .tls(stage: .configuration, message: "verifying the host name needs a host name")
            }
            return
        }
        // OpenSSL takes ".example.com" to mean every host of that domain.
        guard !name.text.utf8.contains(0), name.text.utf8.first != UInt8(ascii: ".") else {
            throw .tls(stage: .configuration, message: "invalid host name \"\(name.text)\"")
        }
        if !name.isAddress {
            // RFC 6066: a name, never an address.
            guard postgres_SSL_set_tlsext_host_name(connection, name.text) == 1 else {
                throw .openSSL(.configuration, "host name \"\(name.text)\"")
            }
        }
        guard verification == .chainAndHostName else { return }
        let parameters = SSL_get0_param(connection)
        X509_VERIFY_PARAM_set_hostflags(parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
        let accepted =
            name.isAddress
            ? X509_VERIFY_PARAM_set1_ip_asc(parameters, name.text)
            : X509_VERIFY_PARAM_set1_host(parameters, name.text, name.text.utf8.count)
        guard accepted == 1 else { throw .openSSL(.configuration, "host name \"\(name.text)\"") }
    }
}

/// A host as it stands in a certificate: without the dot that may end a complete name, or the zone of an IPv6 address.
private struct ServerName {
    let text: String
    let isAddress: Bool

    init(_ host: String) {
        let withoutZone = String(host.prefix { $0 != "%" })
        var v4 = in_addr()
        var v6 = in6_addr()
        if inet_pton(AF_INET, host, &v4) == 1 || inet_pton(AF_INET6, withoutZone, &v6) == 1 {
            text = withoutZone
            isAddress = true
        } else {
            text = host.hasSuffix(".") ? String(host.dropLast()) : host
            isAddress = false
        }
    }
}

extension TransportError {
    /// What OpenSSL has to say about its last failure on this thread.
    static func openSSL(_ stage: TLSStage, _ subject: String? = nil) -> TransportError {
        var reasons: [String] = []
        while reasons.count < 4 {
            let code = ERR_get_error()
            guard code != 0 else { break }
            if let text = ERR_reason_error_string(code) {
                reasons.append(String(cString: text))
            } else {
                reasons.append(systemMessage(ERR_GET_REASON(code)))
            }
        }
        ERR_clear_error()
        let message = reasons.isEmpty ? "unknown error" : reasons.joined(separator: ", ")
        return .tls(stage: stage, message: subject.map { "\($0): \(message)" } ?? message)
    }
}
