/// Which built-in type is an array of what: a value in text form does not say what its elements are
/// (src/include/catalog/pg_type.dat, `array_type_oid`; these OIDs never change).
enum ArrayTypes {
    /// OIDs from here on are given out by `initdb` or later, so they say nothing about the type.
    static let firstUnknownOID: UInt32 = 10_000

    /// The OID of the elements; 0 when only the server knows it, nil when the type is no array.
    static func element(of oid: UInt32) -> UInt32? {
        if oid >= firstUnknownOID { return 0 }
        return switch oid {
        case 143: 142
        case 199: 114
        case 271: 5069
        case 629: 628
        case 651: 650
        case 719: 718
        case 775: 774
        case 791: 790
        case 1000: 16
        case 1001: 17
        case 1002: 18
        case 1003: 19
        case 1005: 21
        case 1006: 22
        case 1007: 23
        case 1008: 24
        case 1009: 25
        case 1010: 27
        case 1011: 28
        case 1012: 29
        case 1013: 30
        case 1014: 1042
        case 1015: 1043
        case 1016: 20
        case 1017: 600
        case 1018: 601
        case 1019: 602
        case 1020: 603
        case 1021: 700
        case 1022: 701
        case 1027: 604
        case 1028: 26
        case 1034: 1033
        case 1040: 829
        case 1041: 869
        case 1115: 1114
        case 1182: 1082
        case 1183: 1083
        case 1185: 1184
        case 1187: 1186
        case 1231: 1700
        case 1263: 2275
        case 1270: 1266
        case 1561: 1560
        case 1563: 1562
        case 2201: 1790
        case 2207: 2202
        case 2208: 2203
        case 2209: 2204
        case 2210: 2205
        case 2211: 2206
        case 2287: 2249
        case 2949: 2970
        case 2951: 2950
        case 3221: 3220
        case 3643: 3614
        case 3644: 3642
        case 3645: 3615
        case 3735: 3734
        case 3770: 3769
        case 3807: 3802
        case 3905: 3904
        case 3907: 3906
        case 3909: 3908
        case 3911: 3910
        case 3913: 3912
        case 3927: 3926
        case 4073: 4072
        case 4090: 4089
        case 4097: 4096
        case 4192: 4191
        case 5039: 5038
        case 6150: 4451
        case 6151: 4532
        case 6152: 4533
        case 6153: 4534
        case 6155: 4535
        case 6157: 4536
        default: nil
        }
    }

    /// What stands between two elements in text form; `box` is the one type that needs commas itself.
    static func delimiter(of oid: UInt32) -> UInt8 { oid == 1020 ? UInt8(ascii: ";") : UInt8(ascii: ",") }
}
