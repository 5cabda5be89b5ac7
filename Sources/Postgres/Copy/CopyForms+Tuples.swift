/// Tuples that are read where they lie: see ``BorrowedValue``. The element of a tuple that is borrowed as a whole would be copied.
///
/// A tuple is laid out as the struct of its elements is: each behind the one before it, at the next multiple of its alignment. The
/// structs below have the same elements in the same order, each as a `BorrowedValue`, which is laid out as what it holds. So an
/// array of tuples may be read as one of these structs, which have its stride. The compiler does not promise it in writing;
/// `BorrowedLayoutTests` holds it to it. The caller's buffer keeps the tuples while they are read, and `row` is below its count.
extension CopyForms {
    @usableFromInline
    struct Borrowed2<A, B>: ~Copyable {
        @usableFromInline let a: BorrowedValue<A>
        @usableFromInline let b: BorrowedValue<B>
    }

    @usableFromInline
    struct Borrowed3<A, B, C>: ~Copyable {
        @usableFromInline let a: BorrowedValue<A>
        @usableFromInline let b: BorrowedValue<B>
        @usableFromInline let c: BorrowedValue<C>
    }

    @usableFromInline
    struct Borrowed4<A, B, C, D>: ~Copyable {
        @usableFromInline let a: BorrowedValue<A>
        @usableFromInline let b: BorrowedValue<B>
        @usableFromInline let c: BorrowedValue<C>
        @usableFromInline let d: BorrowedValue<D>
    }

    @usableFromInline
    struct Borrowed5<A, B, C, D, E>: ~Copyable {
        @usableFromInline let a: BorrowedValue<A>
        @usableFromInline let b: BorrowedValue<B>
        @usableFromInline let c: BorrowedValue<C>
        @usableFromInline let d: BorrowedValue<D>
        @usableFromInline let e: BorrowedValue<E>
    }

    @usableFromInline
    struct Borrowed6<A, B, C, D, E, F>: ~Copyable {
        @usableFromInline let a: BorrowedValue<A>
        @usableFromInline let b: BorrowedValue<B>
        @usableFromInline let c: BorrowedValue<C>
        @usableFromInline let d: BorrowedValue<D>
        @usableFromInline let e: BorrowedValue<E>
        @usableFromInline let f: BorrowedValue<F>
    }

    @inlinable
    static func write<A: PostgresEncodable, B: PostgresEncodable>(
        _ rows: UnsafeBufferPointer<(A, B)>, from row: inout Int, until size: Int,
        into encoder: inout PostgresEncoder
    ) -> PostgresError? {
        guard let start = UnsafeRawPointer(rows.baseAddress) else { return nil }
        let base = start.assumingMemoryBound(to: Borrowed2<A, B>.self)
        do throws(PostgresError) {
            while row < rows.count, encoder.bytes < size {
                encoder.write(Int16(2))
                try base[row].a.writeCell(into: &encoder)
                try base[row].b.writeCell(into: &encoder)
                row &+= 1
            }
            return nil
        } catch {
            return error
        }
    }

    @inlinable
    static func write<A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable>(
        _ rows: UnsafeBufferPointer<(A, B, C)>, from row: inout Int, until size: Int,
        into encoder: inout PostgresEncoder
    ) -> PostgresError? {
        guard let start = UnsafeRawPointer(rows.baseAddress) else { return nil }
        let base = start.assumingMemoryBound(to: Borrowed3<A, B, C>.self)
        do throws(PostgresError) {
            while row < rows.count, encoder.bytes < size {
                encoder.write(Int16(3))
                try base[row].a.writeCell(into: &encoder)
                try base[row].b.writeCell(into: &encoder)
                try base[row].c.writeCell(into: &encoder)
                row &+= 1
            }
            return nil
        } catch {
            return error
        }
    }

    @inlinable
    static func write<A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable, D: PostgresEncodable>(
        _ rows: UnsafeBufferPointer<(A, B, C, D)>, from row: inout Int, until size: Int,
        into encoder: inout PostgresEncoder
    ) -> PostgresError? {
        guard let start = UnsafeRawPointer(rows.baseAddress) else { return nil }
        let base = start.assumingMemoryBound(to: Borrowed4<A, B, C, D>.self)
        do throws(PostgresError) {
            while row < rows.count, encoder.bytes < size {
                encoder.write(Int16(4))
                try base[row].a.writeCell(into: &encoder)
                try base[row].b.writeCell(into: &encoder)
                try base[row].c.writeCell(into: &encoder)
                try base[row].d.writeCell(into: &encoder)
                row &+= 1
            }
            return nil
        } catch {
            return error
        }
    }

    @inlinable
    static func write<
        A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable, D: PostgresEncodable, E: PostgresEncodable
    >(
        _ rows: UnsafeBufferPointer<(A, B, C, D, E)>, from row: inout Int, until size: Int,
        into encoder: inout PostgresEncoder
    ) -> PostgresError? {
        guard let start = UnsafeRawPointer(rows.baseAddress) else { return nil }
        let base = start.assumingMemoryBound(to: Borrowed5<A, B, C, D, E>.self)
        do throws(PostgresError) {
            while row < rows.count, encoder.bytes < size {
                encoder.write(Int16(5))
                try base[row].a.writeCell(into: &encoder)
                try base[row].b.writeCell(into: &encoder)
                try base[row].c.writeCell(into: &encoder)
                try base[row].d.writeCell(into: &encoder)
                try base[row].e.writeCell(into: &encoder)
                row &+= 1
            }
            return nil
        } catch {
            return error
        }
    }

    @inlinable
    static func write<
        A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable, D: PostgresEncodable, E: PostgresEncodable,
        F: PostgresEncodable
    >(
        _ rows: UnsafeBufferPointer<(A, B, C, D, E, F)>, from row: inout Int, until size: Int,
        into encoder: inout PostgresEncoder
    ) -> PostgresError? {
        guard let start = UnsafeRawPointer(rows.baseAddress) else { return nil }
        let base = start.assumingMemoryBound(to: Borrowed6<A, B, C, D, E, F>.self)
        do throws(PostgresError) {
            while row < rows.count, encoder.bytes < size {
                encoder.write(Int16(6))
                try base[row].a.writeCell(into: &encoder)
                try base[row].b.writeCell(into: &encoder)
                try base[row].c.writeCell(into: &encoder)
                try base[row].d.writeCell(into: &encoder)
                try base[row].e.writeCell(into: &encoder)
                try base[row].f.writeCell(into: &encoder)
                row &+= 1
            }
            return nil
        } catch {
            return error
        }
    }
}
