// One-dimensional arrays (manual, "Arrays"; binary form: src/backend/utils/adt/arrayfuncs.c, `array_recv`): number of
// dimensions, a flag for NULLs, the OID of the elements, then length and lower bound of each dimension, then the elements with
// a length word each. An empty array has no dimension.
//
// Swift's indices begin at 0, so a lower bound other than 1 is read, and lost.

extension Array: PostgresEncodable where Element: PostgresEncodable {
    @inlinable public static var postgresType: PostgresType { PostgresType(oid: Element.postgresType.arrayOID) }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        let element = Element.postgresType
        // The server has one array type over all dimensions of a type, so an array has no array type itself.
        guard element.arrayOID != 0, element.elementOID != 0 else { throw ArrayCell.noArray(Element.self) }
        guard Element.postgresFormat == .binary || ArrayCell.isText(element.elementOID) else {
            throw ArrayCell.noBinaryForm(Element.self)
        }
        guard let length = Int32(exactly: count) else { throw ArrayCell.tooLong(count) }
        encoder.write(Int32(isEmpty ? 0 : 1))
        let flag = encoder.bytes
        encoder.write(Int32(0))
        encoder.write(element.elementOID)
        if isEmpty { return }
        encoder.write(length)
        encoder.write(Int32(1))
        var holdsNull = false
        let first = encoder.bytes
        for (index, value) in self.enumerated() {
            if index == 64 { encoder.reserveCapacity(writtenSince: first, values: 64, of: count) }
            let start = encoder.bytes
            try encoder.writeCell(value)
            if encoder.bytes &- start == 4, encoder.isNullCell(at: start) { holdsNull = true }
        }
        if holdsNull { encoder.patch(1, at: flag) }
    }
}

extension Array: PostgresDecodable where Element: PostgresDecodable {
    /// As the element's: an array of String is asked for in text form, and so every array can be read as one.
    @inlinable public static var postgresResultFormat: PostgresFormat { Element.postgresResultFormat }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        guard format == .binary else {
            self = try Self.read(text: value, type)
            return
        }
        let header = try ArrayCell.Header(value, type, as: Self.self)
        let element = PostgresType(oid: header.elementOID)
        self = []
        // The header has checked that there are four bytes for each element at least.
        reserveCapacity(header.count)
        var position = header.byteCount
        for index in 0..<header.count {
            guard let word = value.integer(Int32.self, at: position) else {
                throw ArrayCell.malformed(Self.self, type)
            }
            position &+= 4
            let length = Int(truncatingIfNeeded: word)
            do throws(PostgresError) {
                if length == -1 {
                    append(try Element.decodeNull())
                } else {
                    guard length >= 0, length <= value.byteCount &- position else {
                        throw ArrayCell.malformed(Self.self, type)
                    }
                    let bytes = value.extracting(position..<position &+ length)
                    append(try Element(postgres: bytes, type: element, format: .binary))
                    position &+= length
                }
            } catch {
                throw ArrayCell.locate(error, index)
            }
        }
        guard position == value.byteCount else { throw ArrayCell.malformed(Self.self, type) }
    }

    @usableFromInline @inline(never)
    static func read(text: RawSpan, _ type: PostgresType) throws(PostgresError) -> Self {
        guard let elementOID = ArrayTypes.element(of: type.oid) else {
            throw .typeMismatch(Self.self, type, .text)
        }
        let element = PostgresType(oid: elementOID)
        var values: Self = []
        var parser = ArrayText(delimiter: ArrayTypes.delimiter(of: type.oid))
        do throws(ArrayText.Failure) {
            try parser.begin(text)
            while let item = try parser.next(text) {
                do throws(PostgresError) {
                    switch item {
                    case .null: values.append(try Element.decodeNull())
                    case .plain(let range):
                        values.append(try Element(postgres: text.extracting(range), type: element, format: .text))
                    case .unescaped(let bytes):
                        values.append(try Element(postgres: bytes.span.bytes, type: element, format: .text))
                    }
                } catch {
                    throw ArrayText.Failure.element(ArrayCell.locate(error, values.count))
                }
            }
        } catch {
            switch error {
            case .malformed: throw ArrayCell.malformed(Self.self, type)
            case .dimensions: throw ArrayCell.dimensions(Self.self, type)
            case .element(let error): throw error
            }
        }
        return values
    }
}

extension PostgresEncoder {
    /// Whether the length word at `start`, which was written before, is that of NULL.
    @inlinable @inline(__always)
    func isNullCell(at start: Int) -> Bool {
        // -1 is the same in either byte order.
        (byteBase + start).loadUnaligned(as: Int32.self) == -1
    }
}
