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
        let target = column.declaredType ?? (column.format == .text ? builtInTypeName(column.type.oid) : nil)
        // An array of a type that is itself an array does not exist; its `arrayOID` is 0 also when it travels as text.
        arrayOID = column.type.arrayOID == 0 ? 0 : type.arrayOID
        elementOID = type.oid
        casts = (name.map { "::\($0)[]" } ?? "") + (target == nil || target == name ? "" : "::\(target ?? "")[]")
    }
}

/// The names of the types that have codecs; others need no cast, as their OID is declared with the parameter.
private func builtInTypeName(_ oid: UInt32) -> String? {
    switch oid {
    case PostgresType.bool.oid: "bool"
    case PostgresType.bytea.oid: "bytea"
    case PostgresType.name.oid: "name"
    case PostgresType.int8.oid: "int8"
    case PostgresType.int2.oid: "int2"
    case PostgresType.int4.oid: "int4"
    case PostgresType.text.oid: "text"
    case PostgresType.oid.oid: "oid"
    case PostgresType.json.oid: "json"
    case PostgresType.float4.oid: "float4"
    case PostgresType.float8.oid: "float8"
    case PostgresType.bpchar.oid: "bpchar"
    case PostgresType.varchar.oid: "varchar"
    case PostgresType.date.oid: "date"
    case PostgresType.time.oid: "time"
    case PostgresType.timestamp.oid: "timestamp"
    case PostgresType.timestamptz.oid: "timestamptz"
    case PostgresType.interval.oid: "interval"
    case PostgresType.numeric.oid: "numeric"
    case PostgresType.uuid.oid: "uuid"
    case PostgresType.jsonb.oid: "jsonb"
    default: nil
    }
}
