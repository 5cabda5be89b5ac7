import Foundation
import Postgres
import Testing

struct JSONTests {
    struct Event: Codable, Hashable {
        var name: String
        var count: Int64
        var tags: [String]?
    }

    static let event = Event(name: "a\u{0}b \"é\"", count: 9_007_199_254_740_993, tags: ["x"])
    static let json = #"{"name":"a\u0000b \"é\"","count":9007199254740993,"tags":["x"]}"#

    @Test func aCodableValueIsSentAsJSONB() throws {
        let bytes = try encoded(PostgresJSON(Self.event))
        #expect(bytes.first == 1)
        #expect(PostgresJSON<Event>.postgresType == .jsonb)
        #expect(try JSONDecoder().decode(Event.self, from: Data(bytes.dropFirst())) == Self.event)
        #expect(try roundTrip(PostgresJSON(Self.event)).value == Self.event)
    }

    @Test func jsonAndJSONBAreReadInBothForms() throws {
        let text = [UInt8](Self.json.utf8)
        let sources: [(PostgresType, PostgresFormat, [UInt8])] = [
            (.json, .text, text), (.json, .binary, text), (.jsonb, .text, text), (.jsonb, .binary, [1] + text),
        ]
        for (type, format, bytes) in sources {
            #expect(try decoded(bytes, type, format, as: PostgresJSON<Event>.self).value == Self.event)
            #expect(try decoded(bytes, type, format, as: PostgresJSONText.self).text == Self.json)
        }
    }

    @Test func rawJSONKeepsItsText() throws {
        let text: PostgresJSONText = #"{"b":1, "a":1e400}"#
        #expect(try encoded(text) == [1] + [UInt8](text.text.utf8))
        #expect(try roundTrip(text) == text)
        #expect(try roundTrip([text, nil]) == [text, nil])
        #expect(refusal(of: PostgresJSONText("\0")) == .invalidArgument)
    }

    @Test func fragmentsAreJSONToo() throws {
        #expect(try decoded("42", .jsonb, as: PostgresJSON<Int>.self).value == 42)
        #expect(try decoded("null", .jsonb, as: PostgresJSON<Int?>.self).value == nil)
        #expect(try roundTrip(PostgresJSON([1, 2])).value == [1, 2])
    }

    @Test(arguments: ["", "{", "{}", "[]", "null", #"{"name":1,"count":1}"#, #"{"name":"a","count":1e30}"#])
    func jsonThatDoesNotFitIsRefused(json: String) throws {
        #expect(refusal(json, .jsonb, as: PostgresJSON<Event>.self) == .cannotDecode)
    }

    @Test func theErrorSaysWhereButNotWhat() throws {
        let error = #expect(throws: PostgresError.self) {
            _ = try decoded(#"{"name":"a","count":"secret"}"#, .jsonb, as: PostgresJSON<Event>.self)
        }
        #expect(error?.message.hasSuffix(" at count") == true)
        #expect(error?.description.contains("secret") == false)
        #expect(error?.underlying is DecodingError)
    }

    @Test func otherVersionsAndTypesAreRefused() {
        for bytes in [[], [0, 0x7B, 0x7D], [2, 0x7B, 0x7D], [0x7B, 0x7D]] as [[UInt8]] {
            #expect(refusal(bytes, .jsonb, .binary, as: PostgresJSON<[String: Int]>.self) == .cannotDecode)
            #expect(refusal(bytes, .jsonb, .binary, as: PostgresJSONText.self) == .cannotDecode)
        }
        #expect(refusal("{}", .text, as: PostgresJSON<[String: Int]>.self) == .typeMismatch)
        #expect(refusal("{}", .text, as: PostgresJSONText.self) == .typeMismatch)
        #expect(refusal([0xFF], .json, .text, as: PostgresJSONText.self) == .cannotDecode)
    }

    @Test func aValueThatHasNoJSONIsNotSent() {
        #expect(refusal(of: PostgresJSON(Double.nan)) == .invalidArgument)
    }

    @Test func insideACodableTypeItIsNotSeen() throws {
        let encoder = JSONEncoder()
        #expect(String(decoding: try encoder.encode(["a": PostgresJSON(1)]), as: UTF8.self) == #"{"a":1}"#)
        #expect(try JSONDecoder().decode([PostgresJSON<Int>].self, from: Data("[1]".utf8)).map(\.value) == [1])
    }
}
