import Foundation
import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Every codec against the server's own text, both ways.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct CodecRoundTripTests {
    /// Sends each value and reads it back in binary; has the server write it as text; and reads that text by a script.
    private func check<Value: PostgresCodable & Equatable>(
        _ values: [(Value, text: String)], _ type: String, _ sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let db = try await connect { $0.parameters = ["TimeZone": "UTC"] }
        for (value, text) in values {
            let sql = "::\(type)"
            let (back, written) = try await db.query(
                "SELECT \(value)\(unsafeSQL: sql), \(value)\(unsafeSQL: sql)::text", as: (Value, String).self
            ).one()
            #expect(back == value, sourceLocation: sourceLocation)
            #expect(written == text, sourceLocation: sourceLocation)

            let literal = "'\(text.replacing("'", with: "''"))'::\(type)"
            let script = try await db.script("SELECT \(unsafeSQL: literal)")
            let fromText = try script[0].one().decode(0, as: Value.self)
            #expect(fromText == value, sourceLocation: sourceLocation)
            let literals = try await db.query("SELECT \(unsafeSQL: literal)", as: Value.self).one()
            #expect(literals == value, sourceLocation: sourceLocation)

            let null = try await db.query(
                "SELECT NULL\(unsafeSQL: sql), \(Value?.none)\(unsafeSQL: sql)", as: (Value?, Value?).self
            )
            .one()
            #expect(null.0 == nil && null.1 == nil, sourceLocation: sourceLocation)
        }
        let list = values.map(\.0)
        let (array, nulls) = try await db.query(
            "SELECT \(list)\(unsafeSQL: "::\(type)[]"), \([nil] + list + [nil])\(unsafeSQL: "::\(type)[]")",
            as: ([Value], [Value?]).self
        ).one()
        #expect(array == list, sourceLocation: sourceLocation)
        #expect(nulls == [nil] + list + [nil], sourceLocation: sourceLocation)
        let texts = values.map { "\"\($0.text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\"" }
        let literal = "'{NULL,\(texts.joined(separator: ",").replacing("'", with: "''"))}'::\(type)[]"
        let script = try await db.script("SELECT \(unsafeSQL: literal), '{}'::\(unsafeSQL: type)[]")
        let row = try script[0].one()
        #expect(try row.decode(0, as: [Value?].self) == [nil] + list, sourceLocation: sourceLocation)
        #expect(try row.decode(1, as: [Value].self) == [], sourceLocation: sourceLocation)
        let empty = try await db.query("SELECT \([Value]())\(unsafeSQL: "::\(type)[]")", as: [Value].self).one()
        #expect(empty == [], sourceLocation: sourceLocation)
    }

    @Test func booleansAndIntegers() async throws {
        try await check([(true, text: "true"), (false, text: "false")], "bool")
        try await check([(Int16.min, text: "-32768"), (0, text: "0"), (.max, text: "32767")], "int2")
        try await check([(Int32.min, text: "-2147483648"), (-1, text: "-1"), (.max, text: "2147483647")], "int4")
        try await check([(Int64.min, text: "-9223372036854775808"), (.max, text: "9223372036854775807")], "int8")
        try await check([(Int.min, text: "-9223372036854775808"), (.max, text: "9223372036854775807")], "int8")
    }

    @Test func floatingPointNumbers() async throws {
        try await check(
            [
                (1.5, text: "1.5"), (-0.1, text: "-0.1"), (.infinity, text: "Infinity"),
                (-.infinity, text: "-Infinity"), (.leastNonzeroMagnitude, text: "5e-324"),
                (.greatestFiniteMagnitude, text: "1.7976931348623157e+308"), (0.1 + 0.2, text: "0.30000000000000004"),
            ], "float8")
        try await check(
            [
                (Float(1.5), text: "1.5"), (.infinity, text: "Infinity"), (.leastNonzeroMagnitude, text: "1e-45"),
                (.greatestFiniteMagnitude, text: "3.4028235e+38"), (0.1, text: "0.1"),
            ], "float4")
        let db = try await connect()
        let (nan, zero) = try await db.query("SELECT \(Double.nan), \(-0.0)", as: (Double, Double).self).one()
        #expect(nan.isNaN)
        #expect(zero.sign == .minus)
        let rows = try await db.script("SELECT 'NaN'::float8, '-0'::float8")
        let row = try rows[0].one()
        #expect(try row.decode(0, as: Double.self).isNaN)
        #expect(try row.decode(1, as: Double.self).sign == .minus)
    }

    @Test(arguments: ["text", "varchar", "bpchar", "name"])
    func strings(_ type: String) async throws {
        let texts = [
            "", "x", "it's \"quoted\" \\ {a,b}", "NULL", "null", "Ännchen \u{1F9D1}\u{200D}\u{1F680} e\u{301}",
            "a\nb\tc",
        ]
        try await check(texts.map { ($0, text: $0) }, type)
    }

    @Test func bytes() async throws {
        let all = PostgresBytes((0...255).map { UInt8($0) })
        let hex = "\\x" + (0...255).map { String(format: "%02x", $0) }.joined()
        try await check([(PostgresBytes([]), text: "\\x"), (all, text: hex)], "bytea")
        try await check([(Data([1, 2, 255]), text: "\\x0102ff")], "bytea")
        let db = try await connect()
        let rows = try await db.script("SET bytea_output = 'escape'; SELECT '\\x00615c27ff'::bytea")
        #expect(try rows[1].one().decode(0, as: PostgresBytes.self).bytes == [0, 0x61, 0x5C, 0x27, 0xFF])
    }

    @Test func uuids() async throws {
        let uuid = UUID()
        try await check([(uuid, text: uuid.uuidString.lowercased())], "uuid")
    }

    @Test func timestamps() async throws {
        func stamp(_ text: String) throws -> PostgresTimestamp { try #require(PostgresTimestamp(text)) }
        try await check(
            [
                (PostgresTimestamp(microseconds: 0), text: "2000-01-01 00:00:00+00"),
                (PostgresTimestamp(microseconds: -1), text: "1999-12-31 23:59:59.999999+00"),
                (PostgresTimestamp(microseconds: 1), text: "2000-01-01 00:00:00.000001+00"),
                (.infinity, text: "infinity"), (.negativeInfinity, text: "-infinity"),
                (.earliest, text: "4714-11-24 00:00:00+00 BC"), (.latest, text: "294276-12-31 23:59:59.999999+00"),
                (try stamp("4713-02-29 12:34:56.789+00 BC"), text: "4713-02-29 12:34:56.789+00 BC"),
                (try stamp("0001-12-31 23:59:59.5+00 BC"), text: "0001-12-31 23:59:59.5+00 BC"),
                (try stamp("12345-06-07 08:09:10+00"), text: "12345-06-07 08:09:10+00"),
            ], "timestamptz")
        try await check(
            [
                (PostgresLocalTimestamp(microseconds: 123_456_789), text: "2000-01-01 00:02:03.456789"),
                (.infinity, text: "infinity"), (.negativeInfinity, text: "-infinity"),
                (.earliest, text: "4714-11-24 00:00:00 BC"), (.latest, text: "294276-12-31 23:59:59.999999"),
            ], "timestamp")
        try await check(
            [(Date(timeIntervalSinceReferenceDate: 0.25), text: "2001-01-01 00:00:00.25+00")], "timestamptz")
    }

    @Test(arguments: ["Asia/Kathmandu", "America/St_Johns", "Europe/Berlin", "Africa/Monrovia"])
    func timestampsAsTextInOtherZones(_ zone: String) async throws {
        let db = try await connect { $0.parameters = ["TimeZone": zone] }
        for text in ["1900-01-01 00:00:00+00", "1971-06-01 12:00:00.000001+00", "2024-07-01 01:02:03+00"] {
            let expected = try #require(PostgresTimestamp(text))
            let rows = try await db.script("SELECT '\(unsafeSQL: text)'::timestamptz")
            #expect(try rows[0].one().decode(0, as: PostgresTimestamp.self) == expected)
            let back = try await db.query("SELECT \(expected)", as: PostgresTimestamp.self).one()
            #expect(back == expected)
        }
    }

    @Test func infinityIsNoDate() async throws {
        let db = try await connect()
        let error = await failure {
            try await db.query("SELECT 'infinity'::timestamptz", as: Date.self).one()
        }
        #expect(error?.code == .cannotDecode)
        #expect(error?.outcome == .succeeded)
    }

    private struct Document: Codable, Equatable, Sendable {
        var name: String
        var numbers: [Int]
        var nested: [String: Double?]
    }

    @Test(arguments: ["json", "jsonb"])
    func documents(_ type: String) async throws {
        let db = try await connect()
        let document = Document(name: "Ä \"x\" \\", numbers: [1, 2, 1 << 53], nested: ["a": 1.5, "b": nil])
        let sql = "::\(type)"
        let back = try await db.query(
            "SELECT \(PostgresJSON(document))\(unsafeSQL: sql)", as: PostgresJSON<Document>.self
        ).one()
        #expect(back.value == document)
        let text = try await db.query(
            "SELECT \(PostgresJSONText("[1, 2]"))\(unsafeSQL: sql)", as: PostgresJSONText.self
        )
        .one()
        #expect(text.text == "[1, 2]")
        let list = try await db.query(
            "SELECT \([PostgresJSON(document), nil])\(unsafeSQL: sql)[]", as: [PostgresJSON<Document>?].self
        ).one()
        #expect(list.map { $0?.value } == [document, nil])
        let rows = try await db.script("SELECT '{\"name\":\"n\",\"numbers\":[],\"nested\":{}}'\(unsafeSQL: sql)")
        #expect(try rows[0].one().decode(0, as: PostgresJSON<Document>.self).value.name == "n")
    }
}
