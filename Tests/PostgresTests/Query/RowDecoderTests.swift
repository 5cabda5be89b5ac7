import Foundation
import PostgresProtocol
import Testing

@testable import Postgres

/// A row as it comes from a server: a DataRow in a block.
func makeRow(_ cells: [(name: String, type: PostgresType, format: PostgresFormat, bytes: [UInt8]?)]) throws
    -> PostgresRow
{
    var body: [UInt8] = withUnsafeBytes(of: Int16(cells.count).bigEndian) { [UInt8]($0) }
    for cell in cells {
        body += withUnsafeBytes(of: Int32(cell.bytes?.count ?? -1).bigEndian) { [UInt8]($0) } + (cell.bytes ?? [])
    }
    let message = [UInt8(ascii: "D")] + withUnsafeBytes(of: Int32(body.count + 4).bigEndian) { [UInt8]($0) } + body
    let chunk = RowChunk(capacity: message.count)
    message.withUnsafeBytes { chunk.append($0, rows: 1) }
    let columns = PostgresColumns(
        cells.map {
            .init(name: $0.name, type: $0.type, format: $0.format, tableOID: 0, tableColumn: 0, typeModifier: -1)
        })
    let reply = Reply(blocks: [chunk], columns: columns, rowCount: 1, affected: 0)
    var cursor = RowCursor(reply)
    let isRow = cursor.advance()
    try #require(isRow)
    return cursor.row
}

func makeRow(text cells: [(name: String, type: PostgresType, text: String?)]) throws -> PostgresRow {
    try makeRow(cells.map { ($0.name, $0.type, .text, $0.text.map { [UInt8]($0.utf8) }) })
}

struct RowDecoderTests {
    enum Mood: String, Decodable { case sad, happy }
    enum Level: Int, Decodable { case low = 1 }
    struct Address: Decodable, Hashable { var city: String }

    struct User: Decodable, PostgresRowDecodable {
        var id: Int
        var name: String?
        var mood: Mood
        var scores: [Int?]
        var address: Address
        var seen: PostgresTimestamp
        var nickname: String?
    }

    static let columns: [(name: String, type: PostgresType, text: String?)] = [
        ("seen", .timestamptz, "2000-01-01 00:00:00+00"), ("id", .int8, "7"), ("name", .text, nil),
        ("mood", PostgresType(oid: 90_000), "sad"), ("scores", PostgresType(oid: 1007), "{1,NULL}"),
        ("address", .jsonb, #"{"city":"Ulm"}"#), ("unused", .int4, "1"),
    ]

    @Test func propertiesAreFoundByName() throws {
        let user = try User(row: makeRow(text: Self.columns))
        #expect(user.id == 7)
        #expect(user.name == nil)
        #expect(user.mood == .sad)
        #expect(user.scores == [1, nil])
        #expect(user.address == Address(city: "Ulm"))
        #expect(user.seen.microseconds == 0)
        #expect(user.nickname == nil)
    }

    @Test func eachMissingOrNullColumnIsAnErrorWithItsName() throws {
        for name in ["id", "mood", "scores", "address", "seen"] {
            let missing = try makeRow(text: Self.columns.filter { $0.name != name })
            let null = try makeRow(text: Self.columns.map { $0.name == name ? ($0.name, $0.type, nil) : $0 })
            for (row, code) in [(missing, PostgresError.Code.noSuchColumn), (null, .unexpectedNull)] {
                let error = #expect(throws: PostgresError.self) { try User(row: row) }
                #expect(error?.code == code)
                #expect(error?.message.contains("\"\(name)\"") == true)
            }
        }
    }

    struct Scalars: Decodable, PostgresRowDecodable, Equatable {
        var a: Bool
        var b: Int8
        var c: Int16
        var d: Int32
        var e: Int64
        var f: UInt
        var g: UInt8
        var h: UInt16
        var i: UInt32
        var j: UInt64
        var k: Float
        var l: Double
        var m: Level
        var n: Level?
        var o: Data
        var p: UUID
    }

    @Test func everyScalarOfTheStandardLibraryIsRead() throws {
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
        var cells: [(name: String, type: PostgresType, text: String?)] = [("a", .bool, "t")]
        cells += "bcdefghij".map { ("\($0)", .int8, "100") }
        cells += [("k", .float4, "1.5"), ("l", .float8, "-0.5"), ("m", .int4, "1"), ("n", .int4, nil)]
        cells += [("o", .bytea, "\\x00ff"), ("p", .uuid, uuid)]
        let expected = Scalars(
            a: true, b: 100, c: 100, d: 100, e: 100, f: 100, g: 100, h: 100, i: 100, j: 100, k: 1.5, l: -0.5, m: .low,
            n: nil,
            o: Data([0, 255]), p: try #require(UUID(uuidString: uuid)))
        #expect(try Scalars(row: makeRow(text: cells)) == expected)

        for name in "bcdghi" {
            let row = try makeRow(text: cells.map { $0.name == "\(name)" ? ($0.name, $0.type, "5000000000") : $0 })
            let error = #expect(throws: PostgresError.self) { try Scalars(row: row) }
            #expect(error?.code == .cannotDecode)
            #expect(error?.message.hasPrefix("column \"\(name)\"") == true)
        }
        for name in "fghij" {
            let row = try makeRow(text: cells.map { $0.name == "\(name)" ? ($0.name, $0.type, "-1") : $0 })
            #expect(throws: PostgresError.self) { try Scalars(row: row) }
        }
    }

    struct Documents: Decodable, PostgresRowDecodable {
        var list: [Int]
        var map: [String: Int]
        var nested: [Address]
        var text: String
        var mood: Mood
        var time: PostgresTimestamp
        var number: Int
        var typed: PostgresJSON<Address>
        var absent: Address?
        var raw: PostgresJSONText
    }

    @Test func jsonColumnsAreReadThroughJSON() throws {
        let texts: [(String, String?)] = [
            ("list", "[1,2]"), ("map", #"{"a":1}"#), ("nested", #"[{"city":"Ulm"}]"#), ("text", #"{"b":1}"#),
            ("mood", #""happy""#), ("time", #""2000-01-01T00:00:00+00:00""#), ("number", "5"),
            ("typed", #"{"city":"Ulm"}"#),
            ("absent", nil), ("raw", "[]"),
        ]
        let json = texts.map { (name: $0.0, type: PostgresType.json, text: $0.1) }
        let jsonb = texts.map { ($0.0, PostgresType.jsonb, PostgresFormat.binary, $0.1.map { [1] + [UInt8]($0.utf8) }) }
        for row in [try makeRow(text: json), try makeRow(jsonb)] {
            let documents = try Documents(row: row)
            #expect(documents.list == [1, 2])
            #expect(documents.map == ["a": 1])
            #expect(documents.nested == [Address(city: "Ulm")])
            #expect(documents.text == #"{"b":1}"#)
            #expect(documents.mood == .happy)
            #expect(documents.time.microseconds == 0)
            #expect(documents.number == 5)
            #expect(documents.typed.value == Address(city: "Ulm"))
            #expect(documents.absent == nil)
            #expect(documents.raw == "[]")
        }
    }

    struct Compound: Decodable, PostgresRowDecodable { var value: [String: Int] }
    struct Bytes: Decodable, PostgresRowDecodable { var value: [UInt8] }

    @Test func aCompoundValueNeedsJSON() throws {
        let error = #expect(throws: PostgresError.self) {
            try Compound(row: makeRow(text: [("value", .text, "{}")]))
        }
        #expect(error?.code == .typeMismatch)
        let bytes = #expect(throws: PostgresError.self) {
            try Bytes(row: makeRow(text: [("value", .bytea, "\\x00")]))
        }
        #expect(bytes?.code == .typeMismatch)
        let broken = #expect(throws: PostgresError.self) {
            try Compound(row: makeRow(text: [("value", .json, "{")]))
        }
        #expect(broken?.code == .cannotDecode)
        #expect(broken?.message.hasPrefix("column \"value\"") == true)
    }

    struct Hostile: Decodable, PostgresRowDecodable {
        enum Request: CaseIterable { case unkeyed, single, nestedKeyed, nestedUnkeyed, superDecoder, superForKey, own }
        enum Key: String, CodingKey { case value, other }
        @TaskLocal static var request = Request.unkeyed

        init(from decoder: any Decoder) throws {
            switch Self.request {
            case .unkeyed: _ = try decoder.unkeyedContainer()
            case .single: _ = try decoder.singleValueContainer()
            case .nestedKeyed:
                _ = try decoder.container(keyedBy: Key.self).nestedContainer(keyedBy: Key.self, forKey: .value)
            case .nestedUnkeyed: _ = try decoder.container(keyedBy: Key.self).nestedUnkeyedContainer(forKey: .value)
            case .superDecoder: _ = try decoder.container(keyedBy: Key.self).superDecoder()
            case .superForKey: _ = try decoder.container(keyedBy: Key.self).superDecoder(forKey: .value)
            case .own:
                throw DecodingError.dataCorrupted(.init(codingPath: [Key.value], debugDescription: "no"))
            }
        }
    }

    @Test(arguments: Hostile.Request.allCases)
    func whatARowCannotShowIsATypedError(request: Hostile.Request) throws {
        let row = try makeRow(text: [("value", .int4, "1")])
        let error = Hostile.$request.withValue(request) {
            #expect(throws: PostgresError.self) { try Hostile(row: row) }
        }
        #expect(error?.code == (request == .own ? .cannotDecode : .typeMismatch))
        if request == .own { #expect(error?.message.hasSuffix(" at value") == true) }
    }

    struct ByHand: Decodable, PostgresRowDecodable {
        var keys: Set<String>
        var isNull: Bool

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Hostile.Key.self)
            keys = Set(container.allKeys.map(\.rawValue))
            isNull = try container.decodeNil(forKey: .value)
        }
    }

    @Test func keysAndNullsAreTheRows() throws {
        let row = try ByHand(row: makeRow(text: [("value", .int4, nil), ("foreign", .int4, "1")]))
        #expect(row.keys == ["value"])
        #expect(row.isNull)
        #expect(throws: PostgresError.self) { try ByHand(row: makeRow(text: [("other", .int4, nil)])) }
    }

    @Test func columnsInBinaryFormAreReadToo() throws {
        struct Row: Decodable, PostgresRowDecodable {
            var id: Int
            var ok: Bool
        }
        let row = try makeRow([("ok", .bool, .binary, [1]), ("id", .int4, .binary, [0, 0, 1, 0])])
        let value = try Row(row: row)
        #expect(value.id == 256 && value.ok)
    }
}
