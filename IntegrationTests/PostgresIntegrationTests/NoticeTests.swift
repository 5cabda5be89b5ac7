import Postgres
import PostgresTesting
import Synchronization
import TestTurns
import Testing

/// What the server remarks, and the handler that gets it.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct NoticeTests {
    private final class Collected: Sendable {
        private let notices = Mutex<[PostgresNotice]>([])
        func add(_ notice: PostgresNotice) { notices.withLock { $0.append(notice) } }
        var all: [PostgresNotice] { notices.withLock { $0 } }
    }

    @Test func aNoticeHasItsFields() async throws {
        let collected = Collected()
        let db = try await connect { $0.noticeHandler = { collected.add($0) } }
        try await db.script(
            "DO $$ BEGIN RAISE WARNING 'careful %', 1 USING DETAIL = 'the detail', HINT = 'a hint', ERRCODE = '01ABC'; END $$"
        )
        await eventually("the notice comes") { collected.all.count == 1 }
        let notice = try #require(collected.all.first)
        #expect(notice.severity == "WARNING")
        #expect(notice.sqlState == "01ABC")
        #expect(notice.message == "careful 1")
        #expect(notice.detail == "the detail")
        #expect(notice.hint == "a hint")
        #expect(notice.fields.context?.contains("PL/pgSQL") == true)
        #expect(notice.lostBefore == 0)
        #expect("\(notice)" == "WARNING 01ABC: careful 1")
    }

    @Test func noticesComeInOrderAndAFloodSaysWhatIsLost() async throws {
        let collected = Collected()
        let db = try await connect { $0.noticeHandler = { collected.add($0) } }
        try await db.script("DO $$ BEGIN FOR i IN 1..20000 LOOP RAISE NOTICE '%', i; END LOOP; END $$")
        await eventually("the last notice comes") { collected.all.last?.message == "20000" }
        var expected = 0
        for notice in collected.all {
            expected += notice.lostBefore + 1
            #expect(notice.message == "\(expected)")
        }
        #expect(expected == 20000)
    }

    private enum Local {
        @TaskLocal static var value = "nobody's"
    }

    @Test func aHandlerHasNoValuesOfWhoeverReads() async throws {
        let seen = Mutex<[String]>([])
        let server = try await PostgresEphemeralServer.shared()
        var configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
        configuration.noticeHandler = { _ in seen.withLock { $0.append(Local.value) } }
        let told = configuration
        try await onThread {
            let db = try PostgresBlockingConnection.connect(told)
            // A blocking call reads its own reply, and the notice before it.
            try Local.$value.withValue("the caller's") {
                _ = try db.script("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
            }
        }
        await eventually("the notice comes") { seen.withLock { $0.count == 1 } }
        #expect(seen.withLock { $0 } == ["nobody's"])
    }

    @Test func configurationsWithTheSameHandlerAreEqual() throws {
        var one = PostgresConfiguration(user: "a")
        one.noticeHandler = { _ in }
        let same = one
        var other = PostgresConfiguration(user: "a")
        #expect(one == same)
        #expect(one != other)
        other.noticeHandler = { _ in }
        #expect(one != other)
    }
}
