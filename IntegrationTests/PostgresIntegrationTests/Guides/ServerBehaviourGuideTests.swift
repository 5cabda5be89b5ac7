import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct ServerBehaviourGuideTests {
    // GUIDE: reading
    struct Reading: PostgresTable {
        var region: String
        var sensor: Int
        var value: Int

        static let table = Table<Self>("readings", init: Self.init(region:sensor:value:)) {
            Column("region", \.region, .primaryKey)
            Column("sensor", \.sensor, .primaryKey)
            Column("value", \.value)
        }
    }
    // GUIDE end

    @Test func itsCodeRuns() async throws {
        let sql = try Guide("ServerBehaviour").sql
        try #require(sql.count == 3)
        let db = try await PostgresConnection.connect(try await guideDatabase(sql[0]))
        defer { db.close() }

        // GUIDE: partitioned
        let outcome = try await db.upsert(Upsert(Reading(region: "north", sensor: 1, value: 20)).outcomes()).one()
        // GUIDE end
        #expect(outcome == .inserted)
        let nowhere = await failure { try await db.upsert(Reading(region: "south", sensor: 1, value: 20)) }
        #expect(nowhere?.code == .checkViolation)

        try await run(sql[1], db)
        // GUIDE: triggers
        let stored = try await db.upsert(Upsert(Reading(region: "north", sensor: 1, value: 20)).returning(\.value))
            .one()  // 40
        // GUIDE end
        #expect(stored == 40)
    }

    @Test func rowSecurityWantsThreePolicies() async throws {
        let sql = try Guide("ServerBehaviour").sql
        try #require(sql.count == 3)
        let db = try await PostgresConnection.connect(
            try await guideDatabase("DROP ROLE IF EXISTS guide_writer", sql[0], sql[2]))
        defer { db.close() }
        func upsert(_ sensor: Int) async throws(PostgresError) -> Int {
            try await db.upsert(Reading(region: "north", sensor: sensor, value: 1))
        }
        func drop(_ policy: String) async throws {
            try await run("RESET ROLE; DROP POLICY \(policy) ON readings; SET ROLE guide_writer", db)
        }
        try await db.execute("SET ROLE guide_writer")
        for _ in 0..<2 {
            let written = try await upsert(1)
            #expect(written == 1)
        }
        try await drop("change")
        let noUpdate = await failure { try await upsert(1) }
        #expect(noUpdate?.code == .insufficientPrivilege)
        try await drop("see")
        // Not even a new row.
        let noSelect = await failure { try await upsert(2) }
        #expect(noSelect?.code == .insufficientPrivilege)
        try await run("RESET ROLE; DROP TABLE readings; DROP ROLE guide_writer", db)
    }

    @Test func aForeignTableLeavesRowsAloneOrFails() async throws {
        let configuration = try await guideDatabase(try Guide("ServerBehaviour").sql[0])
        let db = try await PostgresConnection.connect(configuration)
        defer { db.close() }
        let database = try #require(configuration.database)
        let password = configuration.password.map { ", password '\($0)'" } ?? ""
        do {
            try await run("CREATE EXTENSION postgres_fdw", db)
        } catch let error as PostgresError where error.code == .undefinedFile {
            try Test.cancel("the server has no postgres_fdw that it can load: \(error.message)")
        }
        try await run(
            """
            CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw
            OPTIONS (host '\(configuration.host)', port '\(configuration.port)', dbname '\(database)');
            CREATE USER MAPPING FOR CURRENT_USER SERVER itself OPTIONS (user '\(configuration.user)'\(password));
            ALTER TABLE readings RENAME TO stored_readings;
            CREATE FOREIGN TABLE readings (region text, sensor int8, value int8) SERVER itself
            OPTIONS (table_name 'stored_readings')
            """, db)
        let reading = Reading(region: "north", sensor: 1, value: 20)
        let written = try await db.upsert(Reading.upsert.onAnyConflict().doNothing()(reading))
        #expect(written == 1)
        let again = try await db.upsert(Reading.upsert.onAnyConflict().doNothing()(reading))
        #expect(again == 0)
        let update = await failure { try await db.upsert(reading) }
        #expect(update?.outcome == .rejected)
    }
}
