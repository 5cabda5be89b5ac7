/// The transactions whose bodies the current task is in, innermost first: so that a statement which would wait for the end of
/// its own transaction is an error. Looked at only when a statement has to wait.
final class OwnTransaction: Sendable {
    private static let local = TaskLocal<OwnTransaction?>(wrappedValue: nil)

    private let flow: TransactionFlow
    private let outer: OwnTransaction?

    init(_ flow: TransactionFlow) {
        self.flow = flow
        outer = OwnTransaction.current
    }

    static var current: OwnTransaction? { local.get() }

    /// Whether one of them has this lease of this connection.
    func holds(_ lease: Int, of core: ConnectionCore) -> Bool {
        var next: OwnTransaction? = self
        while let own = next {
            if own.flow.core === core, own.flow.writer == lease { return true }
            next = own.outer
        }
        return false
    }

    /// Runs a body inside the transaction.
    nonisolated(nonsending) static func run<Success>(
        _ flow: TransactionFlow, _ body: nonisolated(nonsending) () async throws -> Success
    ) async throws -> Success {
        try await local.withValue(OwnTransaction(flow), operation: body)
    }

    static func runBlocking<Success>(_ flow: TransactionFlow, _ body: () throws -> Success) throws -> Success {
        try local.withValue(OwnTransaction(flow), operation: body)
    }
}
