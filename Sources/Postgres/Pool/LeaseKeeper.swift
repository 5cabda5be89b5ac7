import PostgresTransport
import Synchronization

/// Gives a connection back when whatever reads from it is let go, and keeps the client open until then.
final class LeaseKeeper: Sendable {
    private let client: PostgresClient
    /// nil until what needs it was opened: before, whoever opens it gives the connection back himself.
    private let lease = Lock<ConnectionPool.Lease?>(nil)

    init(client: PostgresClient) { self.client = client }

    func keep(_ lease: ConnectionPool.Lease) { self.lease.withLock { $0 = lease } }

    deinit {
        let kept = lease.withLock { $0 }
        if let kept { client.pool.giveBack(kept) }
    }
}
