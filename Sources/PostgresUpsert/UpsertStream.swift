public import Postgres

/// How far a stream of rows has come.
public struct UpsertProgress: Sendable, Hashable {
    /// How many rows from the beginning of the stream are certainly in: their statements have succeeded.
    public var rows = 0
    /// How many rows were inserted or updated for them.
    public var affected = 0
    /// How many statements, or transactions of several, that took.
    public var chunks = 0
}

/// A stream of rows that ended before its end. To go on, drop the first `progress.rows` rows.
public struct UpsertInterrupted: Error {
    /// What is certainly in.
    public let progress: UpsertProgress
    /// The rows of which it is not known whether they are in, as the connection was lost before the answer; nil when there are
    /// none. To upsert them again is harmless where that has the same effect twice, as overwriting has and counting has not.
    public let doubtful: Range<Int>?
    /// What ended it: the error of a statement, or what the sequence threw.
    public let cause: any Error
}

extension PostgresExecutor {
    /// Upserts a sequence of rows of any length, in chunks that take effect one after another. Only one chunk is held in memory.
    ///
    /// ```swift
    /// let progress = try await db.upsert(PageStats.bump, from: rows) { print($0.rows) }
    /// ```
    /// A chunk holds as many rows as ``Upsert/chunks(rows:bytes:)`` allows, judged by the size of the rows before it; the first is
    /// small. Rows of one key in one chunk are treated as ``Upsert/duplicates(_:)`` says, in different chunks one after another. In a
    /// transaction nothing is in before that is committed.
    ///
    /// - Parameters:
    ///   - upsert: its own rows are not used.
    ///   - report: called after each chunk; what it throws ends the stream.
    /// - Throws: ``UpsertInterrupted``, whatever the cause is.
    @discardableResult
    public func upsert<Row, Rows: AsyncSequence>(
        _ upsert: Upsert<Row, Never>, from rows: Rows,
        report: (UpsertProgress) async throws -> Void = { _ in }
    ) async throws(UpsertInterrupted) -> UpsertProgress where Rows.Element == Row {
        var progress = UpsertProgress()
        var pacer = ChunkPacer(upsert.definition.batching)
        var chunk: [Row] = []
        do {
            if let error = upsert.error { throw error }
            for try await row in rows {
                chunk.append(row)
                if chunk.count < pacer.rows { continue }
                pacer.note(bytes: try await send(chunk, upsert, &progress), of: chunk.count)
                chunk.removeAll(keepingCapacity: true)
                try await report(progress)
            }
            if !chunk.isEmpty {
                _ = try await send(chunk, upsert, &progress)
                try await report(progress)
            }
            return progress
        } catch let interrupted as UpsertInterrupted {
            throw interrupted
        } catch {
            throw UpsertInterrupted(progress: progress, doubtful: nil, cause: error)
        }
    }

    private func send<Row>(
        _ chunk: [Row], _ upsert: Upsert<Row, Never>, _ progress: inout UpsertProgress
    ) async throws(UpsertInterrupted) -> Int {
        do throws(PostgresError) {
            let (affected, bytes) = try await upsertBatch(upsert.rows(chunk))
            progress.rows += chunk.count
            progress.affected += affected
            progress.chunks += 1
            return bytes
        } catch {
            let doubtful = progress.rows..<progress.rows + chunk.count
            throw UpsertInterrupted(
                progress: progress, doubtful: error.outcome == .unknown ? doubtful : nil,
                cause: await explained(error.located(from: progress.rows), upsert.definition))
        }
    }
}

extension PostgresError {
    /// The same error, if it names rows of a chunk: in a stream they begin elsewhere.
    fileprivate func located(from start: Int) -> PostgresError {
        if outcome != .notSent || start == 0 { return self }
        return with(message: "in the chunk that begins with row \(start): \(message)")
    }
}

/// How many rows the next chunk of a stream holds.
struct ChunkPacer {
    private(set) var rows: Int
    private let rowLimit: Int
    private let byteLimit: Int

    init<Row>(_ batching: UpsertBatching<Row>) {
        rowLimit = batching.rows
        byteLimit = batching.bytes
        rows = min(256, rowLimit)
    }

    /// A chunk took so many bytes. The next is larger, by a factor that the sizes of rows may differ by.
    mutating func note(bytes: Int, of count: Int) {
        let size = max(1, bytes / max(1, count))
        rows = max(1, min(rowLimit, byteLimit / size, rows * 4))
    }
}
