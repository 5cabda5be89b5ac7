import Testing

@testable import Postgres

/// The SQL of a COPY.
struct CopyStatementTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let format: PostgresCopyFormat
        let options: String
        var testDescription: String { options }
    }

    @Test(arguments: [
        Case(format: .text, options: ""),
        Case(format: .binary, options: " WITH (FORMAT binary)"),
        Case(format: .csv, options: " WITH (FORMAT csv)"),
        Case(format: .csv(), options: " WITH (FORMAT csv)"),
        Case(
            format: .text(delimiter: "|", null: #"\N"#, header: true),
            options: #" WITH (FORMAT text, DELIMITER '|', NULL E'\\N', HEADER)"#),
        Case(
            format: .csv(delimiter: ";", null: "", header: true, quote: "'", escape: "\\"),
            options: #" WITH (FORMAT csv, DELIMITER ';', NULL '', HEADER, QUOTE '''', ESCAPE E'\\')"#),
        Case(
            format: .csv(forceQuote: ["a", "b\"c"], forceNotNull: ["d"], forceNull: ["e"]),
            options: #" WITH (FORMAT csv, FORCE_QUOTE ("a", "b""c"), FORCE_NOT_NULL ("d"), FORCE_NULL ("e"))"#),
        Case(
            format: .csv.encoding("LATIN1'); DROP TABLE t; --").freeze(),
            options: " WITH (FORMAT csv, ENCODING 'LATIN1''); DROP TABLE t; --', FREEZE)"),
    ])
    func `options are literals and names`(_ example: Case) throws {
        let sql = try CopyStatement.into("t", schema: nil, columns: [], example.format)
        #expect(sql == "COPY \"t\" FROM STDIN" + example.options)
    }

    @Test(
        arguments: [
            ("t", nil, [], "\"t\""), ("a\"b", "s", ["c"], "\"s\".\"a\"\"b\" (\"c\")"),
            ("a\";drop table t;--", nil, ["é", "f\"g"], "\"a\"\";drop table t;--\" (\"é\", \"f\"\"g\")"),
            (String(repeating: "x", count: 63), nil, [], "\"" + String(repeating: "x", count: 63) + "\""),
        ] as [(String, String?, [String], String)])
    func `names are quoted`(table: String, schema: String?, columns: [String], quoted: String) throws {
        #expect(try CopyStatement.into(table, schema: schema, columns: columns, .text) == "COPY \(quoted) FROM STDIN")
        #expect(try CopyStatement.from(table, schema: schema, columns: columns, .text) == "COPY \(quoted) TO STDOUT")
    }

    @Test(arguments: ["", "a\0b", String(repeating: "x", count: 64), String(repeating: "é", count: 32)])
    func `a name that the server would not keep is an error`(name: String) {
        for (table, schema, columns) in [(name, nil, []), ("t", name, []), ("t", nil, ["a", name])]
            as [(String, String?, [String])]
        {
            #expect(throws: PostgresError.self) {
                try CopyStatement.into(table, schema: schema, columns: columns, .text)
            }
            #expect(throws: PostgresError.self) {
                try CopyStatement.select(table, schema: schema, columns: columns)
            }
        }
        #expect(throws: PostgresError.self) {
            try CopyStatement.into("t", schema: nil, columns: [], .csv(forceNull: [name]))
        }
    }

    @Test(arguments: [
        PostgresCopyFormat.csv(delimiter: "é"), .csv(quote: "\r\n"), .csv(null: "a\0"), .csv.encoding("\0"),
    ])
    func `an option that the server could not take is an error`(format: PostgresCopyFormat) {
        #expect(throws: PostgresError.self) { try CopyStatement.into("t", schema: nil, columns: [], format) }
    }

    @Test func `a query is put between parentheses, and has no parameters`() throws {
        #expect(try CopyStatement.rows(of: "SELECT 1 -- x", .text) == "COPY (SELECT 1 -- x\n) TO STDOUT")
        #expect(throws: PostgresError.self) { try CopyStatement.rows(of: "SELECT \(1)", .text) }
        #expect(throws: PostgresError.self) { try CopyStatement.rows(of: "SELECT \(identifier: "")", .text) }
    }
}
