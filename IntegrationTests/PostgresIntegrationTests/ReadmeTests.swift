import Foundation
import Postgres
import PostgresTesting
import PostgresUpsert
import Synchronization
import TestTurns
import Testing

// The code of README.md, run against a server. Each region from `README: name` to `README end` is one of its blocks,
// word for word; `ReadmeBlockTests` of PostgresTests compares them.

@Suite(.inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct ReadmeTests {
    // README: table
    struct PageStats: PostgresTable {
        var path: String
        var hits: Int
        var fetchedAt: PostgresTimestamp?

        static let table = Table<Self>("page_stats", init: Self.init(path:hits:fetchedAt:)) {
            Column("path", \.path, .primaryKey)
            Column("hits", \.hits)
            Column("fetched_at", \.fetchedAt, .updatedAt)
        }
        static let count = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }.outcomes()
    }
    // README end

    // README: types
    struct User: Decodable, PostgresRowDecodable {
        var id: Int
        var name: String?
    }
    enum Mood: String, PostgresCodable { case sad, happy }
    // README end

    /// A database with the tables that the README speaks of.
    private func makeShop() async throws -> String {
        let server = try await PostgresEphemeralServer.shared()
        let database = try await server.createDatabase()
        let url = server.connectionURL(database: database, over: .unixSocket)
        let db = try await PostgresConnection.connect(url)
        try await db.script(
            """
            CREATE TYPE mood AS ENUM ('sad', 'happy');
            CREATE TABLE users (id int8 PRIMARY KEY, name text UNIQUE, age int4 NOT NULL DEFAULT 30, mood mood);
            INSERT INTO users VALUES (1, 'Ada', 36, 'happy'), (2, 'Tim', 12, 'sad'), (3, 'Zoe', 50, NULL);
            CREATE TABLE page_stats (path text PRIMARY KEY, hits int8 NOT NULL, fetched_at timestamptz);
            CREATE TABLE stock (item int8, left_over int8);
            CREATE TABLE visits (id int8 GENERATED ALWAYS AS IDENTITY, page text NOT NULL);
            """)
        db.close()
        return url
    }

    private final class Printed {
        var lines: [String] = []
    }

    private final class Heard: Sendable {
        let payloads = Mutex<[String]>([])
    }

    @Test func queries() async throws {
        let url = try await makeShop()
        let printed = Printed()
        func print(_ items: Any...) { printed.lines.append(items.map { "\($0)" }.joined(separator: " ")) }

        // README: query
        let db = try await PostgresConnection.connect(url)  // postgresql://user:password@host:port/database
        let age = 18
        for try await (id, name) in try await db.query(
            "SELECT id, name FROM users WHERE age >= \(age) ORDER BY id", as: (Int, String).self)
        {
            print(id, name)
        }
        // README end

        #expect(printed.lines == ["1 Ada", "3 Zoe"])
        #expect(db.statistics.roundTrips == 1)

        // README: results
        let total = try await db.query("SELECT count(*) FROM users", as: Int.self).one()
        let users = try await db.query("SELECT id, name FROM users", as: User.self).all()
        let ada = try await db.query("SELECT * FROM users WHERE id = \(1)").first()
        let mood: Mood? = try ada?.decode("mood")
        let older = try await db.execute("UPDATE users SET age = age + 1 WHERE id = ANY(\([1, 2]))")
        // README end

        #expect(total == 3)
        #expect(users.map(\.name) == ["Ada", "Tim", "Zoe"])
        #expect(mood == .happy)
        #expect(older == 2)

        // README: fragments
        var filter: PostgresQuery = "age >= \(18)"
        if let mood { filter = "\(filter) AND mood = \(mood)" }
        let column = "name"
        let names = try await db.query(
            "SELECT \(identifier: column) FROM users WHERE \(filter)", as: String?.self)
        // SELECT "name" FROM users WHERE age >= $1 AND mood = $2
        // README end

        #expect(try names.all() == ["Ada"])
        let sent: PostgresQuery = "SELECT \(identifier: column) FROM users WHERE \(filter)"
        #expect(sent.sql == #"SELECT "name" FROM users WHERE age >= $1 AND mood = $2"#)
    }

    @Test func upserts() async throws {
        let db = try await PostgresConnection.connect(try await makeShop())

        // Before it is known what outcomes are told by here.
        let sql = try #require(readmeBlocks("sql").first)
        #expect(words(PageStats.count.sql) == words(sql))
        // README: upsert
        let page = PageStats(path: "/home", hits: 1)
        let outcome = try await db.upsert(PageStats.count(page)).one()  // .inserted, then .updated
        // README end

        #expect(outcome == .inserted)
        #expect(try await db.upsert(PageStats.count(page)).one() == .updated)
        #expect(try await db.query("SELECT hits FROM page_stats", as: Int.self).one() == 2)
        let pages = [PageStats(path: "/a", hits: 5), PageStats(path: "/home", hits: 3)]
        // README: upserts
        try await db.upsert(page)  // overwrites all columns but the key
        try await db.upsert(pages)  // one statement, whatever their number
        let counts = try await db.upsert(Upsert(pages).ifChanged().returning(\.hits).outcomes())
        let changed = counts.filter { $0.outcome != .unchanged }.compactMap(\.returned)
        // README end

        #expect(counts.outcomes == [.unchanged, .unchanged])
        #expect(changed.isEmpty)
        #expect(try await db.query("SELECT hits FROM page_stats ORDER BY path", as: Int.self).all() == [5, 3])
    }

    @Test func pipelines() async throws {
        let db = try await PostgresConnection.connect(try await makeShop())
        let before = db.statistics

        // README: concurrent
        async let users = db.query("SELECT id, name FROM users", as: User.self)
        async let total = db.query("SELECT count(*) FROM visits", as: Int.self).one()
        let (list, count) = try await (users, total)
        // README end

        #expect(list.count == 3)
        #expect(count == 0)
        #expect((db.statistics - before).roundTrips <= 2)

        let beforePipeline = db.statistics
        let pages = ["/a", "/b", "/c"]
        // README: pipeline
        var pipeline = PostgresPipeline(.atomic)
        for page in pages { pipeline.add("INSERT INTO visits (page) VALUES (\(page))") }
        let ticket = pipeline.add(PostgresQuery("SELECT count(*) FROM visits").as(Int.self))
        let results = try await db.run(pipeline)
        try results.check()
        let visits = try results[ticket].one()
        // README end

        #expect(visits == 3)
        #expect((db.statistics - beforePipeline).roundTrips == 1)
    }

    @Test func transactions() async throws {
        let db = try await PostgresConnection.connect(try await makeShop())
        try await db.execute("INSERT INTO stock VALUES (7, 3)")
        let item = 7
        let page = "/buy"
        let before = db.statistics

        // README: transaction
        let left = try await db.transaction(isolation: .serializable, retry: .upTo(5)) { tx in
            let left = try await tx.query("SELECT left_over FROM stock WHERE item = \(item)", as: Int.self).one()
            if left == 0 { throw OutOfStock() }  // rolls back, and arrives as itself
            _ = try? await tx.transaction { nested in  // a savepoint
                try await nested.execute("INSERT INTO visits (page) VALUES (\(page))")
            }
            try await tx.commit(with: "UPDATE stock SET left_over = left_over - 1 WHERE item = \(item)")
            return left - 1
        }
        // README end

        #expect(left == 2)
        #expect((db.statistics - before).roundTrips == 3)
        let stock = try await db.query("SELECT left_over FROM stock", as: Int.self).one()
        #expect(stock == 2)
    }

    @Test func streams() async throws {
        let db = try await PostgresConnection.connect(try await makeShop())
        var bytes = 0
        func archive(_ id: Int, _ page: String) { bytes += page.utf8.count }
        try await db.execute("INSERT INTO visits (page) SELECT '/' || i FROM generate_series(1, 9) i")

        // README: stream
        for try await (id, page) in try await db.stream("SELECT id, page FROM visits", as: (Int, String).self) {
            archive(id, page)
        }
        // README end

        #expect(bytes == 18)
    }

    @Test func cursors() async throws {
        let db = try await PostgresConnection.connect(try await makeShop())
        try await db.execute("INSERT INTO visits (page) SELECT '/A' || i FROM generate_series(1, 1200) i")

        // README: cursor
        for try await (id, page) in try await db.cursor(
            "SELECT id, page FROM visits", as: (Int, String).self, fetching: 500, withHold: true)
        {
            try await db.execute("UPDATE visits SET page = \(page.lowercased()) WHERE id = \(id)")
        }
        // README end

        let changed = try await db.query("SELECT count(*) FROM visits WHERE page LIKE '/a%'", as: Int.self).one()
        #expect(changed == 1200)
    }

    @Test func notifications() async throws {
        let url = try await makeShop()
        let db = try await PostgresConnection.connect(url)
        let printed = Printed()
        func print(_ items: Any...) { printed.lines.append(items.map { "\($0)" }.joined(separator: " ")) }

        // README: listen
        let notifications = try await db.listen(to: "jobs")
        try await db.notify("jobs", payload: "42")
        for try await notification in notifications {
            print(notification.channel, notification.payload)
            if notification.payload == "42" { break }
        }
        // README end

        #expect(printed.lines == ["jobs 42"])

        let configuration = try PostgresConfiguration(url: url)
        let heard = Heard()
        let task = Task {
            @Sendable func run(_ payload: String) { heard.payloads.withLock { $0.append(payload) } }
            @Sendable func catchUp() {}
            // README: listener
            for try await event in PostgresListener(configuration, channels: "jobs") {
                switch event {
                case .notification(let notification): run(notification.payload)
                case .gap: catchUp()  // read from the tables what may have been missed
                }
            }
            // README end
        }
        try await eventually("the listener hears it") {
            try await db.notify("jobs", payload: "43")
            return heard.payloads.withLock { $0.first } == "43"
        }
        task.cancel()
        let end = await failure { try await task.value }
        #expect(end?.code == .cancelled)
    }

    @Test func copies() async throws {
        let db = try await PostgresConnection.connect(try await makeShop())
        var bytes: [UInt8] = []
        func archive(_ chunk: [UInt8]) { bytes += chunk }
        let pages = ["/a", "/b", "/c"]

        // README: copy
        let people = [(4, "Eva", Int32(28)), (5, "Max", Int32(41))]
        let copied = try await db.copy(into: "users", columns: ["id", "name", "age"], rows: people)
        try await db.copy(into: "visits", columns: ["page"], format: .csv) { writer in
            for page in pages { try await writer.write("\(page)\n") }
        }
        for try await chunk in try await db.copy(from: "users", format: .csv(header: true)) { archive(chunk) }
        // README end

        #expect(copied == 2)
        #expect(String(decoding: bytes, as: UTF8.self).hasPrefix("id,name,age,mood\n1,Ada,36,happy\n"))
        #expect(try await db.query("SELECT count(*) FROM visits", as: Int.self).one() == 3)
    }

    @Test func errors() async throws {
        let db = try await PostgresConnection.connect(try await makeShop())
        let printed = Printed()
        func print(_ items: Any...) { printed.lines.append(items.map { "\($0)" }.joined(separator: " ")) }

        // README: errors
        do {
            try await db.execute("INSERT INTO users (id, name) VALUES (\(4), \("Ada"))")
        } catch .uniqueViolation {
            print("the name is taken")
        } catch {
            print(error.code, error.outcome, error.message)
        }
        // README end

        #expect(printed.lines == ["the name is taken"])
    }

    @Test func blocking() async throws {
        let url = try await makeShop()
        let lines = try await onThread { () throws -> [String] in
            let printed = Printed()
            func print(_ items: Any...) { printed.lines.append(items.map { "\($0)" }.joined(separator: " ")) }

            // README: blocking
            let db = try PostgresBlockingConnection.connect(url)
            for (id, name) in try db.query("SELECT id, name FROM users ORDER BY id", as: (Int, String).self).all() {
                print(id, name)
            }
            try db.upsert(into: "users", key: ("id", 4), set: ("name", "Max"), touch: nil)
            // README end

            let stored = try db.query("SELECT name FROM users WHERE id = 4", as: String.self).one()
            return printed.lines + [stored]
        }
        #expect(lines == ["1 Ada", "2 Tim", "3 Zoe", "Max"])
    }

    @Test func testing() async throws {
        // README: testing
        let server = try await PostgresEphemeralServer.shared()
        let database = try await server.createDatabase()
        let db = try await PostgresConnection.connect(server.connectionURL(database: database))
        // README end

        #expect(try await db.query("SELECT current_database()", as: String.self).one() == database)
    }

    // MARK: The README

    private func readmeBlocks(_ language: String) throws -> [String] {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
        return text.components(separatedBy: "\n```\(language)\n").dropFirst()
            .compactMap { $0.components(separatedBy: "\n```").first }
    }

    private func words(_ text: String) -> [Substring] { text.split(whereSeparator: \.isWhitespace) }
}
