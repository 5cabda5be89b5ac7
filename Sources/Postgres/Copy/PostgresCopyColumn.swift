import PostgresProtocol

/// A column of a typed COPY, and what is written into its cells.
public struct PostgresCopyColumn: Sendable, Hashable {
    /// The column's name in the table, without quotes.
    public var name: String
    /// The type of the values: ``PostgresEncodable/postgresType``.
    public var type: PostgresType
    /// The form of the values: ``PostgresEncodable/postgresFormat``.
    public var format: PostgresFormat

    public init(_ name: String, type: PostgresType, format: PostgresFormat = .binary) {
        self.name = name
        self.type = type
        self.format = format
    }
}

/// Binary COPY converts nothing, and says so only when the length of a value is wrong: four letters put into an integer are a
/// number. So the types are compared before anything is sent.
struct CopyColumnCheck {
    /// Columns for whose types only the catalog can say whether text is their binary form too.
    private(set) var textColumns: [(column: PostgresCopyColumn, type: UInt32)] = []

    init(_ columns: [PostgresCopyColumn], _ description: StatementDescription) throws(PostgresError) {
        let found = description.rowDescription?.columns ?? []
        guard found.count == columns.count else {
            throw PostgresError(
                code: .columnCount, message: "\(columns.count) columns are written, the table has \(found.count)")
        }
        for (column, described) in zip(columns, found) {
            if column.format == .text {
                if !CopyColumnCheck.isText(described.typeOID) { textColumns.append((column, described.typeOID)) }
            } else if column.type.oid != described.typeOID {
                throw CopyColumnCheck.mismatch(column, described.typeOID)
            }
        }
    }

    /// Those of `textColumns`' types whose binary form is their text, such as enums.
    var catalogQuery: PostgresQuery {
        let types = textColumns.map { $0.type }
        return """
            SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_proc p ON p.oid = t.typreceive \
            WHERE t.oid = ANY(\(types)) AND p.proname IN ('textrecv', 'enum_recv', 'citextrecv')
            """
    }

    func check(textTypes: [UInt32]) throws(PostgresError) {
        for (column, type) in textColumns where !textTypes.contains(type) {
            throw CopyColumnCheck.mismatch(column, type)
        }
    }

    private static func isText(_ oid: UInt32) -> Bool {
        switch oid {
        case PostgresType.text.oid, PostgresType.varchar.oid, PostgresType.bpchar.oid, PostgresType.name.oid,
            PostgresType.json.oid, PostgresType.xml.oid:
            true
        default: false
        }
    }

    private static func mismatch(_ column: PostgresCopyColumn, _ type: UInt32) -> PostgresError {
        let given = column.format == .text ? "text" : "values of type \(column.type.oid)"
        let hint =
            switch type {
            case PostgresType.int2.oid: "pass Int16"
            case PostgresType.int4.oid: "pass Int32"
            case PostgresType.int8.oid: "pass Int"
            case PostgresType.float4.oid: "pass Float"
            case PostgresType.float8.oid: "pass Double"
            case PostgresType.jsonb.oid: "pass PostgresJSON or PostgresJSONText"
            case PostgresType.timestamp.oid: "pass PostgresLocalTimestamp"
            default: "pass the column's own type, or copy text or CSV"
            }
        return PostgresError(
            code: .typeMismatch,
            message: "column \"\(column.name)\" has type \(type), and is given \(given): a typed COPY converts nothing",
            hint: hint)
    }
}
