import PostgresProtocol
import PostgresTransport
import Synchronization

/// Where the bytes of a COPY go in. Made by `copy(into:schema:columns:format:_:)`, and of no use after it.
public final class PostgresCopyWriter {
    /// Small pieces are gathered up to this many bytes.
    static let blockSize = 64 * 1024

    private let core: ConnectionCore
    private let stream: RowStream
    private let lease: Int
    private var gathered: [UInt8] = []

    /// The format that the server expects, by its CopyInResponse.
    public let format: PostgresFormat
    /// How many columns the server expects in each row.
    public let columnCount: Int

    init(_ core: ConnectionCore, _ stream: RowStream, _ lease: Int) {
        self.core = core
        self.stream = stream
        self.lease = lease
        let response = core.state.withLock { _ in stream.copy }
        format = response?.format == .binary ? .binary : .text
        columnCount = response?.columnFormats.count ?? 0
    }

    /// Sends bytes, waiting while the server takes them slowly. They need not be whole rows.
    ///
    /// - Throws: what the server found wrong with the data so far, `cancelled`, or `timedOut`. The COPY has failed then.
    public func write(_ bytes: [UInt8]) async throws(PostgresError) {
        if bytes.count < PostgresCopyWriter.blockSize {
            gathered.append(contentsOf: bytes)
            if gathered.count >= PostgresCopyWriter.blockSize { try await flush() }
        } else {
            try await flush()
            try await core.writeCopyData(stream, bytes, as: lease)
        }
    }

    /// Sends bytes, as ``write(_:)-([UInt8])``.
    public func write(_ bytes: some Sequence<UInt8>) async throws(PostgresError) {
        gathered.append(contentsOf: bytes)
        if gathered.count >= PostgresCopyWriter.blockSize { try await flush() }
    }

    /// Sends text as UTF-8, as ``write(_:)-([UInt8])``.
    public func write(_ text: String) async throws(PostgresError) { try await write(text.utf8) }

    /// Sends what was gathered of small pieces. The end of the COPY does so, too.
    public func flush() async throws(PostgresError) {
        if gathered.isEmpty { return }
        try await core.writeCopyData(stream, gathered, as: lease)
        gathered.removeAll(keepingCapacity: gathered.count < 4 &* PostgresCopyWriter.blockSize)
    }
}

/// Where the bytes of a COPY go in, for the blocking API.
public final class PostgresBlockingCopyWriter {
    private let core: ConnectionCore
    private let stream: RowStream
    private let lease: Int
    private var gathered: [UInt8] = []

    init(_ core: ConnectionCore, _ stream: RowStream, _ lease: Int) {
        self.core = core
        self.stream = stream
        self.lease = lease
    }

    /// As ``PostgresCopyWriter/write(_:)-([UInt8])``.
    public func write(_ bytes: some Sequence<UInt8>) throws(PostgresError) {
        gathered.append(contentsOf: bytes)
        if gathered.count >= PostgresCopyWriter.blockSize { try flush() }
    }

    /// Sends text as UTF-8.
    public func write(_ text: String) throws(PostgresError) { try write(text.utf8) }

    /// As ``PostgresCopyWriter/flush()``.
    public func flush() throws(PostgresError) {
        if gathered.isEmpty { return }
        try core.writeCopyDataBlocking(stream, gathered, as: lease)
        gathered.removeAll(keepingCapacity: gathered.count < 4 &* PostgresCopyWriter.blockSize)
    }
}
