import PostgresUpsert

@testable import Postgres

extension PostgresQuery {
    /// One parameter as it would be sent.
    struct SentParameter: Equatable {
        var oid: UInt32
        var format: PostgresFormat
        var bytes: [UInt8]?
    }

    var failure: PostgresError? { storage.header.failure }

    /// What Bind would hold.
    var sent: [SentParameter] {
        let header = storage.header
        var cells = Array(storage.cells)[...]
        var parameters: [SentParameter] = []
        for index in 0..<header.segments where storage.segmentBase[index].kind == .parameter {
            let segment = storage.segmentBase[index]
            let length = Int(Int32(bitPattern: cells.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }))
            cells = cells.dropFirst(4)
            let format: PostgresFormat = segment.address == 1 ? .binary : .text
            let bytes = length < 0 ? nil : Array(cells.prefix(length))
            parameters.append(SentParameter(oid: segment.word, format: format, bytes: bytes))
            cells = cells.dropFirst(max(length, 0))
        }
        return parameters
    }

    /// The parameters as arrays.
    var sentArrays: [SentArray?] { sent.map { $0.bytes.flatMap(SentArray.init) } }
}

/// An executor that no statement may reach.
struct NoServer: PostgresExecutor {
    static let reached = PostgresError(code: .unsupported, message: "sent", outcome: .unknown)

    func query<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRows<Row> {
        throw query.query.failure ?? Self.reached
    }

    func execute(_ query: PostgresQuery) async throws(PostgresError) -> Int { throw query.failure ?? Self.reached }

    func run(_ pipeline: PostgresPipeline) async throws(PostgresError) -> PostgresPipeline.Results {
        throw Self.reached
    }
}

/// The values of an array of text, or of 8-byte integers, as they would be sent; nil for NULL.
struct SentArray: Equatable {
    var element: UInt32
    var cells: [[UInt8]?]

    init(element: UInt32, cells: [[UInt8]?]) {
        self.element = element
        self.cells = cells
    }

    /// Reads the binary form of an array (src/backend/utils/adt/arrayfuncs.c, array_recv).
    init?(_ bytes: [UInt8]) {
        func word(_ offset: Int) -> UInt32 {
            bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
        }
        guard bytes.count >= 12, word(4) == 0 else { return nil }
        element = word(8)
        cells = []
        if word(0) == 0 {
            if bytes.count != 12 { return nil }
            return
        }
        guard word(0) == 1, bytes.count >= 20, word(16) == 1 else { return nil }
        var offset = 20
        for _ in 0..<word(12) {
            guard offset + 4 <= bytes.count else { return nil }
            let length = Int(Int32(bitPattern: word(offset)))
            offset += 4
            if length < 0 {
                cells.append(nil)
            } else {
                guard offset + length <= bytes.count else { return nil }
                cells.append(Array(bytes[offset..<offset + length]))
                offset += length
            }
        }
        guard offset == bytes.count else { return nil }
    }

    static func texts(_ values: String?...) -> SentArray {
        SentArray(element: 25, cells: values.map { $0.map { Array($0.utf8) } })
    }

    static func integers(_ values: Int...) -> SentArray {
        SentArray(
            element: 20,
            cells: values.map { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - $0 * 8)) } })
    }
}
