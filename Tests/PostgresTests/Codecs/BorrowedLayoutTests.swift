import Foundation
import Testing

@testable import Postgres

/// What is read where it lies is read through a type of the same layout. The language says so nowhere: these tests do, so that a
/// compiler that lays out otherwise does not get by.
struct BorrowedLayoutTests {
    private let uuid = UUID(uuid: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16))
    /// Too long to be kept in the value itself.
    private let text = "a text that is on the heap, longer than fifteen bytes"

    @Test func aBorrowedValueIsLaidOutAsItsValue() {
        check(true)
        check(Int16(-2))
        check(Int32?.some(7))
        check(Int64?.none)
        check(1.5)
        check(text)
        check(String?.none)
        check([UInt8](0...40))
        check(uuid)
        check(Date(timeIntervalSinceReferenceDate: 77))
    }

    @Test func pairsAreLaidOutAsTheirElements() {
        check(Int32(1), Int32(2))
        check(Int8(1), Int64(-2))
        check(Int64(1), Int8(2))
        check(Int32?.some(1), true)
        check(text, Int16?.none)
        check(true, text)
    }

    @Test func longerTuplesAreLaidOutAsTheirElements() {
        check(Int8(1), text, Int16(3))
        check(Int32?.none, Int32?.some(2), true)
        check(true, Double(2), Int16?.some(3), text)
        check(text, String?.none, String?.some(text), Int8(4))
        check(Int64(1), true, Int32?.some(3), uuid, text)
        check(Int8(1), Int16(2), Int32(3), Int64(4), 5.5)
        check(true, Int64?.none, text, Int16(4), Date(timeIntervalSinceReferenceDate: 5), String?.some("six"))
        check(Int8?.some(1), Int8?.none, Int16?.some(3), Int8(4), Int32?.none, uuid)
    }

    // MARK: One tuple type each

    /// Two in a row: the second one's place is the stride's.
    private func read<Value, Borrowed: ~Copyable>(
        _ value: Value, as borrowed: Borrowed.Type, _ body: (borrowing Borrowed) -> Bool,
        _ sourceLocation: SourceLocation
    ) {
        #expect(MemoryLayout<Borrowed>.size == MemoryLayout<Value>.size, sourceLocation: sourceLocation)
        #expect(MemoryLayout<Borrowed>.stride == MemoryLayout<Value>.stride, sourceLocation: sourceLocation)
        #expect(MemoryLayout<Borrowed>.alignment == MemoryLayout<Value>.alignment, sourceLocation: sourceLocation)
        let isSame = [value, value].withUnsafeBufferPointer { values in
            guard let start = UnsafeRawPointer(values.baseAddress) else { return false }
            let base = start.assumingMemoryBound(to: Borrowed.self)
            return body(base[0]) && body(base[1])
        }
        #expect(isSame, sourceLocation: sourceLocation)
    }

    private func check<A: Equatable>(_ a: A, _ sourceLocation: SourceLocation = #_sourceLocation) {
        read(a, as: BorrowedValue<A>.self, { $0.value == a }, sourceLocation)
    }

    private func check<A: Equatable, B: Equatable>(
        _ a: A, _ b: B, _ sourceLocation: SourceLocation = #_sourceLocation
    ) {
        read((a, b), as: CopyForms.Borrowed2<A, B>.self, { $0.a.value == a && $0.b.value == b }, sourceLocation)
    }

    private func check<A: Equatable, B: Equatable, C: Equatable>(
        _ a: A, _ b: B, _ c: C, _ sourceLocation: SourceLocation = #_sourceLocation
    ) {
        read(
            (a, b, c), as: CopyForms.Borrowed3<A, B, C>.self,
            { $0.a.value == a && $0.b.value == b && $0.c.value == c }, sourceLocation)
    }

    private func check<A: Equatable, B: Equatable, C: Equatable, D: Equatable>(
        _ a: A, _ b: B, _ c: C, _ d: D, _ sourceLocation: SourceLocation = #_sourceLocation
    ) {
        read(
            (a, b, c, d), as: CopyForms.Borrowed4<A, B, C, D>.self,
            { $0.a.value == a && $0.b.value == b && $0.c.value == c && $0.d.value == d }, sourceLocation)
    }

    private func check<A: Equatable, B: Equatable, C: Equatable, D: Equatable, E: Equatable>(
        _ a: A, _ b: B, _ c: C, _ d: D, _ e: E, _ sourceLocation: SourceLocation = #_sourceLocation
    ) {
        read(
            (a, b, c, d, e), as: CopyForms.Borrowed5<A, B, C, D, E>.self,
            { $0.a.value == a && $0.b.value == b && $0.c.value == c && $0.d.value == d && $0.e.value == e },
            sourceLocation)
    }

    private func check<A: Equatable, B: Equatable, C: Equatable, D: Equatable, E: Equatable, F: Equatable>(
        _ a: A, _ b: B, _ c: C, _ d: D, _ e: E, _ f: F, _ sourceLocation: SourceLocation = #_sourceLocation
    ) {
        read(
            (a, b, c, d, e, f), as: CopyForms.Borrowed6<A, B, C, D, E, F>.self,
            {
                $0.a.value == a && $0.b.value == b && $0.c.value == c && $0.d.value == d && $0.e.value == e
                    && $0.f.value == f
            }, sourceLocation)
    }
}
