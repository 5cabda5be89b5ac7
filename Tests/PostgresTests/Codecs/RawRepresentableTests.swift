import Postgres
import Testing

struct RawRepresentableTests {
    enum Mood: String, PostgresCodable { case sad, happy }
    enum Level: Int16, PostgresCodable {
        case low = 1
        case high = 300
    }
    struct UserID: RawRepresentable, Hashable, PostgresCodable { var rawValue: Int }

    @Test func aRawValueTravelsAsItself() throws {
        #expect(try encoded(Mood.sad) == [UInt8]("sad".utf8))
        #expect(Mood.postgresType == .unspecified)
        #expect(Mood.postgresFormat == .text)
        #expect(Mood.postgresResultFormat == .text)
        // An enum of the server has an OID that nobody knows beforehand.
        #expect(try decoded("happy", PostgresType(oid: 90_000), as: Mood.self) == .happy)

        #expect(try encoded(Level.high) == [1, 44])
        #expect(Level.postgresType == .int2)
        #expect(Level.postgresResultFormat == .binary)
        #expect(try decoded("1", .int4, as: Level.self) == .low)
        #expect(try roundTrip(UserID(rawValue: -5)) == UserID(rawValue: -5))
    }

    @Test func anotherValueIsRefused() {
        #expect(refusal("angry", PostgresType(oid: 90_000), as: Mood.self) == .cannotDecode)
        #expect(refusal("2", .int2, as: Level.self) == .cannotDecode)
        #expect(refusal("1", .float8, as: Level.self) == .typeMismatch)
    }

    @Test func arraysAndOptionalsFollow() throws {
        #expect(try decoded("{sad,NULL}", PostgresType(oid: 90_001), as: [Mood?].self) == [.sad, nil])
        #expect([Mood].postgresType.oid == 1009)
        #expect(try roundTrip([Level.low, .high]) == [.low, .high])
        #expect(try Mood?.decodeNull() == nil)
    }
}
