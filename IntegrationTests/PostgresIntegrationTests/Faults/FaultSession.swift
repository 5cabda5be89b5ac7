import Postgres
import PostgresTesting
import Testing

/// What a session says became of rows that it wrote in one statement.
struct FaultClaim: Sendable {
    /// The rows; none for a statement that only reads.
    var keys: Range<Int64>
    /// Nil when the statement was acknowledged.
    var error: PostgresError?
}

/// What is tried under faults: one way to use a server, whose bytes are the same each time.
///
/// A new one belongs into `all`: a name, and what it does with a connection, or a pool, and `keyCount` keys that nobody else uses, in
/// the table `faults (key, n)`. It looks at its own results, and returns a claim for each statement that wrote.
struct FaultSession: Sendable, CustomTestStringConvertible {
    typealias Run = @Sendable (_ db: PostgresConnection, _ key: Int64) async -> [FaultClaim]
    typealias BlockingRun = @Sendable (_ db: PostgresBlockingConnection, _ key: Int64) -> [FaultClaim]
    typealias PoolRun = @Sendable (_ client: PostgresClient, _ key: Int64) async -> [FaultClaim]

    enum Use: Sendable {
        /// The faults are in the connecting; nothing is run afterwards.
        case connect
        /// The faults are in what comes behind the connecting.
        case connection(Run)
        /// The same with the blocking API, on a thread of its own.
        case blocking(BlockingRun)
        /// A pool of one connection, which connects for itself; the faults are in its first.
        case pool(PoolRun)
    }

    var name: String
    var use = Use.connect
    /// How many keys a run may use.
    var keyCount: Int64 = 0
    /// Whether all that a run writes is one transaction.
    var isAtomic = false
    /// The server has words of its own for a client that ends in the middle of one.
    var copiesIn = false
    var usesTLS = false
    var usesSCRAM = false
    /// The first statement is stopped at a deadline, by a request to cancel, and rejected.
    var cancels = false
    /// Which connection the faults are in: the session's own is 0, that of its first request to cancel 1.
    var harmedConnection = 0

    var testDescription: String { name }

    /// Whether the bytes of the connecting are among those that are cut.
    var coversConnecting: Bool {
        switch use {
        case .connect, .pool: true
        case .connection, .blocking: false
        }
    }

    static let all: [FaultSession] = [
        FaultSession(name: "connect with SCRAM", usesSCRAM: true),
        FaultSession(name: "connect with TLS", usesTLS: true),
        FaultSession(name: "script", use: .connection(script), keyCount: 2, isAtomic: true),
        FaultSession(name: "extended query", use: .connection(extendedQuery), keyCount: 2),
        FaultSession(
            name: "isolated pipeline of 10", use: .connection { await pipeline($0, $1, .isolated) }, keyCount: 10),
        FaultSession(
            name: "atomic pipeline of 10", use: .connection { await pipeline($0, $1, .atomic) }, keyCount: 10,
            isAtomic: true),
        FaultSession(name: "upsert batch of 100", use: .connection(upsertBatch), keyCount: 100, isAtomic: true),
        FaultSession(name: "COPY in", use: .connection(copyIn), keyCount: 20, isAtomic: true, copiesIn: true),
        FaultSession(name: "COPY out", use: .connection(copyOut)),
        FaultSession(name: "transaction", use: .connection(transaction), keyCount: 3, isAtomic: true),
        FaultSession(name: "cursor", use: .connection(cursor), keyCount: 10, isAtomic: true),
        FaultSession(name: "cursor with hold", use: .connection(heldCursor), keyCount: 2),
        FaultSession(name: "LISTEN and NOTIFY", use: .connection(listen), keyCount: 2),
        FaultSession(name: "cancelled statement", use: .connection(cancelled), keyCount: 2, cancels: true),
        FaultSession(
            name: "request to cancel", use: .connection(cancelled), keyCount: 2, cancels: true, harmedConnection: 1),
        FaultSession(name: "pool", use: .pool(pool), keyCount: 8),
        FaultSession(name: "blocking API", use: .blocking(blocking), keyCount: 16, copiesIn: true),
    ]

    // MARK: What they claim

    static func claim(_ keys: Range<Int64>, _ statement: () async throws -> Void) async -> FaultClaim {
        await FaultClaim(keys: keys, Result { try await statement() })
    }

    static func claimBlocking(_ keys: Range<Int64>, _ statement: () throws -> Void) -> FaultClaim {
        FaultClaim(keys: keys, Result { try statement() })
    }
}

extension FaultClaim {
    fileprivate init(keys: Range<Int64>, _ result: Result<Void, any Error>) {
        self.keys = keys
        switch result {
        case .success: break
        case .failure(let error as PostgresError): self.error = error
        case .failure(let error):
            Issue.record("an error of another type: \(error)")
            self.keys = keys.lowerBound..<keys.lowerBound
        }
    }
}

extension Result where Failure == any Error {
    /// What an asynchronous operation returned or threw.
    init(_ operation: () async throws -> Success) async {
        do { self = .success(try await operation()) } catch { self = .failure(error) }
    }
}

extension PostgresQuery {
    /// One row of the table of faults.
    static func insert(_ key: Int64, _ n: Int64) -> PostgresQuery { "INSERT INTO faults VALUES (\(key), \(n))" }
}
