import Postgres
import Testing

@testable import PostgresUpsert

@Suite struct VersionedUpsertSQLTests {
    private struct Document: PostgresTable {
        var tenant: Int
        var id: String
        var body: String
        var version: Int

        static let table = Table<Self>("documents", schema: "app", init: Self.init(tenant:id:body:version:)) {
            Column("tenant", \.tenant, .primaryKey)
            Column("id", \.id, .primaryKey, type: "uuid")
            Column("body", \.body)
            Column("version", \.version)
        }
    }

    @Test func theVersionIsComparedAndCounted() {
        #expect(
            Document.upsert.version(\.version).sql == """
                INSERT INTO "app"."documents" ("tenant", "id", "body", "version") VALUES ($1, $2::uuid, $3, $4) \
                ON CONFLICT ("tenant", "id") DO UPDATE SET "body" = EXCLUDED."body", \
                "version" = "documents"."version" + 1 \
                WHERE "documents"."version" IS NOT DISTINCT FROM EXCLUDED."version" RETURNING "version"
                """)
    }

    @Test func theCurrentRowIsFoundByItsKey() throws {
        let document = Document(tenant: 7, id: "x", body: "b", version: 3)
        let query = try Document.upsert.version(\.version).current(of: document)
        #expect(
            query.query.sql == """
                SELECT s.* FROM (SELECT '"app"."documents"'::regclass::oid AS tableoid) AS upsert_own CROSS JOIN LATERAL \
                (SELECT "tenant", "id", "body", "version" FROM "app"."documents" \
                WHERE "tenant" = $1 AND "id" = $2::uuid AND (tableoid = upsert_own.tableoid OR (SELECT relkind = 'p' \
                FROM pg_catalog.pg_class WHERE oid = upsert_own.tableoid))) AS s
                """)
    }

    @Test func aConstraintOfUnknownColumnsStillTellsThatItIsStale() throws {
        let document = Document(tenant: 7, id: "x", body: "b", version: 3)
        let upsert = Document.upsert.onConstraint("documents_key").version(\.version)
        do {
            _ = try upsert.current(of: document)
            Issue.record("it was found")
        } catch {
            #expect(error.code == .staleVersion)
            #expect(error.outcome == .rejected)
        }
    }

    @Test func aKeyThatMayBeNullIsFoundByNull() throws {
        struct Note: PostgresTable {
            var owner: String?
            var version: Int

            static let table = Table<Self>("notes", init: Self.init(owner:version:)) {
                Column("owner", \.owner, .primaryKey)
                Column("version", \.version)
            }
        }
        let query = try Note.upsert.version(\.version).current(of: Note(owner: nil, version: 1))
        #expect(query.query.sql.contains(#"WHERE ("owner" = $1 OR ("owner" IS NULL AND $1 IS NULL)) AND (tableoid"#))
    }
}
