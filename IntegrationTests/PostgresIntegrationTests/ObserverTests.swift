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

        /// What was told since the last look, if that is one operation.
        func only(_ sourceLocation: SourceLocation = #_sourceLocation) -> Entry? {
            let entries = take()
            #expect(entries.count == 1, sourceLocation: sourceLocation)
            return entries.first
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
        #expect(flight.operation.pipelined.map(\.sql) == ["SELECT 1", "SELECT 1 / 0"])
        #expect(flight.result.error?.code == .divisionByZero)
        #expect(flight.result.statements.map(\.affected) == [1, 0])
        #expect(flight.result.statements.map(\.error?.code) == [nil, .divisionByZero])

        try await db.script("SELECT 1; SELECT 2")
        for try await _ in try await db.stream("SELECT 1", as: Int32.self) {}
        try await db.execute("CREATE TEMP TABLE observed (n int4)")
        try await db.copy(into: "observed", columns: ["n"]) { writer in try await writer.write("1\n2\n") }
        let others = recorder.take()
        #expect(others.map(\.operation.kind) == [.script, .stream, .query, .copyIn])
        #expect(others.last?.result.affected == 2)
    }

    @Test func thePartsOfAPipelineAreTold() async throws {
        let recorder = Recorder(wantsParameters: true)
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        _ = recorder.take()
        for sync in [PostgresPipeline.Sync.isolated, .savepoints] {
            var pipeline = PostgresPipeline(sync)
            pipeline.add("SELECT \(Int32(7)), \(nil as Int32?)")
            pipeline.add("SELECT 1 / \(Int32(0))")
            pipeline.add("SELECT 3")
            _ = try await db.run(pipeline)
            let told = try #require(recorder.only())
            #expect(told.operation.statements == 3)
            #expect(told.operation.sql == nil)
            let parts = told.operation.pipelined
            #expect(parts.map(\.sql) == ["SELECT $1, $2", "SELECT 1 / $1", "SELECT 3"])
            #expect(parts.map(\.parameters) == [[[0, 0, 0, 7], nil], [[0, 0, 0, 0]], []])
            #expect(told.result.statements.map { $0.error?.sqlState } == [nil, "22012", nil])
        }

        var good = PostgresPipeline(.atomic)
        good.add("SELECT 1")
        try await db.transaction(good)
        let committed = try #require(recorder.only())
        #expect(committed.operation.pipelined.map(\.sql) == ["SELECT 1"])
        #expect(committed.result.statements.map { $0.error?.sqlState } == [nil])
        _ = try await db.query("SELECT 1", as: Int32.self).one()
        #expect(recorder.only()?.operation.pipelined.isEmpty == true)
    }

    @Test func aPipelinesParametersAreNotToldUnasked() async throws {
        let recorder = Recorder()
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        _ = recorder.take()
        var pipeline = PostgresPipeline()
        pipeline.add("SELECT \(Int32(7))")
        _ = try await db.run(pipeline)
        let parts = try #require(recorder.only()).operation.pipelined
        #expect(parts.map(\.sql) == ["SELECT $1"])
        #expect(parts.map(\.parameters) == [[]])
    }

    @Test func copiesAreToldInBothDirections() async throws {
        let recorder = Recorder()
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        try await db.execute("CREATE TEMP TABLE observed (n int4)")
        _ = recorder.take()
        try await db.copy(into: "observed", column: "n", values: [Int32(1), 2])
        let typed = try #require(recorder.only())
        #expect(typed.operation.kind == .copyIn)
        #expect(typed.operation.sql == #"COPY "observed" ("n") FROM STDIN WITH (FORMAT binary)"#)
        #expect(typed.result.affected == 2)
        #expect(typed.result.roundTrips >= 1, "the types were asked for first")

        struct Broken: Error {}
        do { try await db.copy(into: "observed") { _ in throw Broken() } } catch is Broken {}
        let broken = try #require(recorder.only())
        #expect(broken.result.error?.message.contains("the source of the COPY failed") == true)
        #expect(broken.result.error?.code == .sourceFailed)

        let cancelled = CancellationError()
        do { try await db.copy(into: "observed") { _ in throw cancelled } } catch is CancellationError {}
        #expect(recorder.only()?.result.error?.code == .cancelled)

        for try await _ in try await db.copy(from: "observed") {}
        let bytes = try #require(recorder.only())
        #expect(bytes.operation.kind == .copyOut)
        #expect(bytes.operation.sql == #"COPY "observed" TO STDOUT"#)

        for try await _ in try await db.copy(rowsOf: "SELECT n FROM observed", as: Int32.self) {}
        #expect(recorder.only()?.operation.kind == .copyOut)

        let refused = await failure { _ = try await db.copy(from: "no_such_table") }
        let told = try #require(recorder.only())
        #expect(told.result.error?.code == .undefinedTable)
        #expect(refused?.code == .undefinedTable)
    }

    @Test func cursorsAndTheirBatchesAreTold() async throws {
        let recorder = Recorder()
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        _ = recorder.take()
        for try await _ in try await db.cursor("SELECT generate_series(1, 5)", as: Int32.self, fetching: 2) {}
        let portal = recorder.take()
        #expect(portal.map(\.operation.kind) == [.cursor, .fetch, .fetch])
        #expect(portal.map(\.result.rows) == [2, 2, 1])
        #expect(portal.allSatisfy { $0.operation.sql == "SELECT generate_series(1, 5)" })

        let held = try await db.cursor("SELECT 1", as: Int32.self, fetching: 2, withHold: true)
        for try await _ in held {}
        let fetched = recorder.take()
        #expect(fetched.map(\.operation.kind) == [.cursor, .fetch])
        #expect(fetched.last?.operation.sql?.hasPrefix("FETCH FORWARD 2 FROM ") == true)

        try await db.transaction { tx in
            for try await _ in try await tx.cursor("SELECT 1", as: Int32.self, fetching: 2) {}
        }
        #expect(recorder.take().map(\.operation.kind) == [.cursor, .commit])
    }

    @Test func preparingAndListeningAreTold() async throws {
        let recorder = Recorder(wantsParameters: true)
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        _ = recorder.take()
        try await db.prepare("SELECT \(1)")
        let prepared = try #require(recorder.only())
        #expect(prepared.operation.kind == .prepare)
        #expect(prepared.operation.sql == "SELECT $1")
        #expect(prepared.operation.parameters.isEmpty, "they are not sent")
        #expect(prepared.result.roundTrips == 1)

        let notifications = try await db.listen(to: "one", "two")
        let listening = try #require(recorder.only())
        #expect(listening.operation.kind == .listen)
        #expect(listening.operation.sql == #"LISTEN "one"; LISTEN "two""#)
        #expect(listening.operation.statements == 2)
        withExtendedLifetime(notifications) {}
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
        let told = recorder.take()
        #expect(told.map(\.operation.sql) == ["SELECT 1", "SELECT 2", "COMMIT"])
        #expect(told.map(\.operation.kind) == [.query, .query, .commit])
        #expect(told.map(\.result.roundTrips) == [1, 1, 1])

        try await db.transaction { _ in }
        #expect(recorder.take().isEmpty, "nothing was sent")

        struct Stop: Error {}
        do {
            try await db.transaction { tx in
                try await tx.script("SELECT 3")
                throw Stop()
            }
        } catch is Stop {}
        let stopped = recorder.take()
        #expect(stopped.map(\.operation.kind) == [.script, .rollback])
        #expect(stopped.first?.result.roundTrips == 2, "BEGIN went before it")
        #expect(stopped.last?.result.error == nil)
    }

    @Test func transactionsInOneFlightAreOnePipeline() async throws {
        let recorder = Recorder()
        let db = try await PostgresConnection.connect(try await configuration(recorder))
        _ = recorder.take()
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("SELECT 1")
        pipeline.add("SELECT 2")
        try await db.transaction(pipeline)
        let flight = try #require(recorder.only())
        #expect(flight.operation.kind == .pipeline)
        #expect(flight.operation.statements == 2)
        #expect(flight.result.rows == 2)
        #expect(flight.result.roundTrips == 1)

        try await db.transaction { tx in
            try await tx.execute("SELECT 1")
            try await tx.commit(with: "SELECT 2")
        }
        let committed = recorder.take()
        #expect(committed.map(\.operation.kind) == [.query, .pipeline])
        #expect(committed.last?.operation.statements == 1)

        pipeline.add("SELECT 1 / 0")
        let failed = await failure { [pipeline] in try await db.transaction(pipeline) }
        #expect(failed?.code == .divisionByZero)
        #expect(recorder.only()?.result.error?.code == .divisionByZero)
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

    @Test func whatAClientDoesForItsCallersIsTold() async throws {
        let recorder = Recorder()
        var options = PostgresClient.Options()
        options.maximumConnections = 1
        options.reset = .never
        let client = PostgresClient(try await configuration(recorder), pool: options)
        try await client.withConnection { _ in
            _ = recorder.take()
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(20)) { try await client.execute("SELECT 1") }
            }
            let waited = try #require(recorder.only(), "the statement itself never began")
            #expect(waited.operation.kind == .acquire)
            #expect(waited.result.error?.code == .timedOut)
            #expect(error?.code == .timedOut)
        }
        for try await _ in try await client.cursor("SELECT 1", as: Int32.self, fetching: 2) {}
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("SELECT 1")
        try await client.transaction(pipeline)
        let notifications = try await client.listen(to: "observed")
        #expect(
            recorder.take().map(\.operation.kind) == [.acquire, .cursor, .acquire, .pipeline, .connect, .listen])
        withExtendedLifetime(notifications) {}
        await client.shutdown()
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
            try db.prepare("SELECT 3")
            var stream = try db.stream(PostgresQuery("SELECT 4").as(Int32.self))
            while try stream.next() != nil {}
            var cursor = try db.cursor(PostgresQuery("SELECT generate_series(1, 3)").as(Int32.self), fetching: 2)
            while try cursor.next() != nil {}
            withExtendedLifetime(try db.listen(to: "blocking")) {}
        }
        let told = recorder.take()
        #expect(
            told.map(\.operation.kind) == [
                .connect, .query, .script, .prepare, .stream, .cursor, .fetch, .listen,
            ])
        #expect(told.last?.operation.sql == #"LISTEN "blocking""#)
    }

    @Test func theBlockingConnectionTellsOfCopiesAndTransactions() async throws {
        let recorder = Recorder()
        let configuration = try await configuration(recorder)
        try await onThread {
            let db = try PostgresBlockingConnection.connect(configuration)
            try db.execute("CREATE TEMP TABLE observed (n int4, text text)")
            _ = recorder.take()
            try db.copy(into: "observed", columns: ["n"]) { writer in try writer.write("1\n2\n") }
            try db.copy(into: "observed", columns: ["n", "text"], rows: [(Int32(3), "three")])
            try db.copy(from: "observed") { _ in }
        }
        let copies = recorder.take()
        #expect(copies.map(\.operation.kind) == [.copyIn, .copyIn, .copyOut])
        #expect(copies.map(\.result.affected) == [2, 1, 0])

        struct Stop: Error {}
        try await onThread {
            let db = try PostgresBlockingConnection.connect(configuration)
            _ = recorder.take()
            try db.transaction { tx in
                try tx.execute("SELECT 1")
                try tx.script("SELECT 2")
                var stream = try tx.stream(PostgresQuery("SELECT 3").as(Int32.self))
                while try stream.next() != nil {}
                var pipeline = PostgresPipeline()
                pipeline.add("SELECT 4")
                _ = try tx.run(pipeline)
            }
            try db.transaction { tx in try tx.commit(with: "SELECT 5") }
            do {
                try db.transaction { tx in
                    try tx.execute("SELECT 6")
                    throw Stop()
                }
            } catch is Stop {}
            var pipeline = PostgresPipeline(.atomic)
            pipeline.add("SELECT 7")
            try db.transaction(pipeline)
        }
        #expect(
            recorder.take().map(\.operation.kind) == [
                .query, .script, .stream, .pipeline, .commit, .pipeline, .query, .rollback, .pipeline,
            ])
    }
}
