import Glibc
import TestTurns
import Testing

@testable import PostgresTransport

/// One context for many connections, for as long as its files are the same.
@Suite(.inTurn, .timeLimit(.minutes(1))) struct TLSContextCacheTests {
    private let cache = TLSContextCache()
    private let authority: Identity
    private let file: CertificateFile
    private var roots: TLSRootCertificates { .file(file.path) }

    init() throws {
        authority = try Identity("Test Authority", names: nil)
        file = try authority.file()
    }

    /// Writes what another file has into this one's place, as a tool that renews certificates does.
    private func replace(_ path: String, by other: String) throws {
        try #require(rename(other, path) == 0)
    }

    @Test func aContextIsMadeOnceForEachOfWhatIsVerified() throws {
        #expect(cache.find(.chain, roots) == nil)
        let chain = try cache.make(.chain, roots)
        #expect(cache.find(.chain, roots) === chain)
        #expect(try cache.make(.chain, roots) === chain)
        let name = try cache.make(.chainAndHostName, roots)
        #expect(name !== chain)
        #expect(name.verification == .chainAndHostName)
        let system = try cache.make(.chain, .system)
        #expect(try cache.make(.chain, .system) === system)
        // Without verification no file is looked at.
        let none = try cache.make(.none, roots)
        #expect(try cache.make(.none, .file("/nonexistent/roots.pem")) === none)
        #expect(cache.count == 4)
    }

    @Test func aFileThatChangedIsReadAgain() async throws {
        let server = try Identity("server", names: "DNS:db.example.test", issuer: authority)
        let stranger = try Identity("Another Authority", names: nil)
        let before = try cache.make(.chain, roots)
        let other = try stranger.file()
        try replace(file.path, by: other.path)
        #expect(cache.find(.chain, roots) == nil)
        let after = try cache.make(.chain, roots)
        #expect(after !== before)
        _ = try await TLSLink(server, before, serverName: nil)
        await #expect(throws: TransportError.self) { _ = try await TLSLink(server, after, serverName: nil) }
    }

    @Test func aFileThatIsNotThereFailsEachTimeUntilItIs() throws {
        let path = file.path + ".later"
        for _ in 0..<3 {
            let error = #expect(throws: TransportError.self) { try cache.make(.chain, .file(path)) }
            #expect(error?.description.contains(path) == true)
            #expect(cache.find(.chain, .file(path)) == nil)
        }
        #expect(cache.count == 0)
        try replace(path, by: file.path)
        defer { unlink(path) }
        let made = try cache.make(.chain, .file(path))
        #expect(cache.find(.chain, .file(path)) === made)
    }

    @Test func noMoreAreKeptThanTheBound() throws {
        weak var first: TLSContext?
        for version in 0..<(2 * TLSContextCache.capacity) {
            let made = try cache.make(.chain, roots)
            if version == 0 { first = made }
            // A version of its own.
            let descriptor = open(file.path, O_WRONLY | O_APPEND)
            defer { close(descriptor) }
            try #require(write(descriptor, "\n", 1) == 1)
        }
        #expect(cache.count == TLSContextCache.capacity)
        #expect(first == nil)
    }

    @Test func manyAtOnceGetTheSame() async throws {
        let cache = cache
        let roots = roots
        let made = try await withThrowingTaskGroup(of: TLSContext.self) { group in
            for _ in 0..<16 { group.addTask { try cache.make(.chain, roots) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(made.map { ObjectIdentifier($0) }).count == 1)
    }
}
