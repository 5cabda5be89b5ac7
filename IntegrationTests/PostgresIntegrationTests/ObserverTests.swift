import Postgres
import PostgresTesting
import Synchronization
import TestTurns
import Testing

/// What an observer is told.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct ObserverTests {
    /// Writes down what it is told.
    final class Recorder: PostgresObserver {
        struct Entry: Sendable {
            let operation: PostgresOperation
            let result: PostgresOperation.Result
            let context: Int?
        }

        let entries = Mutex<[Entry]>([])
        let closes = Mutex<[PostgresClient.CloseReason]>([])
        let begun = Mutex(0)
        let wantsParameters: Bool

        init(wantsParameters: Bool = false) { self.wantsParameters = wantsParameters }

        func began(_ operation: PostgresOperation) -> (any Sendable)? {
            begun.withLock { count in
                count += 1
                return count
            }
        }

        func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?) {
            entries.withLock { $0.append(Entry(operation: operation, result: result, context: context as? Int)) }
        }

        func happened(_ event: PostgresPoolEvent) {
            if case .closed(let reason) = event { closes.withLock { $0.append(reason) } }
        }

        func take() -> [Entry] {
            entries.withLock { entries in
                defer { entries = [] }
                return entries
            }
        }
    }

    private func configuration(_ recorder: Recorder) async throws -> PostgresConfiguration {
        var configuration = try PostgresConfiguration(
            url: try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket))
        configuration.observer = recorder
        return configuration
    }

    @Test func eachOperationOfAConnectionIsToldOnce() async throws {
        let recorder = Recorder()
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        let connect = recorder.take()
        #expect(connect.map(\.operation.kind) == [.connect])
        #expect(connect.first?.operation.sql == nil)

        _ = try await db.query("SELECT generate_series(1, \(3))", as: Int32.self).all()
        let query = try #require(recorder.take().first)
        #expect(query.operation.kind == .query)
        #expect(query.operation.sql == "SELECT generate_series(1, $1)")
        #expect(query.operation.parameters.isEmpty, "values are not told unasked")
        #expect(query.result.rows == 3)
        #expect(query.result.affected == 3)
        #expect(query.result.roundTrips == 1)
        #expect(query.result.error == nil)
        #expect(query.result.duration > .zero)
        #expect(query.context == 2, "what began returned comes back")

        let failed = await failure { try await db.execute("SELECT 1 / 0") }
        let failure = try #require(recorder.take().first)
        #expect(failure.result.error?.code == failed?.code)
        #expect(failure.result.error?.code == .divisionByZero)

        var pipeline = PostgresPipeline()
        pipeline.add("SELECT 1")
        pipeline.add("SELECT 1 / 0")
        _ = try await db.run(pipeline)
        let flight = try #require(recorder.take().first)
        #expect(flight.operation.kind == .pipeline)
        #expect(flight.operation.statements == 2)
        #expect(flight.result.error?.code == .divisionByZero)

        try await db.script("SELECT 1; SELECT 2")
        for try await _ in try await db.stream("SELECT 1", as: Int32.self) {}
        try await db.execute("CREATE TEMP TABLE observed (n int4)")
        try await db.copy(into: "observed", columns: ["n"]) { writer in try await writer.write("1\n2\n") }
        let others = recorder.take()
        #expect(others.map(\.operation.kind) == [.script, .stream, .query, .copy])
        #expect(others.last?.result.affected == 2)
    }

    @Test func valuesAreToldIfAskedFor() async throws {
        let recorder = Recorder(wantsParameters: true)
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        _ = recorder.take()
        _ = try await db.query("SELECT \("text")::text, \(nil as String?)::text", as: (String, String?).self).one()
        #expect(recorder.take().first?.operation.parameters == [Array("text".utf8), nil])
    }

    @Test func statementsOfATransactionAreTold() async throws {
        let recorder = Recorder()
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        _ = recorder.take()
        try await db.transaction { tx in
            try await tx.execute("SELECT 1")
            try await tx.execute("SELECT 2")
        }
        #expect(recorder.take().compactMap(\.operation.sql) == ["SELECT 1", "SELECT 2"])
    }

    @Test func aPoolTellsOfWaitsAndCloses() async throws {
        let recorder = Recorder()
        let client = PostgresClient(try await configuration(recorder))
        try await client.execute("SELECT 1")
        let kinds = recorder.take().map(\.operation.kind)
        #expect(Set(kinds) == [.connect, .acquire, .query])
        await client.shutdown()
        await eventually("the close is told") { recorder.closes.withLock { $0 } == [.shutdown] }
    }

    @Test func aRefusedConnectIsTold() async throws {
        let recorder = Recorder()
        var configuration = try await configuration(recorder)
        configuration.database = "no_such_database"
        let error = await failure { _ = try await PostgresConnection.connect(configuration) }
        let told = try #require(recorder.take().first)
        #expect(told.operation.kind == .connect)
        #expect(told.result.error?.code == error?.code)
        #expect(error?.code == .invalidCatalogName)
    }

    @Test func theBlockingConnectionTellsToo() async throws {
        let recorder = Recorder()
        let configuration = try await configuration(recorder)
        try await onThread {
            let db = try PostgresBlockingConnection.connect(configuration)
            try db.execute("SELECT 1")
            try db.script("SELECT 2")
        }
        #expect(recorder.take().map(\.operation.kind) == [.connect, .query, .script])
    }
}
