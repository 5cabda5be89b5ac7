import Postgres
import PostgresTesting
import TestTurns
import Testing

/// The listener that connects again.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct ListenerTests {
    private let backoff = PostgresListener.Backoff(initial: .milliseconds(10), maximum: .milliseconds(100))

    private func payload(_ event: PostgresListener.Element?) -> String? {
        if case .notification(let notification) = event { notification.payload } else { nil }
    }

    private func gap(_ event: PostgresListener.Element?) -> PostgresListener.Gap? {
        if case .gap(let gap) = event { gap } else { nil }
    }

    /// Notifies once somebody listens, and until the listener has heard it.
    private func first(
        _ events: inout PostgresListener.AsyncIterator, _ channel: String, _ db: PostgresConnection
    ) async throws -> PostgresListener.Element? {
        let sender = Task {
            while !Task.isCancelled {
                try await db.notify(channel, payload: "first")
                try await Task.sleep(for: .milliseconds(10))
            }
        }
        defer { sender.cancel() }
        return try await events.next()
    }

    @Test func aTerminatedSessionIsAGapAndThenItGoesOn() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let configuration = try PostgresConfiguration(url: server.connectionURL(over: .tcp))
        let db = try await connect()
        let channel = uniqueName("channel")
        var events = PostgresListener(configuration, channels: channel, backoff: backoff).makeAsyncIterator()
        var event = try await first(&events, channel, db)
        #expect(payload(event) == "first")
        let begin = ContinuousClock.now
        try await server.runSQL(
            """
            SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query = 'LISTEN "\(channel)"'
            """)
        repeat { event = try await events.next() } while payload(event) != nil
        #expect(gap(event)?.cause.code == .adminShutdown)
        #expect(gap(event).map { $0.since >= begin } == true)
        try await db.notify(channel, payload: "after")
        repeat { event = try await events.next() } while payload(event) == "first"
        #expect(payload(event) == "after")
    }

    @Test func aServerThatStartsAgainIsAGap() async throws {
        try await PostgresEphemeralServer.withServer { server in
            let configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
            let db = try await PostgresConnection.connect(configuration)
            var events = PostgresListener(configuration, channels: ["c", "d"], backoff: backoff).makeAsyncIterator()
            var event = try await first(&events, "c", db)
            #expect(payload(event) == "first")
            try await server.restart(.immediate)
            repeat { event = try await events.next() } while payload(event) != nil
            #expect(gap(event) != nil)
            let again = try await PostgresConnection.connect(configuration)
            try await again.notify("d", payload: "after")
            event = try await events.next()
            #expect(payload(event) == "after")
        }
    }

    @Test func aFullBufferIsAGap() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
        let db = try await connect()
        let channel = uniqueName("channel")
        var events = PostgresListener(configuration, channels: channel, bufferingUpTo: 4, backoff: backoff)
            .makeAsyncIterator()
        _ = try await first(&events, channel, db)
        // A reader may keep up with any number of them, so this one pauses, and the sender goes on until its work is done.
        let sender = Task {
            while !Task.isCancelled {
                try await db.execute("SELECT pg_notify(\(channel), n::text) FROM generate_series(1, 100) n")
                try await Task.sleep(for: .milliseconds(50))
            }
        }
        defer { sender.cancel() }
        var event: PostgresListener.Element?
        repeat {
            try await Task.sleep(for: .milliseconds(5))
            event = try await events.next()
        } while payload(event) != nil
        #expect(gap(event)?.cause.code == .notificationsLost)
    }

    @Test func whatTryingAgainDoesNotChangeIsThrown() async throws {
        let server = try await PostgresEphemeralServer.shared()
        var configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
        configuration.database = uniqueName("nowhere")
        let error = await failure { for try await _ in PostgresListener(configuration, channels: "c") {} }
        #expect(error?.code == .invalidCatalogName)
    }

    @Test func attemptsCanBeBounded() async throws {
        try await PostgresEphemeralServer.withServer { server in
            let configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
            let db = try await PostgresConnection.connect(configuration)
            let bounded = PostgresListener.Backoff(
                initial: .milliseconds(1), maximum: .milliseconds(2), attempts: 3)
            var events = PostgresListener(configuration, channels: "c", backoff: bounded).makeAsyncIterator()
            _ = try await first(&events, "c", db)
            try await server.stop(.immediate)
            let error = await failure { while let event = try await events.next() { _ = event } }
            #expect(error?.code == .cannotConnect)
        }
    }

    @Test func cancellingEndsIt() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
        let channel = uniqueName("channel")
        let task = Task {
            await failure { for try await _ in PostgresListener(configuration, channels: channel) {} }
        }
        let db = try await connect()
        let query: PostgresQuery = "SELECT count(*) FROM pg_stat_activity WHERE query = \("LISTEN \"\(channel)\"")"
        try await eventually("it listens") { try await db.query(query.as(Int.self)).one() == 1 }
        task.cancel()
        let error = await task.value
        #expect(error?.code == .cancelled)
        try await eventually("the connection is closed") { try await db.query(query.as(Int.self)).one() == 0 }
    }
}
