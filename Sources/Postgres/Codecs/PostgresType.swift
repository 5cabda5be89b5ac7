/// A data type of the server, by object identifier.
public struct PostgresType: Hashable, Sendable {
    /// The type's OID; 0 leaves the choice to the server.
    public let oid: UInt32
    /// The OID of the array over it; 0 when there is none.
    public let arrayOID: UInt32
    /// The OID that stands in the header of a binary array of it.
    @usableFromInline package let elementOID: UInt32

    /// A type that is not built in, such as an enum of your own: its OIDs are in `pg_type` and differ between
    /// databases.
    @inlinable
    public init(oid: UInt32, arrayOID: UInt32 = 0) {
        self.oid = oid
        self.arrayOID = arrayOID
        self.elementOID = oid
    }

    @inlinable
    init(oid: UInt32, arrayOID: UInt32, elementOID: UInt32) {
        self.oid = oid
        self.arrayOID = arrayOID
        self.elementOID = elementOID
    }
}

// OIDs of built-in types never change (src/include/catalog/pg_type.dat).
extension PostgresType {
    /// The server infers the type from the statement: so a `String` goes into text, enum, json, uuid, date or a domain. An
    /// array of such values is `text[]`.
    @inlinable public static var unspecified: Self { Self(oid: 0, arrayOID: 1009, elementOID: 25) }
    @inlinable public static var bool: Self { Self(oid: 16, arrayOID: 1000) }
    @inlinable public static var bytea: Self { Self(oid: 17, arrayOID: 1001) }
    @inlinable public static var char: Self { Self(oid: 18, arrayOID: 1002) }
    @inlinable public static var name: Self { Self(oid: 19, arrayOID: 1003) }
    @inlinable public static var int8: Self { Self(oid: 20, arrayOID: 1016) }
    @inlinable public static var int2: Self { Self(oid: 21, arrayOID: 1005) }
    @inlinable public static var int4: Self { Self(oid: 23, arrayOID: 1007) }
    @inlinable public static var text: Self { Self(oid: 25, arrayOID: 1009) }
    @inlinable public static var oid: Self { Self(oid: 26, arrayOID: 1028) }
    @inlinable public static var json: Self { Self(oid: 114, arrayOID: 199) }
    @inlinable public static var xml: Self { Self(oid: 142, arrayOID: 143) }
    @inlinable public static var float4: Self { Self(oid: 700, arrayOID: 1021) }
    @inlinable public static var float8: Self { Self(oid: 701, arrayOID: 1022) }
    @inlinable public static var unknown: Self { Self(oid: 705) }
    @inlinable public static var bpchar: Self { Self(oid: 1042, arrayOID: 1014) }
    @inlinable public static var varchar: Self { Self(oid: 1043, arrayOID: 1015) }
    @inlinable public static var date: Self { Self(oid: 1082, arrayOID: 1182) }
    @inlinable public static var time: Self { Self(oid: 1083, arrayOID: 1183) }
    @inlinable public static var timestamp: Self { Self(oid: 1114, arrayOID: 1115) }
    @inlinable public static var timestamptz: Self { Self(oid: 1184, arrayOID: 1185) }
    @inlinable public static var interval: Self { Self(oid: 1186, arrayOID: 1187) }
    @inlinable public static var numeric: Self { Self(oid: 1700, arrayOID: 1231) }
    @inlinable public static var uuid: Self { Self(oid: 2950, arrayOID: 2951) }
    @inlinable public static var jsonb: Self { Self(oid: 3802, arrayOID: 3807) }
}

/// How a value travels: as text, or in the type's binary form (manual, "Formats and Format Codes").
public enum PostgresFormat: UInt8, Sendable, Hashable {
    case text = 0
    case binary = 1
}
