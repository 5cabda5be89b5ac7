import Foundation
import Postgres
import PostgresTesting

/// A server as a proxy before it sees it: where it is, and what a URL by way of the proxy has to say besides.
struct ProxiedServer: Sendable {
    let place: PostgresFaultProxy.Server
    private let configuration: PostgresConfiguration

    /// - Parameter url: of the server itself.
    init(url: String) throws(PostgresError) {
        configuration = try PostgresConfiguration(url: url)
        let host = configuration.host
        place =
            host.hasPrefix("/")
            ? .unixSocket(path: "\(host)/.s.PGSQL.\(configuration.port)")
            : .host(host, port: configuration.port)
    }

    /// The same user and database at another port of this machine. TLS goes through the proxy as it is; but no certificate is of
    /// this machine, so of `verify-full` is left that the chain is verified, if its roots are given.
    func url(by proxy: PostgresFaultProxy) -> String {
        var parameters = ["sslmode": sslmode]
        if sslmode == "require", let roots = configuration.sslrootcert { parameters["sslrootcert"] = roots }
        let user = Self.escaped(configuration.user)
        let password = configuration.password.map { ":" + Self.escaped($0) } ?? ""
        let database = Self.escaped(configuration.database ?? configuration.user)
        let query = parameters.sorted { $0.key < $1.key }.map { "\($0.key)=\(Self.escaped($0.value))" }
        return "postgresql://\(user)\(password)@127.0.0.1:\(proxy.port)/\(database)?\(query.joined(separator: "&"))"
    }

    private var sslmode: String {
        let host = configuration.host
        if host.hasPrefix("/") { return "disable" }
        switch configuration.sslmode {
        case .disable?: return "disable"
        case .prefer?: return "prefer"
        case .require?, .verifyFull?: return "require"
        case nil: return host == "localhost" || host == "::1" || host.hasPrefix("127.") ? "prefer" : "require"
        }
    }

    private static func escaped(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? text
    }
}
