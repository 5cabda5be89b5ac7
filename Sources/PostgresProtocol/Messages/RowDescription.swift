// Manual, "Message Formats", RowDescription: what the columns of the rows to come are.

package struct RowDescription: Sendable, Equatable {
    package struct Column: Sendable, Equatable {
        package var name: String
        /// The table this is a column of, 0 if none.
        package var tableOID: UInt32
        /// Its number in that table, 0 if none.
        package var columnNumber: Int16
        package var typeOID: UInt32
        /// Negative for types of variable width.
        package var typeSize: Int16
        package var typeModifier: Int32
        package var format: Format

        package init(
            name: String, tableOID: UInt32 = 0, columnNumber: Int16 = 0, typeOID: UInt32, typeSize: Int16 = -1,
            typeModifier: Int32 = -1, format: Format = .text
        ) {
            self.name = name
            self.tableOID = tableOID
            self.columnNumber = columnNumber
            self.typeOID = typeOID
            self.typeSize = typeSize
            self.typeModifier = typeModifier
            self.format = format
        }
    }

    package var columns: [Column]

    package init(columns: [Column]) { self.columns = columns }

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        let count = try reader.readCount(minimumSize: 19)
        columns = []
        columns.reserveCapacity(count)
        for _ in 0..<count {
            columns.append(
                Column(
                    name: try reader.readString("column name"),
                    tableOID: try reader.read(),
                    columnNumber: try reader.read(),
                    typeOID: try reader.read(),
                    typeSize: try reader.read(),
                    typeModifier: try reader.read(),
                    format: try Format(code: try reader.read(), message: BackendMessage.Tag.rowDescription)))
        }
    }
}
