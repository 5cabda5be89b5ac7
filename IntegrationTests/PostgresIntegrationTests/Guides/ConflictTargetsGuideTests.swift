import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct ConflictTargetsGuideTests {
    // GUIDE: targets
    struct Account: PostgresTable {
        var id: Int
        var email: String
        var team: String?
        var nick: String?

        static let table = Table<Self>("accounts", init: Self.init(id:email:team:nick:)) {
            Column("id", \.id, .primaryKey)
            Column("email", \.email)
            Column("team", \.team)
            Column("nick", \.nick)
        }
        static let byID = upsert
        static let byNick = upsert.onConflict(\.team, \.nick)
        static let byOpenEmail = upsert.onConflict(\.email, where: "NOT closed")
        static let byConstraint = upsert.onConstraint("one_nick", \.team, \.nick)
        static let byAnyCase = upsert.onIndex("lower(email)")
        static let byDesk = upsert.doNothing(onExclusionConstraint: "one_desk")
        static let byAny = upsert.onAnyConflict().doNothing()
    }
    // GUIDE end

    @Test func itsCodeRuns() async throws {
        let guide = try Guide("ConflictTargets")
        let sql = guide.sql
        try #require(sql.count == 2)
        let db = try await PostgresConnection.connect(try await guideDatabase(sql[0]))
        defer { db.close() }
        let printed = Printed()
        func print(_ items: Any...) { printed.add(items) }

        // GUIDE: check
        for index in try await db.uniqueIndexes(of: Account.self) { print(index) }
        let differences = try await db.check(Account.self, Account.byNick, Account.byOpenEmail)
        // GUIDE end
        #expect(printed.lines.count == 5)
        #expect(differences.map(\.kind) == [.distinctNulls])

        let ann = Account(id: 5, email: "d@x", team: nil, nick: "ann")
        for (upsert, target) in [
            (Account.byID, "ON CONFLICT (\"id\")"),
            (Account.byNick, "ON CONFLICT (\"team\", \"nick\")"),
            (Account.byOpenEmail, "ON CONFLICT (\"email\") WHERE NOT closed"),
            (Account.byConstraint, "ON CONFLICT ON CONSTRAINT \"one_nick\""),
            (Account.byAnyCase, "ON CONFLICT (lower(email))"),
            (Account.byAny, "ON CONFLICT DO NOTHING"),
        ] {
            #expect(upsert.sql.contains(" " + target))
            #expect(guide.text.contains("`\(target)`"))
            // Each is taken by the server.
            try await db.upsert(upsert(ann))
            try await db.execute("DELETE FROM accounts")
        }
        let byDesk = "ON CONFLICT ON CONSTRAINT \"one_desk\" DO NOTHING"
        #expect(Account.byDesk.sql.hasSuffix(" " + byDesk))
        #expect(guide.text.contains("`\(byDesk)`"))
        try await db.upsert(Account.byDesk(ann))
        try await db.execute("DELETE FROM accounts")

        let rejected = await failure {
            // GUIDE: null
            try await db.upsert(Account.byNick(Account(id: 1, email: "a@x", team: nil, nick: "ann")))
            try await db.upsert(Account.byNick(Account(id: 2, email: "b@x", team: nil, nick: "ann")))  // a second row
            try await db.upsert(Account.byNick.rejectingNullKeys()(ann))  // an error before anything is sent
            // GUIDE end
        }
        #expect(rejected?.outcome == .notSent)
        let asked = Account.byNick.rejectingNullKeys(unlessNotDistinct: true)
        let distinct = await failure { try await db.upsert(asked(ann)) }
        #expect(distinct?.outcome == .notSent)
        let rows = try await db.query("SELECT count(*) FROM accounts", as: Int.self).one()
        #expect(rows == 2)

        let version = try await db.query("SELECT current_setting('server_version_num')::int8", as: Int.self).one()
        guard version >= 150_000 else { return }
        try await run(sql[1], db)
        // GUIDE: several
        do {
            try await db.upsert(Account(id: 3, email: "c@x", team: nil, nick: "ann"))
        } catch {
            print(error.constraint ?? "")  // one_nick
        }
        // GUIDE end
        #expect(printed.lines.last == "one_nick")
        let written = try await db.upsert(Account.byNick(Account(id: 4, email: "e@x", team: nil, nick: "ann")))
        #expect(written == 1)
        let ids = try await db.query("SELECT id FROM accounts", as: Int.self).all()
        #expect(ids == [1])
    }
}
