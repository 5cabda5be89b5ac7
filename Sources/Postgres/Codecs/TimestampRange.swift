@usableFromInline
enum TimestampRange {
    // MIN_TIMESTAMP and END_TIMESTAMP of src/include/datatype/timestamp.h.
    @usableFromInline static var first: Int64 { -211_813_488_000_000_000 }
    @usableFromInline static var last: Int64 { 9_223_371_331_199_999_999 }
    /// From 1970-01-01 to 2000-01-01.
    static var unixEpochOffset: Int64 { 946_684_800_000_000 }

    @inlinable static func contains(_ microseconds: Int64) -> Bool { microseconds >= first && microseconds <= last }

    @usableFromInline @inline(never)
    static func outside<T>(_ type: T.Type) -> PostgresError {
        PostgresError(code: .invalidArgument, message: "a \(T.self) outside the server's range, 4714 BC to 294276 AD")
    }

    /// What is not a binary value of the right length.
    @usableFromInline @inline(never)
    static func read<T>(
        _ value: RawSpan, _ type: PostgresType, _ format: PostgresFormat, expecting expected: PostgresType, as: T.Type
    ) throws(PostgresError) -> Int64 {
        guard type.oid == expected.oid else { throw .typeMismatch(T.self, type, format) }
        guard format == .text else {
            throw .cannotDecode(T.self, from: type, "\(value.byteCount) bytes instead of 8")
        }
        let hasZone = expected.oid == PostgresType.timestamptz.oid
        guard let number = value.withUnsafeBytes({ TimestampText.parse($0, hasZone: hasZone) }) else {
            let style = value.withUnsafeBytes { TimestampText.foreignStyle($0) }
            guard let style else {
                throw .cannotDecode(T.self, from: type, "not a time of the server's range as DateStyle ISO writes it")
            }
            throw PostgresError.cannotDecode(T.self, from: type, "the session's DateStyle is \(style), not ISO").with(
                hint:
                    "SET DateStyle = 'ISO', as it was when the session began, or name the type in the query (`as:`): then the time comes in binary form"
            )
        }
        return number
    }
}
