import Postgres
import Testing

struct TimestampTests {
    /// Made by PostgreSQL, from `timestamp_send`.
    static let known: [(text: String, microseconds: Int64)] = [
        ("2000-01-01 00:00:00", 0), ("1999-12-31 23:59:59.999999", -1), ("1970-01-01 00:00:00", -946_684_800_000_000),
        ("2024-02-29 12:34:56.789", 762_525_296_789_000), ("2100-03-01 00:00:00", 3_160_857_600_000_000),
        ("1900-02-28 23:59:59.5", -3_150_576_000_500_000), ("0001-01-01 00:00:00", -63_082_281_600_000_000),
        ("0001-12-31 00:00:00 BC", -63_082_368_000_000_000),
        ("4714-11-24 00:00:00 BC", -211_813_488_000_000_000),
        ("4713-02-29 00:00:00 BC", -211_805_107_200_000_000),
        ("10000-01-01 00:00:00", 252_455_616_000_000_000),
        ("294276-12-31 23:59:59.999999", 9_223_371_331_199_999_999), ("infinity", .max), ("-infinity", .min),
    ]

    @Test(arguments: known)
    func knownTimesAreReadAndWritten(text: String, microseconds: Int64) throws {
        let local = PostgresLocalTimestamp(microseconds: microseconds)
        #expect(local.description == text)
        #expect(try decoded(text, .timestamp, as: PostgresLocalTimestamp.self) == local)

        let isFinite = microseconds != .max && microseconds != .min
        let zoned = isFinite ? text.hasSuffix(" BC") ? text.dropLast(3) + "+00 BC" : text + "+00" : text
        let time = PostgresTimestamp(microseconds: microseconds)
        #expect(time.isFinite == isFinite)
        #expect(time.description == zoned)
        #expect(try decoded(zoned, .timestamptz, as: PostgresTimestamp.self) == time)
        #expect(PostgresTimestamp(zoned) == time)
        #expect(try roundTrip(time) == time)
        #expect(try roundTrip(local) == local)
    }

    @Test func theBinaryFormIsMicrosecondsSince2000() throws {
        #expect(try encoded(PostgresTimestamp(microseconds: 0x0102_0304_0506_0708)) == [1, 2, 3, 4, 5, 6, 7, 8])
        #expect(try encoded(PostgresTimestamp.infinity) == [127] + [UInt8](repeating: 255, count: 7))
        #expect(try encoded(PostgresTimestamp.negativeInfinity) == [128] + [UInt8](repeating: 0, count: 7))
        #expect(PostgresTimestamp.postgresType == .timestamptz)
        #expect(PostgresLocalTimestamp.postgresType == .timestamp)
    }

    @Test(
        arguments: [
            ("2000-01-01 00:00:00+01", -3_600_000_000), ("2000-01-01 00:00:00-08", 28_800_000_000),
            ("2000-01-01 05:30:00+05:30", 0), ("1999-12-31 20:30:00-03:30", 0), ("2000-01-01 00:19:32+00:19:32", 0),
            ("1883-11-18 12:03:57-04:56:02", -3_664_335_601_000_000), ("2000-01-01 00:00:00.000001+00", 1),
        ] as [(String, Int64)])
    func offsetsAreSubtracted(text: String, microseconds: Int64) throws {
        #expect(try decoded(text, .timestamptz, as: PostgresTimestamp.self).microseconds == microseconds)
    }

    @Test(arguments: [
        "", "now", "Infinity", "2000-01-01", "2000-01-01 00:00", "2000-01-01T00:00:00+00", "2000-1-01 00:00:00+00",
        "2000-13-01 00:00:00+00", "2000-00-01 00:00:00+00", "2000-01-32 00:00:00+00", "2000-01-00 00:00:00+00",
        "1900-02-29 00:00:00+00", "2001-02-29 00:00:00+00", "2000-04-31 00:00:00+00", "4712-02-29 00:00:00+00 BC",
        "2000-01-01 24:00:00+00", "2000-01-01 00:60:00+00", "2000-01-01 00:00:60+00", "2000-01-01 00:00:00",
        "2000-01-01 00:00:00+", "2000-01-01 00:00:00+1", "2000-01-01 00:00:00+24", "2000-01-01 00:00:00+00:60",
        "2000-01-01 00:00:00+00:00:00:00", "2000-01-01 00:00:00.+00", "2000-01-01 00:00:00.1234567+00",
        "2000-01-01 00:00:00+00 BCE", "2000-01-01 00:00:00+00 AD", "2000-01-01 00:00:00+00 ", "0000-01-01 00:00:00+00",
        "294277-01-01 00:00:00+00", "294276-12-31 23:59:59.999999-00:00:01", "4714-11-23 23:59:59.999999+00 BC",
        "4714-11-24 00:00:00+00:00:01 BC", "999999-12-31 23:59:59+00", "1000000-01-01 00:00:00+00",
        "99999999999999999999-01-01 00:00:00+00", "Sat Jan 01 00:00:00 2000 UTC", "01/01/2000 00:00:00 UTC",
    ])
    func otherTextsAreRefused(text: String) {
        #expect(refusal(text, .timestamptz, as: PostgresTimestamp.self) == .cannotDecode)
        #expect(PostgresTimestamp(text) == nil)
    }

    @Test(arguments: [
        ("Sat Jan 01 00:00:00 2000 UTC", "Postgres"), ("01/02/2000 00:00:00 UTC", "SQL"),
        ("02.01.2000 00:00:00 UTC", "German"), ("2000-01-01 00:00", nil), ("2000-13-01 00:00:00+00", nil),
        ("02.01.2000", nil), ("Say what, and when?", nil), ("", nil),
    ])
    func theErrorSaysWhichDateStyleTheServerWritesIn(text: String, style: String?) throws {
        var error: PostgresError?
        do throws(PostgresError) {
            _ = try decoded(text, .timestamptz, as: PostgresTimestamp.self)
        } catch let thrown {
            error = thrown
        }
        #expect(error?.code == .cannotDecode)
        #expect(error?.hint?.contains("SET DateStyle = 'ISO'") == (style == nil ? nil : true))
        if let style { #expect(error?.message.contains("DateStyle is \(style), not ISO") == true) }
    }

    @Test func aLocalTimestampHasNoOffset() {
        let text = "2000-01-01 00:00:00+00"
        #expect(refusal(text, .timestamp, as: PostgresLocalTimestamp.self) == .cannotDecode)
    }

    @Test func whatTheServerCannotHoldIsNotSent() throws {
        for edge in [PostgresTimestamp.earliest, .latest] { #expect(try roundTrip(edge) == edge) }
        for microseconds in [PostgresTimestamp.earliest.microseconds - 1, PostgresTimestamp.latest.microseconds + 1] {
            #expect(refusal(of: PostgresTimestamp(microseconds: microseconds)) == .invalidArgument)
            #expect(refusal(of: PostgresLocalTimestamp(microseconds: microseconds)) == .invalidArgument)
        }
    }

    @Test func unixMicrosecondsAreChecked() {
        #expect(PostgresTimestamp(unixMicroseconds: 0)?.microseconds == -946_684_800_000_000)
        #expect(PostgresTimestamp(microseconds: 0).unixMicroseconds == 946_684_800_000_000)
        #expect(PostgresTimestamp(unixMicroseconds: .min) == nil)
        #expect(PostgresTimestamp(unixMicroseconds: .max) == .init(microseconds: .max - 946_684_800_000_000))
        #expect(PostgresTimestamp.infinity.unixMicroseconds == nil)
        #expect(PostgresTimestamp.negativeInfinity.unixMicroseconds == nil)
        #expect(PostgresTimestamp.latest.unixMicroseconds == nil)
        #expect(PostgresTimestamp.now() > PostgresTimestamp(microseconds: 0))
    }

    @Test func aWrongTypeOrLengthIsRefused() {
        let zeros = [UInt8](repeating: 0, count: 8)
        #expect(refusal(zeros, .timestamp, .binary, as: PostgresTimestamp.self) == .typeMismatch)
        #expect(refusal(zeros, .timestamptz, .binary, as: PostgresLocalTimestamp.self) == .typeMismatch)
        for count in [0, 4, 7, 9] {
            let bytes = [UInt8](repeating: 0, count: count)
            #expect(refusal(bytes, .timestamptz, .binary, as: PostgresTimestamp.self) == .cannotDecode)
        }
    }

    @Test func everyPatternOfBitsHasADescription() {
        for microseconds in [Int64.min + 1, Int64.max - 1, PostgresTimestamp.latest.microseconds + 1] {
            #expect(!PostgresTimestamp(microseconds: microseconds).description.isEmpty)
        }
    }

    @Test func textAndBinaryAgree() throws {
        var generator = SeededGenerator(seed: 4)
        let all = PostgresTimestamp.earliest.microseconds...PostgresTimestamp.latest.microseconds
        let near = Int64(-1_000_000_000_000_000)...1_000_000_000_000_000
        for index in 0..<4000 {
            let microseconds = Int64.random(in: index % 2 == 0 ? near : all, using: &generator)
            let time = PostgresTimestamp(microseconds: microseconds)
            #expect(try decoded(time.description, .timestamptz, as: PostgresTimestamp.self) == time)
            #expect(try roundTrip(time) == time)
            let local = PostgresLocalTimestamp(microseconds: microseconds)
            #expect(PostgresLocalTimestamp(local.description) == local)
        }
    }
}
