import Postgres
import PostgresTesting
import PostgresUpsert
import Synchronization
import TestTurns
import Testing

/// The service that this library was made for: the three verifications of its new code, and its migration.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct StatisticsServiceTests {
    /// What a job came to.
    struct Tally: Sendable {
        var written = 0
        var duplicateKeys = 0

        static func + (left: Tally, right: Tally) -> Tally {
            Tally(
                written: left.written + right.written, duplicateKeys: left.duplicateKeys + right.duplicateKeys)
        }
    }

    enum Code: Sendable { case old, new }

    // Verification

    @Test func basicFunctionality() async throws {
        let db = try await connect()
        defer { db.close() }
        try await StatisticsService.createTables(db)
        let type = "all_run_totals"
        try await StatisticsService.writeNew(StravaStats.self, type, Statistics(writer: "a", round: 1), db)
        let (id, first) = try await row(type, db)
        try await StatisticsService.writeNew(StravaStats.self, type, Statistics(writer: "a", round: 2), db)
        let (idAfter, second) = try await row(type, db)
        #expect(idAfter == id)
        #expect(second > first)
        try await expectOnly(Statistics(writer: "a", round: 2), db)

        // Without a declaration, and with the whole of it in one line.
        try await db.upsert(
            into: "strava_stats", key: ("stats_type", type),
            set: ("data", PostgresJSON(Statistics(writer: "b", round: 3))))
        try await expectOnly(Statistics(writer: "b", round: 3), db)

        // The row of which there is one.
        try await db.upsert(StravaToken(token: "first"))
        try await db.upsert(singleRowOf: "strava_token", set: ("token", "other"), touch: nil)
        try await db.upsert(StravaToken(token: "second"))
        let tokens = try await db.query("SELECT id, token FROM strava_token", as: (Int, String).self).all()
        #expect(tokens.count == 1)
        #expect(tokens.first?.1 == "second")

        // Whoever calls decides when to commit.
        struct GivenUp: Error {}
        await #expect(throws: GivenUp.self) {
            try await db.transaction { tx in
                try await StatisticsService.writeNew(StravaStats.self, type, Statistics(writer: "c", round: 4), tx)
                throw GivenUp()
            }
        }
        try await expectOnly(Statistics(writer: "b", round: 3), db)
    }

    @Test func concurrentSafety() async throws {
        let db = try await connect()
        defer { db.close() }
        try await StatisticsService.createTables(db)
        let tally = try await together(10) { number, db in
            try await job(WakaTimeStats.self, .new, "job \(number)", rounds: 20, db)
        }
        #expect(tally.duplicateKeys == 0)
        #expect(tally.written == 1200)
        try await validate(db, strava: 0, wakaTime: 6)
    }

    @Test func errorHandling() async throws {
        let db = try await connect()
        defer { db.close() }
        try await StatisticsService.createTables(db)
        try await db.execute("ALTER TABLE strava_stats ADD CONSTRAINT known CHECK (stats_type <> 'bogus')")
        let data = Statistics(writer: "a", round: 1)
        let refused = await failure {
            try await StatisticsService.writeNew(StravaStats.self, "bogus", data, db)
        }
        #expect(refused?.code == .checkViolation)
        #expect(refused?.constraint == "known")
        #expect(refused?.table == "strava_stats")
        #expect(refused?.outcome == .rejected)
        let unsendable = await failure {
            try await StatisticsService.writeNew(StravaStats.self, "a\0b", data, db)
        }
        #expect(unsendable?.code == .invalidArgument)
        #expect(unsendable?.outcome == .notSent)
        try await db.execute("ALTER TABLE strava_stats DROP CONSTRAINT strava_stats_stats_type_key")
        let unkeyed = await failure {
            try await StatisticsService.writeNew(StravaStats.self, "all_run_totals", data, db)
        }
        #expect(unkeyed?.code == .invalidColumnReference)
        #expect(unkeyed?.message.contains("stats_type") == true)
        try await expectUsable(db)
    }

    // Migration

    /// Both jobs look before either writes: what happened to the service in the minute that it died in.
    @Test func twoJobsOfTheOldCodeInTheSameMinuteCollide() async throws {
        let db = try await connect()
        defer { db.close() }
        try await StatisticsService.createTables(db)
        let meeting = Meeting(of: 2)
        let tally = try await together(2) { number, db in
            var tally = Tally()
            for type in StravaStats.types {
                do throws(PostgresError) {
                    try await StatisticsService.writeOld(
                        StravaStats.self, type, Statistics(writer: "cron \(number)", round: 1), db,
                        between: { await meeting.wait() })
                    tally.written += 1
                } catch .uniqueViolation {
                    tally.duplicateKeys += 1
                } catch {
                    throw error
                }
            }
            return tally
        }
        // Each type was inserted by one of them, and was an error to the other.
        #expect(tally.written == 3)
        #expect(tally.duplicateKeys == 3)
        try await validate(db, strava: 3, wakaTime: 0)
    }

    @Test func twoJobsOfTheNewCodeInTheSameMinuteDoNot() async throws {
        let db = try await connect()
        defer { db.close() }
        try await StatisticsService.createTables(db)
        let meeting = Meeting(of: 2)
        let tally = try await together(2) { number, db in
            var tally = Tally()
            for type in StravaStats.types {
                await meeting.wait()
                try await StatisticsService.writeNew(
                    StravaStats.self, type, Statistics(writer: "cron \(number)", round: 1), db)
                tally.written += 1
            }
            return tally
        }
        #expect(tally.written == 6)
        try await validate(db, strava: 3, wakaTime: 0)
    }

    /// The days between the first server with the new code and the last with the old, while the API is read.
    @Test func oldAndNewCodeSideBySide() async throws {
        let db = try await connect()
        defer { db.close() }
        try await StatisticsService.createTables(db)
        let isOver = Atomic(false)
        let read: @Sendable () async throws -> Int = {
            let reader = try await connect()
            defer { reader.close() }
            var reads = 0
            repeat {
                try await expectWhole(StravaStats.self, reader)
                try await expectWhole(WakaTimeStats.self, reader)
                reads += 1
            } while !isOver.load(ordering: .acquiring)
            return reads
        }
        let reads = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<2 { group.addTask { try await read() } }
            // Twenty minutes, two jobs of each code, two rounds, nine types.
            let writes = 720
            let meeting = Meeting(of: 4)
            let old = Mutex(Tally())
            let new = Mutex(Tally())
            do {
                defer { isOver.store(true, ordering: .releasing) }
                for minute in 0..<20 {
                    // As on the first day: no rows yet.
                    try await db.execute("DELETE FROM strava_stats")
                    try await db.execute("DELETE FROM wakatime_stats")
                    _ = try await together(4) { number, db in
                        let code = number < 2 ? Code.old : .new
                        let name = "minute \(minute), job \(number)"
                        // Of each type nobody writes the first row before both jobs of the old code have found none.
                        let meet: @Sendable (Int) async -> Void = { round in if round == 0 { await meeting.wait() } }
                        let tally =
                            try await job(StravaStats.self, code, name, rounds: 2, db, meet)
                            + job(WakaTimeStats.self, code, name, rounds: 2, db, meet)
                        if code == .old { old.withLock { $0 = $0 + tally } } else { new.withLock { $0 = $0 + tally } }
                        return tally
                    }
                    try await validate(db, strava: 3, wakaTime: 6)
                }
            }
            let ofNew = new.withLock { $0 }
            #expect(ofNew.written == writes)
            #expect(ofNew.duplicateKeys == 0)
            let ofOld = old.withLock { $0 }
            #expect(ofOld.written + ofOld.duplicateKeys == writes)
            // Of each type one job of the old code at least comes too late each minute, both where the new code came first; in the
            // second round they find the row.
            let firstRows = 20 * 9
            #expect((firstRows...2 * firstRows).contains(ofOld.duplicateKeys))
            print("old code: \(ofOld.duplicateKeys) duplicate keys in \(writes) writes; new code: none")
            return try await group.reduce(0, +)
        }
        #expect(reads > 0)
    }

    // What the service does

    /// A run of the cron job, several times over.
    ///
    /// - Parameter meet: called before the new code writes, and by the old code between its SELECT and what it writes.
    private func job<Row: StatisticsRow>(
        _ row: Row.Type, _ code: Code, _ name: String, rounds: Int, _ db: PostgresConnection,
        _ meet: @Sendable (_ round: Int) async -> Void = { _ in }
    ) async throws -> Tally {
        var tally = Tally()
        for round in 0..<rounds {
            for type in Row.types {
                let data = Statistics(writer: name, round: round)
                do throws(PostgresError) {
                    switch code {
                    case .old:
                        try await StatisticsService.writeOld(row, type, data, db, between: { await meet(round) })
                    case .new:
                        await meet(round)
                        try await StatisticsService.writeNew(row, type, data, db)
                    }
                    tally.written += 1
                } catch .uniqueViolation {
                    tally.duplicateKeys += 1
                } catch {
                    throw error
                }
            }
        }
        return tally
    }

    private func together(
        _ count: Int, _ job: @escaping @Sendable (Int, PostgresConnection) async throws -> Tally
    ) async throws -> Tally {
        try await withThrowingTaskGroup(of: Tally.self) { group in
            for number in 0..<count {
                let db = try await connect()
                group.addTask {
                    defer { db.close() }
                    return try await job(number, db)
                }
            }
            return try await group.reduce(Tally(), +)
        }
    }

    private func expectOnly(
        _ expected: Statistics, _ db: PostgresConnection, _ sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let read = try await StatisticsService.read(StravaStats.self, db)
        let statistics = read.map(\.1)
        #expect(statistics == [expected], sourceLocation: sourceLocation)
    }

    private func row(_ type: String, _ db: PostgresConnection) async throws -> (Int, PostgresTimestamp) {
        try await db.query(
            "SELECT id, fetched_at FROM strava_stats WHERE stats_type = \(type)", as: (Int, PostgresTimestamp).self
        ).one()
    }

    /// The validation queries of the migration: as many rows as distinct types, and as many as there should be.
    private func validate(_ db: PostgresConnection, strava: Int, wakaTime: Int) async throws {
        for (table, expected) in [("strava_stats", strava), ("wakatime_stats", wakaTime)] {
            let (rows, types) = try await db.query(
                "SELECT count(*), count(DISTINCT stats_type) FROM \(identifier: table)", as: (Int, Int).self
            ).one()
            #expect(types == expected, "\(table)")
            #expect(rows == types, "\(table)")
        }
    }
}

/// What the API reads is one row a type at most, each as somebody wrote it.
private func expectWhole<Row: StatisticsRow>(_ row: Row.Type, _ db: PostgresConnection) async throws {
    let read = try await StatisticsService.read(row, db)
    #expect(Set(read.map(\.0)).count == read.count)
    #expect(read.allSatisfy { Row.types.contains($0.0) && $0.1.twice == 2 * $0.1.round })
}

/// A place where a number of tasks wait for each other, again and again.
private actor Meeting {
    private let size: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(of size: Int) { self.size = size }

    func wait() async {
        if waiting.count == size - 1 {
            let others = waiting
            waiting = []
            for other in others { other.resume() }
        } else {
            await withCheckedContinuation { waiting.append($0) }
        }
    }
}
