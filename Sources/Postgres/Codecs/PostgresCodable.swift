/// A Swift type that can be a parameter. To add one: give its `postgresType`, and write its bytes in `encode`.
///
/// `encode` runs in the caller, when the query is made, never under a lock or on the event loop.
public protocol PostgresEncodable: SendableMetatype {
    /// The parameter's type as declared to the server.
    static var postgresType: PostgresType { get }
    /// The form that `encode` writes; `.binary` unless a type says otherwise.
    static var postgresFormat: PostgresFormat { get }
    /// Writes the value's bytes, without a length: the encoder counts them.
    func encode(into encoder: inout PostgresEncoder) throws(PostgresError)
    /// Writes a length and the value's bytes, or length -1 for NULL. By default that is done around `encode`; a type whose
    /// length is known beforehand saves a few instructions by writing both at once.
    func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError)
}

extension PostgresEncodable {
    @inlinable public static var postgresFormat: PostgresFormat { .binary }

    @inlinable
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        try encoder.writeMeasuredCell(self)
    }
}

/// A Swift type that a column can be read as, in both forms: a script's results always come as text.
public protocol PostgresDecodable: SendableMetatype {
    /// The form to ask for when a column is wanted as this type; `.binary` unless a type says otherwise.
    static var postgresResultFormat: PostgresFormat { get }
    /// Reads a value.
    ///
    /// - Parameters:
    ///   - value: the bytes; valid during the call only.
    ///   - type: the column's type, of which only `oid` is known.
    ///   - format: how the bytes are to be read.
    init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError)
    /// What NULL reads as; throws `unexpectedNull` unless the type is an Optional.
    static func decodeNull() throws(PostgresError) -> Self
}

extension PostgresDecodable {
    @inlinable public static var postgresResultFormat: PostgresFormat { .binary }

    public static func decodeNull() throws(PostgresError) -> Self {
        throw PostgresError(
            code: .unexpectedNull, message: "NULL in a column read as \(Self.self)", outcome: .succeeded,
            hint: "read it as \(Self.self)?")
    }
}

/// What can be a parameter and be read from a column.
public typealias PostgresCodable = PostgresDecodable & PostgresEncodable

extension Optional: PostgresEncodable where Wrapped: PostgresEncodable {
    @inlinable public static var postgresType: PostgresType { Wrapped.postgresType }
    @inlinable public static var postgresFormat: PostgresFormat { Wrapped.postgresFormat }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        if let self { try self.encode(into: &encoder) } else { encoder.writeNull() }
    }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        if let self { try self.encodeCell(into: &encoder) } else { encoder.write(Int32(-1)) }
    }
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
    @inlinable public static var postgresResultFormat: PostgresFormat { Wrapped.postgresResultFormat }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        self = try Wrapped(postgres: value, type: type, format: format)
    }

    @inlinable public static func decodeNull() throws(PostgresError) -> Self { nil }
}

extension PostgresError {
    /// Bytes that are not a value of `type`.
    @usableFromInline @inline(never)
    package static func cannotDecode<T>(_ swiftType: T.Type, from type: PostgresType, _ why: String) -> PostgresError {
        PostgresError(
            code: .cannotDecode, message: "cannot read type \(type.oid) as \(T.self): \(why)", outcome: .succeeded)
    }

    /// A column type that `swiftType` is not read from.
    @usableFromInline @inline(never)
    package static func typeMismatch<T>(_ swiftType: T.Type, _ type: PostgresType, _ format: PostgresFormat)
        -> PostgresError
    {
        PostgresError(
            code: .typeMismatch, message: "a column of type \(type.oid) (\(format) form) cannot be read as \(T.self)",
            outcome: .succeeded, hint: "read it as String, or cast it in the SQL")
    }
}
