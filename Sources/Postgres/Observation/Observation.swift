import PostgresProtocol
import PostgresTransport

/// An observer, and where a connection is connected to.
final class Observation: Sendable {
    let observer: any PostgresObserver
    private let server: String
    private let database: String
    private let user: String

    init(_ observer: any PostgresObserver, _ configuration: PostgresConfiguration, server: String) {
        self.observer = observer
        self.server = server
        database = configuration.database ?? configuration.user
        user = configuration.user
    }

    /// What a result tells.
    struct Counts {
        var rows = 0
        var affected = 0
        var error: PostgresError?
        /// Of a pipeline, one by one.
        var statements: [PostgresOperation.Result.Statement] = []
    }

    /// An operation under way.
    struct Running {
        let operation: PostgresOperation
        let context: (any Sendable)?
        let start: UInt64
        let roundTrips: Int
    }

    func begin(
        _ kind: PostgresOperation.Kind, sql: String? = nil, statements: Int = 1, query: PostgresQuery? = nil,
        pipeline items: [PostgresPipeline.Item] = [], roundTrips: Int = 0
    ) -> Running {
        let wantsParameters = observer.wantsParameters
        let operation = PostgresOperation(
            kind: kind, sql: sql ?? query?.sql, statements: kind == .pipeline ? items.count : statements,
            server: server, database: database, user: user,
            // Preparing sends none.
            parameters: wantsParameters && kind != .prepare ? query?.parameterBytes ?? [] : [], items: items,
            wantsParameters: wantsParameters)
        let context = observer.began(operation)
        return Running(operation: operation, context: context, start: monotonicNanoseconds(), roundTrips: roundTrips)
    }

    func end(_ running: Running, _ counts: Counts, roundTrips: Int = 0) {
        let nanoseconds = monotonicNanoseconds() &- running.start
        observer.ended(
            running.operation,
            PostgresOperation.Result(
                duration: .nanoseconds(Int64(clamping: nanoseconds)), rows: counts.rows, affected: counts.affected,
                error: counts.error, roundTrips: roundTrips &- running.roundTrips,
                statements: running.operation.kind == .pipeline ? counts.statements : []),
            running.context)
    }
}

/// An observer in a configuration, which is `Hashable`: two are equal if they are one.
final class ObserverHolder: Sendable, Hashable {
    let observer: any PostgresObserver
    init(_ observer: any PostgresObserver) { self.observer = observer }
    static func == (left: ObserverHolder, right: ObserverHolder) -> Bool { left === right }
    func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}

extension PostgresQuery {
    /// The parameters as Bind has them.
    var parameterBytes: [[UInt8]?] {
        let cells = storage.cells
        var values: [[UInt8]?] = []
        var offset = 0
        while cells.count - offset >= 4 {
            let length = Int(Int32(bigEndian: cells.loadUnaligned(fromByteOffset: offset, as: Int32.self)))
            offset += 4
            if length < 0 {
                values.append(nil)
            } else {
                let end = min(offset + length, cells.count)
                values.append(Array(cells[offset..<end]))
                offset = end
            }
        }
        withExtendedLifetime(storage) {}
        return values
    }
}
