// Manual, "Message Formats", CommandComplete: which command ended, and how many rows it touched.

package struct CommandTag: Sendable, Equatable {
    package let text: String
    /// The rows inserted, updated, selected or copied; nil if the command does not count any.
    package let affectedRows: Int?

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        let bytes = try reader.readZeroTerminatedBytes()
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .invalidUTF8(message: BackendMessage.Tag.commandComplete, field: "tag")
        }
        self.text = text
        affectedRows = try CommandTag.affectedRows(bytes)
    }

    /// The command without its numbers: `INSERT` of `INSERT 0 5`.
    package var verb: Substring {
        var end = text.startIndex
        for word in text.utf8.split(separator: 0x20) {
            if let first = word.first, CommandTag.isDigit(first) { break }
            end = word.endIndex
        }
        return text[..<end]
    }

    /// Reads the count, the last word if it is a number, from the bytes of a tag without its zero byte.
    package static func affectedRows(_ tag: UnsafeRawBufferPointer) throws(ProtocolError) -> Int? {
        var start = tag.count
        while start > 0, isDigit(tag[start &- 1]) { start &-= 1 }
        // `INSERT 0 5` ends in a number; `A5` and `5` are no counts.
        guard start < tag.count, start > 0, tag[start &- 1] == 0x20 else { return nil }
        var count = 0
        for index in start..<tag.count {
            let (tens, tensOverflow) = count.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = tens.addingReportingOverflow(Int(tag[index] &- 0x30))
            if tensOverflow || sumOverflow {
                throw .invalidValue(message: BackendMessage.Tag.commandComplete, field: "row count", value: -1)
            }
            count = sum
        }
        return count
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }
}
