import CLibPQArms
import Postgres

extension LibPQ {
    /// COPY FROM STDIN in binary form: the values are converted into 64 KiB blocks in C.
    func copyIn(_ sql: String, _ rows: CopyRows) throws(Failure) {
        try call { arm in
            rows.withPointer { libpq_arm_copy_in(arm, sql, $0.baseAddress, Int32(clamping: $0.count)) }
        }
    }

    /// COPY TO STDOUT in binary form.
    ///
    /// - Returns: how many rows came.
    func copyOut(_ sql: String) throws(Failure) -> Int {
        var rows: Int64 = 0
        var checksum = 0.0
        try call { libpq_arm_copy_out($0, sql, &rows, &checksum) }
        return Int(rows)
    }

    /// Rows of (int4, text, float8) as C has them.
    final class CopyRows {
        private let rows: UnsafeMutableBufferPointer<libpq_copy_row>
        private let texts: UnsafeMutableBufferPointer<UInt8>

        init(_ values: [CopiedRow]) {
            rows = .allocate(capacity: values.count)
            texts = .allocate(capacity: values.reduce(0) { $0 + $1.text.utf8.count })
            var offset = 0
            for (index, value) in values.enumerated() {
                let start = offset
                for byte in value.text.utf8 {
                    texts[offset] = byte
                    offset += 1
                }
                let text = UnsafeRawPointer(texts.baseAddress.map { $0 + start })
                rows.initializeElement(
                    at: index,
                    to: libpq_copy_row(
                        key: value.key, length: Int32(clamping: offset - start), number: value.number,
                        text: text?.assumingMemoryBound(to: CChar.self)))
            }
        }

        deinit {
            rows.deallocate()
            texts.deallocate()
        }

        func withPointer<Result>(_ body: (UnsafeMutableBufferPointer<libpq_copy_row>) -> Result) -> Result {
            withExtendedLifetime(self) { body(rows) }
        }
    }
}

/// What is copied in and out.
struct CopiedRow: Sendable {
    var key: Int32
    var text: String
    var number: Double

    static let createTable = "CREATE TABLE IF NOT EXISTS copied (key int4, text text, number float8)"

    static let copyOut = "COPY copied TO STDOUT (FORMAT binary)"

    static func fillTable(_ count: Int) -> String {
        "INSERT INTO copied SELECT i, 'row ' || i, i * 0.5 FROM generate_series(1, \(count)) AS i"
    }

    /// - Returns: how many rows came.
    static func read(from db: PostgresConnection) async throws -> Int {
        var read = 0
        var checksum = 0.0
        for try await (key, text, number) in try await db.copy(from: "copied", as: (Int32, String, Double).self) {
            checksum += Double(key) + Double(text.utf8.count) + number
            read += 1
        }
        return checksum == 0 ? 0 : read
    }

    static func rows(_ count: Int) -> [CopiedRow] {
        (0..<count).map { CopiedRow(key: Int32(clamping: $0), text: "row \($0)", number: Double($0) * 0.5) }
    }
}
