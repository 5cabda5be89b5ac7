import Foundation
import Postgres
import Testing

struct DateTests {
    @Test(
        arguments: [
            (0, 978_307_200_000_000), (-978_307_200, 0), (0.5, 978_307_200_500_000), (-0.25, 978_307_199_750_000),
            (789_012_345.678_901, 1_767_319_545_678_901),
        ] as [(Double, Int64)])
    func aDateIsATimestampWithTimeZone(reference: Double, unixMicroseconds: Int64) throws {
        let date = Date(timeIntervalSinceReferenceDate: reference)
        let timestamp = try #require(PostgresTimestamp(unixMicroseconds: unixMicroseconds))
        #expect(PostgresTimestamp(date) == timestamp)
        #expect(timestamp.date == date)
        #expect(try encoded(date) == encoded(timestamp))
        #expect(try decoded(try encoded(timestamp), .timestamptz, .binary, as: Date.self) == date)
        #expect(try decoded(timestamp.description, .timestamptz, as: Date.self) == date)
    }

    @Test func halfAMicrosecondIsRoundedToTheNearest() {
        let base = PostgresTimestamp(Date(timeIntervalSinceReferenceDate: 0))
        #expect(PostgresTimestamp(Date(timeIntervalSinceReferenceDate: 0.000_000_4)) == base)
        #expect(
            PostgresTimestamp(Date(timeIntervalSinceReferenceDate: 0.000_000_6))?.microseconds
                == base.map { $0.microseconds + 1 })
        #expect(PostgresTimestamp(Date(timeIntervalSinceReferenceDate: -0.000_000_4)) == base)
    }

    @Test(arguments: [Double.infinity, -.infinity, .nan, 1e300, -1e300, 9.3e18, 9_223_339_708_800, -211_845_110_401])
    func aDateTheServerCannotHoldIsNotSent(reference: Double) {
        let date = Date(timeIntervalSinceReferenceDate: reference)
        #expect(PostgresTimestamp(date) == nil)
        #expect(refusal(of: date) == .invalidArgument)
    }

    @Test(arguments: [PostgresTimestamp.infinity, .negativeInfinity, .init(microseconds: .max - 1)])
    func aTimeThatIsNoDateIsRefused(timestamp: PostgresTimestamp) throws {
        #expect(timestamp.date == nil)
        let bytes = withUnsafeBytes(of: timestamp.microseconds.bigEndian) { [UInt8]($0) }
        #expect(refusal(bytes, .timestamptz, .binary, as: Date.self) == .cannotDecode)
        if timestamp.microseconds != .max - 1 {
            #expect(refusal(timestamp.description, .timestamptz, as: Date.self) == .cannotDecode)
        }
    }

    @Test func otherTypesAreAMismatch() {
        #expect(refusal([UInt8](repeating: 0, count: 8), .timestamp, .binary, as: Date.self) == .typeMismatch)
        #expect(refusal("2000-01-01", .date, as: Date.self) == .typeMismatch)
        #expect(refusal([0], .timestamptz, .binary, as: Date.self) == .cannotDecode)
    }

    @Test func theEndsOfTheRangeAreDates() throws {
        for edge in [PostgresTimestamp.earliest, .latest] {
            let date = try #require(edge.date)
            // A Double has no microseconds there, so only the neighbourhood is the same.
            let distance = abs(date.timeIntervalSince1970 - Double(edge.microseconds) / 1e6 - 946_684_800)
            #expect(distance < 0.01)
        }
    }

    @Test func microsecondsSurviveWithin270Years() throws {
        var generator = SeededGenerator(seed: 8)
        let range: Int64 = 270 * 31_557_600 * 1_000_000
        for _ in 0..<5000 {
            let timestamp = PostgresTimestamp(microseconds: .random(in: -range...range, using: &generator))
            #expect(timestamp.date.flatMap { PostgresTimestamp($0) } == timestamp)
        }
    }

    @Test func timestampsAreStringsInJSON() throws {
        let time = PostgresTimestamp(microseconds: 123_456)
        let json = try JSONEncoder().encode([time])
        #expect(String(decoding: json, as: UTF8.self) == #"["2000-01-01 00:00:00.123456+00"]"#)
        #expect(try JSONDecoder().decode([PostgresTimestamp].self, from: json) == [time])
        let server = Data(#"["2000-01-01T02:00:00.123456+02:00"]"#.utf8)
        #expect(try JSONDecoder().decode([PostgresTimestamp].self, from: server) == [time])
        let local = Data(#"["2000-01-01T00:00:00.123456"]"#.utf8)
        #expect(try JSONDecoder().decode([PostgresLocalTimestamp].self, from: local).map(\.microseconds) == [123_456])
        #expect(throws: DecodingError.self) { try JSONDecoder().decode([PostgresTimestamp].self, from: local) }
    }
}
