import Postgres

/// How the values of a column travel as one array (manual, "Arrays"; src/backend/utils/adt/arrayfuncs.c, array_recv).
struct ArrayElement: Sendable {
    /// The parameter's type; 0 when there is no array of the column's type.
    let arrayOID: UInt32
    /// What the array's own header says.
    let elementOID: UInt32
    /// `::text[]::jsonb[]`
    let casts: String

    init<Row>(_ column: Column<Row>) {
        // A type without an OID is inferred where it stands alone; inside an array it is text. A binary array cannot hold
        // values in text form unless they are text.
        let isText = column.format == .text || column.type.oid == 0
        let type = isText ? PostgresType.text : column.type
        let name = builtInTypeName(type.oid)
        let target = column.castType ?? (column.format == .text ? builtInTypeName(column.type.oid) : nil)
        // An array of a type that is itself an array does not exist; its `arrayOID` is 0 also when it travels as text.
        arrayOID = column.type.arrayOID == 0 ? 0 : type.arrayOID
        elementOID = type.oid
        casts = (name.map { "::\($0)[]" } ?? "") + (target == nil || target == name ? "" : "::\(target ?? "")[]")
    }
}

private let builtInTypes: [(type: PostgresType, name: String)] = [
    (.bool, "bool"), (.bytea, "bytea"), (.name, "name"), (.int8, "int8"), (.int2, "int2"), (.int4, "int4"),
    (.text, "text"), (.oid, "oid"), (.json, "json"), (.float4, "float4"), (.float8, "float8"), (.bpchar, "bpchar"),
    (.varchar, "varchar"), (.date, "date"), (.time, "time"), (.timestamp, "timestamp"), (.timestamptz, "timestamptz"),
    (.interval, "interval"), (.numeric, "numeric"), (.uuid, "uuid"), (.jsonb, "jsonb"),
]

/// The names of the types that have codecs; others need no cast, as their OID is declared with the parameter.
func builtInTypeName(_ oid: UInt32) -> String? { builtInTypes.first { $0.type.oid == oid }?.name }

/// The name of an array's elements.
func builtInElementName(ofArray oid: UInt32) -> String? { builtInTypes.first { $0.type.arrayOID == oid }?.name }
