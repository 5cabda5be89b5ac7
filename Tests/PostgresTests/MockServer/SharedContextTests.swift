import Glibc
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// A file of root certificates.
final class RootFile: Sendable {
    let path: String

    init(_ text: String) throws {
        var template = Array("/tmp/postgres-mock-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        try #require(write(descriptor, text, text.utf8.count) == text.utf8.count)
    }

    deinit { unlink(path) }
}

/// Connections that verify the same share what they verify it with.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockSharedContextTests {
    private func connect(
        _ server: PostgresMockServer, _ mode: PostgresConfiguration.SSLMode, _ roots: RootFile
    ) async throws(PostgresError) -> PostgresConnection {
        try await PostgresConnection.connect(
            server.configuration {
                $0.sslmode = mode
                $0.sslrootcert = mode == .prefer ? nil : roots.path
            })
    }

    @Test(arguments: [PostgresConfiguration.SSLMode.prefer, .require, .verifyFull])
    func `connections of one configuration share a context`(mode: PostgresConfiguration.SSLMode) async throws {
        let authority = try PostgresTestCertificate.authority()
        let certificate = try authority.issue()
        let script: [Step] = [.acceptTLS(certificate), .acceptTrust()]
        let server = try PostgresMockServer(scripts: [script, script, script])
        let roots = try RootFile(authority.certificatePEM)
        let first = try await connect(server, mode, roots)
        let second = try await connect(server, mode, roots)
        let configuration = server.configuration {
            $0.sslmode = mode
            $0.sslrootcert = mode == .prefer ? nil : roots.path
        }
        let third = try await onOwnThread { () throws(PostgresError) in
            try PostgresBlockingConnection.connect(configuration)
        }
        let context = try #require(first.core.server.tlsContext)
        #expect(second.core.server.tlsContext === context)
        #expect(third.core.server.tlsContext === context)
        for db in [first, second, third.asynchronous] { db.close() }
        try await server.finish()
    }
}
