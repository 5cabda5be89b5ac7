/// A value that is read where it lies.
///
/// Reading a `String` through a pointer copies it, and a copy counts references, which costs more than the bytes of a short text.
/// What cannot be copied is borrowed instead. A struct of one field has the layout of that field, so memory that holds a `Value`
/// may be read as one of these; its holder must keep it, as with any pointer. (`BorrowedLayoutTests` checks the layout.)
@usableFromInline
package struct BorrowedValue<Value>: ~Copyable {
    @usableFromInline package let value: Value

    @inlinable @inline(__always)
    package init(_ value: consuming Value) { self.value = value }
}

extension BorrowedValue {
    @inlinable @inline(__always)
    package borrowing func pass<Result>(
        to body: (Value) throws(PostgresError) -> Result
    ) throws(PostgresError) -> Result { try body(value) }
}

extension BorrowedValue where Value: PostgresEncodable {
    @inlinable @inline(__always)
    package borrowing func writeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        try value.encodeCell(into: &encoder)
    }

    /// As ``PostgresEncoder/appendParameter(_:)``; `locate` makes the error say where the value stood.
    @inlinable @inline(__always)
    package borrowing func appendParameter(
        to encoder: inout PostgresEncoder, _ locate: (PostgresError) -> PostgresError
    ) {
        encoder.beginParameter(Value.postgresType, Value.postgresFormat)
        do { try writeCell(into: &encoder) } catch { encoder.fail(locate(error)) }
    }
}
