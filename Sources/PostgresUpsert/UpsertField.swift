public import Postgres

/// A property of which some rows have no value to send: not the same as NULL, which is a value.
///
/// ```swift
/// struct Profile: PostgresTable {
///     var id: Int, name: UpsertField<String?>
///     ...
/// }
/// try await db.upsert([Profile(id: 1, name: .value(nil)), Profile(id: 2, name: .absent)])
/// // the name of 1 becomes NULL, that of 2 stays as it is, or gets the column's default if the row is inserted
/// ```
/// Rows of a batch that send different columns travel in statements of their own, which take effect together.
public enum UpsertField<Value> {
    /// The column's default on insert; the stored value stays on update, whatever the upsert sets it to otherwise.
    case absent
    case value(Value)

    /// The value; nil when absent.
    public var value: Value? {
        if case .value(let value) = self { value } else { nil }
    }
}

extension UpsertField: Sendable where Value: Sendable {}
extension UpsertField: Equatable where Value: Equatable {}
extension UpsertField: Hashable where Value: Hashable {}

extension UpsertField: PostgresEncodable where Value: PostgresEncodable {
    public static var postgresType: PostgresType { Value.postgresType }
    public static var postgresFormat: PostgresFormat { Value.postgresFormat }

    /// An absent value cannot be sent by itself.
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        guard case .value(let value) = self else {
            throw .upsert("an absent value can be upserted only", hint: ".value(...)")
        }
        try value.encode(into: &encoder)
    }
}

extension UpsertField: PostgresDecodable where Value: PostgresDecodable {
    public static var postgresResultFormat: PostgresFormat { Value.postgresResultFormat }

    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        self = .value(try Value(postgres: value, type: type, format: format))
    }

    public static func decodeNull() throws(PostgresError) -> Self { .value(try Value.decodeNull()) }
}

private protocol Absentable {
    var isAbsent: Bool { get }
}

extension UpsertField: Absentable {
    fileprivate var isAbsent: Bool {
        if case .absent = self { true } else { false }
    }
}

/// Whether a row has no value for a property; nil when each has.
@usableFromInline
func absenceTest<Row, Value>(
    _ path: any KeyPath<Row, Value> & Sendable
) -> (@Sendable (UnsafePointer<Row>) -> Bool)? {
    guard Value.self is any Absentable.Type else { return nil }
    return { row in (row.pointee[keyPath: path] as? any Absentable)?.isAbsent ?? false }
}
