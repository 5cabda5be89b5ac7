import Postgres
import PostgresTesting
import Testing

/// LISTEN and NOTIFY on a real server.
@Suite(
    .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct ListenTests {
    private func channels(_ db: PostgresConnection) async throws -> [String] {
        try await db.query("SELECT pg_listening_channels() AS c ORDER BY c", as: String.self).all()
    }

    @Test func aNotificationOfAnotherConnectionArrivesWhileNothingIsInFlight() async throws {
        let db = try await connect()
        let other = try await connect()
        let channel = uniqueName("channel")
        var notifications = try await db.listen(to: channel).makeAsyncIterator()
        try await other.notify(channel, payload: "häl\"lo")
        let first = try await notifications.next()
        #expect(first?.channel == channel)
        #expect(first?.payload == "häl\"lo")
        #expect(first?.backendProcessID == other.backendProcessID)
        try await other.notify(channel)
        let second = try await notifications.next()
        #expect(second?.payload == "")
    }

    @Test func aConnectionHearsItself() async throws {
        let db = try await connect()
        let channel = uniqueName("channel")
        var notifications = try await db.listen(to: channel).makeAsyncIterator()
        try await db.notify(channel, payload: "mine")
        let got = try await notifications.next()
        #expect(got?.backendProcessID == db.backendProcessID)
    }

    @Test(arguments: [#"a"b"#, #"a";drop table t;--"#, "été", "Ünï", String(repeating: "x", count: 63)])
    func anyNameIsAChannel(_ name: String) async throws {
        let db = try await connect()
        var notifications = try await db.listen(to: name).makeAsyncIterator()
        let listening = try await channels(db)
        #expect(listening == [name])
        try await db.notify(name, payload: "x")
        let got = try await notifications.next()
        #expect(got?.channel == name)
    }

    @Test(arguments: ["", "a\0b", String(repeating: "x", count: 64), String(repeating: "é", count: 32)])
    func aNameThatTheServerWouldChangeIsRefused(_ name: String) async throws {
        let db = try await connect()
        let error = await failure { try await db.listen(to: name) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.outcome == .notSent)
        let notify = await failure { try await db.notify(name) }
        #expect(notify?.code == .invalidArgument)
    }

    @Test func namesAreComparedByTheirBytes() async throws {
        // One letter for Swift's ==, two names for the server.
        let composed = "caf\u{E9}"
        let decomposed = "cafe\u{301}"
        let db = try await connect()
        var first = try await db.listen(to: composed).makeAsyncIterator()
        var second = try await db.listen(to: decomposed).makeAsyncIterator()
        try await db.notify(decomposed, payload: "decomposed")
        try await db.notify(composed, payload: "composed")
        let atFirst = try await first.next()
        let atSecond = try await second.next()
        #expect(atFirst?.payload == "composed")
        #expect(atSecond?.payload == "decomposed")
    }

    @Test func severalChannelsAndSeveralListenersShareAConnection() async throws {
        let db = try await connect()
        let other = try await connect()
        let (one, two) = (uniqueName("one"), uniqueName("two"))
        var both = try await db.listen(to: one, two).makeAsyncIterator()
        var alone = try await db.listen(to: two).makeAsyncIterator()
        for (channel, payload) in [(one, "1"), (two, "2"), (one, "3"), (two, "4")] {
            try await other.notify(channel, payload: payload)
        }
        var atBoth: [String?] = []
        for _ in 0..<4 { atBoth.append(try await both.next()?.payload) }
        var atAlone: [String?] = []
        for _ in 0..<2 { atAlone.append(try await alone.next()?.payload) }
        #expect(atBoth == ["1", "2", "3", "4"])
        #expect(atAlone == ["2", "4"])
    }

    @Test func theLastListenerOfAChannelUnlistens() async throws {
        let db = try await connect()
        let (one, two) = (uniqueName("a"), uniqueName("b"))
        var first: PostgresNotifications? = try await db.listen(to: one, two)
        var second: PostgresNotifications? = try await db.listen(to: two)
        #expect(first != nil && second != nil)
        var listening = try await channels(db)
        #expect(listening == [one, two])
        first = nil
        listening = try await channels(db)
        #expect(listening == [two])
        second = nil
        listening = try await channels(db)
        #expect(listening == [])
        // And the other way round: the iterator alone keeps it.
        var iterator: PostgresNotifications.AsyncIterator? = try await db.listen(to: one).makeAsyncIterator()
        listening = try await channels(db)
        #expect(listening == [one])
        try await db.notify(one, payload: "x")
        let got = try await iterator?.next()
        #expect(got?.payload == "x")
        iterator = nil
        listening = try await channels(db)
        #expect(listening == [])
    }

    @Test func leavingAndListeningAgainLosesNothing() async throws {
        let db = try await connect()
        let other = try await connect()
        let channel = uniqueName("channel")
        for round in 0..<50 {
            var notifications = try await db.listen(to: channel).makeAsyncIterator()
            try await other.notify(channel, payload: "\(round)")
            let got = try await notifications.next()
            #expect(got?.payload == "\(round)")
        }
    }

    @Test func queriesGoOnWhileNotificationsComeInOrder() async throws {
        let db = try await connect()
        let other = try await connect()
        let channel = uniqueName("channel")
        let notifications = try await db.listen(to: channel, bufferingUpTo: 2000)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { for number in 0..<500 { try await other.notify(channel, payload: "\(number)") } }
            for _ in 0..<4 { group.addTask { for _ in 0..<100 { try await expectUsable(db) } } }
            group.addTask {
                var expected = 0
                for try await notification in notifications {
                    #expect(notification.payload == "\(expected)")
                    expected += 1
                    if expected == 500 { break }
                }
                #expect(expected == 500)
            }
            try await group.waitForAll()
        }
    }

    @Test func aStreamBesideAListenerLosesNothing() async throws {
        let db = try await connect()
        let other = try await connect()
        let channel = uniqueName("channel")
        var notifications = try await db.listen(to: channel).makeAsyncIterator()
        for round in 0..<5 {
            var rows = 0
            for try await _ in try await db.stream("SELECT generate_series(1, 20000)", as: Int32.self) { rows += 1 }
            #expect(rows == 20000)
            try await other.notify(channel, payload: "\(round)")
            let got = try await notifications.next()
            #expect(got?.payload == "\(round)")
        }
    }

    @Test func sixteenMegabytesOfUnreadNotificationsDisturbNoQuery() async throws {
        let db = try await connect()
        let other = try await connect()
        let channel = uniqueName("channel")
        let notifications = try await db.listen(to: channel)
        let before = db.statistics.bytesReceived
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for _ in 0..<4 {
                    try await other.execute(
                        "SELECT pg_notify(\(channel), n || repeat('x', 7900)) FROM generate_series(1, 550) n")
                }
            }
            for _ in 0..<2 { group.addTask { for _ in 0..<200 { try await expectUsable(db) } } }
            try await group.waitForAll()
        }
        await eventually("16 MB are received") { db.statistics.bytesReceived - before > 16 << 20 }
        try await expectUsable(db)
        // What fitted comes, and then the truth.
        var count = 0
        let error = await failure { for try await _ in notifications { count += 1 } }
        #expect(count == 1024)
        #expect(error?.code == .notificationsLost)
        // The others on the connection go on.
        var again = try await db.listen(to: channel).makeAsyncIterator()
        try await other.notify(channel, payload: "new")
        let got = try await again.next()
        #expect(got?.payload == "new")
    }

    @Test func aTerminatedSessionEndsTheSequenceWithTheReason() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let db = try await connect()
        let channel = uniqueName("channel")
        let notifications = try await db.listen(to: channel)
        async let error = failure { for try await _ in notifications {} }
        let pid = try #require(db.backendProcessID)
        try await server.runSQL("SELECT pg_terminate_backend(\(pid), 10000)")
        let reason = await error
        #expect(reason?.code == .adminShutdown)
        #expect(db.isClosed)
        let again = await failure { try await db.listen(to: channel) }
        #expect(again?.outcome == .notSent)
    }

    @Test func closingEndsTheSequence() async throws {
        let db = try await connect()
        let notifications = try await db.listen(to: uniqueName("channel"))
        async let error = failure { for try await _ in notifications {} }
        try await expectUsable(db)
        db.close()
        let reason = await error
        #expect(reason?.code == .connectionClosed)
    }

    @Test func cancellingEndsTheWaitAndNothingElse() async throws {
        let db = try await connect()
        let channel = uniqueName("channel")
        let notifications = try await db.listen(to: channel)
        let task = Task { await failure { for try await _ in notifications {} } }
        try await Task.sleep(for: .milliseconds(20))
        task.cancel()
        let error = await task.value
        #expect(error?.code == .cancelled)
        try await db.notify(channel, payload: "later")
        var iterator = notifications.makeAsyncIterator()
        let got = try await iterator.next()
        #expect(got?.payload == "later")
    }

    @Test func insideAnOpenTransactionListeningIsRefused() async throws {
        let db = try await connect()
        let channel = uniqueName("channel")
        try await db.execute("BEGIN")
        let error = await failure { try await db.listen(to: channel) }
        #expect(error?.code == .unsupported)
        try await db.execute("COMMIT")
        let listening = try await channels(db)
        #expect(listening == [])
    }

    @Test func anEndDuringALeaseUnlistensAfterIt() async throws {
        let db = try await connect()
        let channel = uniqueName("channel")
        var notifications: PostgresNotifications? = try await db.listen(to: channel)
        #expect(notifications != nil)
        let cursor = try await db.cursor("SELECT generate_series(1, 10)", as: Int32.self, fetching: 2)
        notifications = nil
        try await cursor.close()
        try await eventually("the server is told") { try await channels(db) == [] }
    }

    @Test func aPayloadThatIsTooLongIsTheServersError() async throws {
        let db = try await connect()
        let error = await failure { try await db.notify("c", payload: String(repeating: "x", count: 8000)) }
        #expect(error?.code == .invalidParameterValue)
        try await expectUsable(db)
    }

    @Test func theBlockingAPIWaitsForANotification() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .tcp)
        let channel = uniqueName("channel")
        try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            defer { db.close() }
            let notifications = try db.listen(to: channel)
            let none = try notifications.waitForNotification(timeout: .milliseconds(20))
            #expect(none == nil)
            let look = try notifications.waitForNotification(timeout: .zero)
            #expect(look == nil)
            try db.notify(channel, payload: "a")
            try db.notify(channel, payload: "b")
            #expect(try notifications.waitForNotification(timeout: .seconds(20))?.payload == "a")
            #expect(try notifications.waitForNotification()?.payload == "b")
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
            db.close()
            #expect(throws: PostgresError.self) { try notifications.waitForNotification(timeout: .seconds(20)) }
        }
    }
}
