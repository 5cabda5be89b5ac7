@usableFromInline
enum ArrayCell {
    /// The head of a binary array of at most one dimension, checked against the number of bytes that follow.
    @usableFromInline
    struct Header {
        @usableFromInline let elementOID: UInt32
        @usableFromInline let count: Int
        /// Where the first element begins.
        @usableFromInline let byteCount: Int

        @usableFromInline @inline(never)
        init<T>(_ value: RawSpan, _ type: PostgresType, as swiftType: T.Type) throws(PostgresError) {
            // Else the bytes of an int4 or a text would be taken for a header.
            guard ArrayTypes.element(of: type.oid) != nil else { throw .typeMismatch(swiftType, type, .binary) }
            guard
                let dimensions = value.integer(Int32.self, at: 0),
                let flags = value.integer(Int32.self, at: 4), flags == 0 || flags == 1,
                let elementOID = value.integer(UInt32.self, at: 8)
            else { throw malformed(swiftType, type) }
            self.elementOID = elementOID
            switch dimensions {
            case 0:
                count = 0
                byteCount = 12
            case 1:
                guard
                    let length = value.integer(Int32.self, at: 12), value.byteCount >= 20,
                    length >= 0, Int(length) <= (value.byteCount &- 20) / 4
                else { throw malformed(swiftType, type) }
                count = Int(length)
                byteCount = 20
            case 2...6: throw ArrayCell.dimensions(swiftType, type)
            default: throw malformed(swiftType, type)
            }
        }
    }

    /// Types whose binary form is their text, so that a value of text format can be an element of a binary array.
    @usableFromInline
    static func isText(_ oid: UInt32) -> Bool {
        switch oid {
        case PostgresType.text.oid, PostgresType.varchar.oid, PostgresType.bpchar.oid, PostgresType.name.oid,
            PostgresType.json.oid, PostgresType.xml.oid:
            true
        default: false
        }
    }

    @usableFromInline @inline(never)
    static func noArray<T>(_ element: T.Type) -> PostgresError {
        PostgresError(
            code: .invalidArgument,
            message: "there is no array type over \(T.self): only arrays of one dimension are sent",
            hint: "give its postgresType an arrayOID, or send text and cast it in the SQL")
    }

    @usableFromInline @inline(never)
    static func noBinaryForm<T>(_ element: T.Type) -> PostgresError {
        PostgresError(
            code: .invalidArgument, message: "\(T.self) is sent as text, and cannot be an element of a binary array")
    }

    @usableFromInline @inline(never)
    static func tooLong(_ count: Int) -> PostgresError {
        PostgresError(code: .invalidArgument, message: "\(count) elements are more than an array can have")
    }

    @usableFromInline @inline(never)
    static func malformed<T>(_ swiftType: T.Type, _ type: PostgresType) -> PostgresError {
        .cannotDecode(swiftType, from: type, "the bytes are not an array")
    }

    @usableFromInline @inline(never)
    static func dimensions<T>(_ swiftType: T.Type, _ type: PostgresType) -> PostgresError {
        PostgresError.cannotDecode(swiftType, from: type, "the array has more than one dimension")
            .with(hint: "read it as String, or take it apart in the SQL with unnest")
    }

    /// The same error, with the element's number from 0.
    @usableFromInline @inline(never)
    static func locate(_ error: PostgresError, _ index: Int) -> PostgresError {
        error.with(message: "element \(index): \(error.message)")
    }
}
