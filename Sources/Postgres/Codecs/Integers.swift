// Every Swift integer reads int2, int4, int8 and oid, and refuses a value that it cannot hold. The first test in each `init`
// is the usual case, a binary value of the type itself; all else is out of line.

extension Int: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .int8 }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(Int64(self)) }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: Int64(self))
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary {
            if type.oid == 20, let number = value.integer(Int64.self) {
                self.init(truncatingIfNeeded: number)  // the same width
                return
            }
            if type.oid == 23, let number = value.integer(Int32.self) {
                self.init(number)
                return
            }
        }
        try self.init(integerCell: value, type: type, format: format)
    }
}

extension Int64: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .int8 }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(self) }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: self)
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 20, let number = value.integer(Int64.self) {
            self = number
        } else {
            try self.init(integerCell: value, type: type, format: format)
        }
    }
}

extension Int32: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .int4 }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(self) }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: self)
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 23, let number = value.integer(Int32.self) {
            self = number
        } else {
            try self.init(integerCell: value, type: type, format: format)
        }
    }
}

extension Int16: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .int2 }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(self) }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: self)
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 21, let number = value.integer(Int16.self) {
            self = number
        } else {
            try self.init(integerCell: value, type: type, format: format)
        }
    }
}

/// An object identifier: the server's `oid` is unsigned.
extension UInt32: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .oid }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(self) }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: self)
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 26, let number = value.integer(UInt32.self) {
            self = number
        } else {
            try self.init(integerCell: value, type: type, format: format)
        }
    }
}

extension FixedWidthInteger {
    @inlinable
    init(integerCell value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        let wide = try IntegerCell.read(value, type, format, as: Self.self)
        guard let number = Self(exactly: wide) else { throw IntegerCell.outOfRange(type, Self.self) }
        self = number
    }
}

@usableFromInline
enum IntegerCell {
    /// Any of the server's integers; `Int64` holds them all.
    @usableFromInline @inline(never)
    static func read<T>(
        _ value: RawSpan, _ type: PostgresType, _ format: PostgresFormat, as swiftType: T.Type
    ) throws(PostgresError) -> Int64 {
        let number: Int64?
        switch (type.oid, format) {
        case (20, .binary): number = value.integer(Int64.self)
        case (21, .binary): number = value.integer(Int16.self).map { Int64($0) }
        case (23, .binary): number = value.integer(Int32.self).map { Int64($0) }
        case (26, .binary): number = value.integer(UInt32.self).map { Int64($0) }
        case (20, .text), (21, .text), (23, .text), (26, .text): number = parse(value)
        default: throw .typeMismatch(swiftType, type, format)
        }
        guard let number else {
            throw .cannotDecode(
                swiftType, from: type, "\(value.byteCount) bytes that are not an integer in \(format) form")
        }
        return number
    }

    @usableFromInline @inline(never)
    static func outOfRange<T>(_ type: PostgresType, _ swiftType: T.Type) -> PostgresError {
        .cannotDecode(swiftType, from: type, "the value is out of range")
    }

    /// An optional minus sign and decimal digits, nothing else; nil also if it does not fit.
    static func parse(_ text: RawSpan) -> Int64? {
        text.withUnsafeBytes { bytes in
            let isNegative = bytes.first == UInt8(ascii: "-")
            let digits = isNegative ? bytes.dropFirst() : bytes[...]
            // 19 digits cannot overflow UInt64.
            guard (1...19).contains(digits.count) else { return nil }
            var magnitude: UInt64 = 0
            for byte in digits {
                let digit = byte &- UInt8(ascii: "0")
                guard digit <= 9 else { return nil }
                magnitude = magnitude &* 10 &+ UInt64(digit)
            }
            if isNegative {
                guard magnitude <= Int64.min.magnitude else { return nil }
                return Int64(truncatingIfNeeded: 0 &- magnitude)
            }
            return Int64(exactly: magnitude)
        }
    }
}
