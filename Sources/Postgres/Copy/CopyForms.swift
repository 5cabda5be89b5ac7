/// What the columns of a typed COPY are called and hold, collected one by one.
@usableFromInline
struct CopyForms {
    /// Rows are sent in pieces of about this size.
    @inlinable static var blockSize: Int { 65_536 }
    /// Rows of a sequence that are encoded together.
    @inlinable static var gatheredRows: Int { 64 }

    @usableFromInline let names: [String]
    @usableFromInline var forms: [(type: PostgresType, format: PostgresFormat)] = []

    @inlinable init(_ names: [String]) { self.names = names }

    @inlinable
    mutating func add<Value: PostgresEncodable>(_: Value.Type) {
        forms.append((Value.postgresType, Value.postgresFormat))
    }

    @usableFromInline
    func columns() throws(PostgresError) -> [PostgresCopyColumn] {
        guard names.count == forms.count, !names.isEmpty else {
            throw PostgresError(
                code: .columnCount,
                message: "\(names.count) columns are named, and the rows have \(forms.count) values",
                hint: "name a column for each element of the tuple")
        }
        return zip(names, forms).map { PostgresCopyColumn($0, type: $1.type, format: $1.format) }
    }

    /// Rows before it may have been sent; the server gives them up with the rest.
    @usableFromInline @inline(never)
    static func locate(_ error: PostgresError, _ row: Int) -> PostgresError {
        error.with(outcome: .rejected, message: "row \(row): \(error.message)")
    }

    @usableFromInline @inline(never)
    static func changed() -> PostgresError {
        PostgresError(
            code: .invalidArgument, message: "the sequence of rows changed while it was copied", outcome: .rejected,
            hint: "copy an array")
    }

    /// Signature, flags, and a header extension of no length (manual, "COPY", "Binary Format").
    static func writeHeader(into encoder: inout PostgresEncoder) {
        encoder.write([0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00])
        encoder.write(Int64(0))
    }
}

extension PostgresEncoder {
    /// A row of a binary COPY: the number of columns, and a cell each.
    @inlinable @inline(__always)
    public mutating func writeRow<each Column: PostgresEncodable>(
        _ values: repeat each Column
    ) throws(PostgresError) {
        var count: Int16 = 0
        for _ in repeat (each Column).self { count &+= 1 }
        write(count)
        repeat try writeCell(each values)
    }
}

/// Where the rows of an asynchronous sequence are gathered.
@usableFromInline
final class CopyRowWriter {
    @usableFromInline var encoder: PostgresEncoder
    private let core: ConnectionCore
    private let stream: RowStream
    private let lease: Int

    init(_ core: ConnectionCore, _ stream: RowStream, _ lease: Int) {
        self.core = core
        self.stream = stream
        self.lease = lease
        encoder = PostgresEncoder(capacity: CopyForms.blockSize &+ 4096)
        CopyForms.writeHeader(into: &encoder)
    }

    @usableFromInline
    func flush() async throws(PostgresError) {
        try await core.writeCopyData(stream, encoder, as: lease)
        encoder.removeAll()
    }
}
