/// Bytes that are sent as if they were one, and lie in three places. Any of them may be empty.
///
/// Valid as long as what lies there is.
package struct ScatteredBytes {
    package private(set) var head: UnsafeRawBufferPointer
    package private(set) var body: UnsafeRawBufferPointer
    package private(set) var tail: UnsafeRawBufferPointer

    package init(
        _ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer,
        _ tail: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) {
        self.head = head
        self.body = body
        self.tail = tail
    }

    package var count: Int { head.count &+ body.count &+ tail.count }

    /// What is left behind the first `count` bytes.
    package func dropFirst(_ count: Int) -> ScatteredBytes {
        var left = count
        func rest(_ part: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
            let gone = min(max(left, 0), part.count)
            left &-= gone
            return UnsafeRawBufferPointer(rebasing: part[gone...])
        }
        return ScatteredBytes(rest(head), rest(body), rest(tail))
    }
}
