import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct MigrationGuideTests {
    // GUIDE: declaration
    struct StravaStats: PostgresTable {
        var statsType: String
        var data: PostgresJSONText
        var fetchedAt: PostgresTimestamp?

        static let table = Table<Self>("strava_stats", init: Self.init(statsType:data:fetchedAt:)) {
            Column("stats_type", \.statsType, .primaryKey)
            Column("data", \.data)
            Column("fetched_at", \.fetchedAt, .updatedAt)
        }
    }
    // GUIDE end

    @Test func itsStepsRun() async throws {
        let sql = try Guide("Migration").sql
        try #require(sql.count == 5)
        let db = try await PostgresConnection.connect(try await guideDatabase(sql[0]))
        defer { db.close() }
        let printed = Printed()
        func print(_ items: Any...) { printed.add(items) }
        var usesUpsert = false

        // GUIDE: old
        func saveOld(_ type: String, _ data: PostgresJSONText) async throws(PostgresError) {
            let id = try await db.query("SELECT id FROM strava_stats WHERE stats_type = \(type)", as: Int.self).first()
            if let id {
                try await db.execute("UPDATE strava_stats SET data = \(data), fetched_at = now() WHERE id = \(id)")
            } else {
                try await db.execute("INSERT INTO strava_stats (stats_type, data) VALUES (\(type), \(data))")
            }
        }
        // GUIDE end

        // GUIDE: new
        func saveNew(_ type: String, _ data: PostgresJSONText) async throws(PostgresError) {
            try await db.upsert(StravaStats(statsType: type, data: data))
        }
        // GUIDE end

        // GUIDE: switch
        func save(_ type: String, _ data: PostgresJSONText) async throws(PostgresError) {
            if usesUpsert { try await saveNew(type, data) } else { try await saveOld(type, data) }
        }
        // GUIDE end

        // What two jobs in the same minute left behind, as there was no unique index.
        for type in ["recent", "all", "ytd"] { try await save(type, #"{"runs": 1}"#) }
        try await db.execute(
            """
            INSERT INTO strava_stats (stats_type, data, fetched_at)
            VALUES ('all', '{"runs": 0}', now() - interval '1 min')
            """)
        let duplicates = try await db.query("\(unsafeSQL: sql[1])", as: (String, Int).self).all()
        #expect(duplicates.map(\.0) == ["all"])
        try await run(sql[2], db)
        try await db.execute("\(unsafeSQL: sql[3])")

        // GUIDE: check
        let differences = try await db.check(StravaStats.self)
        // GUIDE end
        #expect(differences.isEmpty)
        expect(sql[4], is: StravaStats.upsert.sql)

        // On, off, and on again.
        for (round, isOn) in [true, false, true].enumerated() {
            usesUpsert = isOn
            for type in ["recent", "all", "ytd"] { try await save(type, PostgresJSONText("{\"runs\": \(round + 2)}")) }
            let runs = try await db.query("SELECT (data->>'runs')::int8 FROM strava_stats", as: Int.self).all()
            #expect(runs == [round + 2, round + 2, round + 2])
        }
        // GUIDE: keys
        let keys = try await db.keyCount(of: StravaStats.self, expected: 3)
        print(keys.problem ?? "one row for each type")
        // GUIDE end
        #expect(printed.lines == ["one row for each type"])
    }
}
