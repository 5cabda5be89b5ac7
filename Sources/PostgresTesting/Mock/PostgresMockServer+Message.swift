// Manual, "Message Formats": every message a server sends.

import PostgresProtocol

extension PostgresMockServer {
    /// A message from a server, well-formed or not.
    ///
    /// ```swift
    /// .send(.rowDescription([.init("id", type: 23)]), .dataRow(["1"]), .commandComplete("SELECT 1"), .readyForQuery())
    /// ```
    public struct Message: Sendable, Hashable {
        /// Type byte, length word and body.
        public var bytes: [UInt8]

        /// Any bytes, such as another protocol's greeting.
        public init(bytes: [UInt8]) { self.bytes = bytes }

        /// A message of any type; `length` replaces the right length word by a wrong one.
        public init(type: Character, body: [UInt8] = [], length: Int32? = nil) {
            self.init(type: type) { $0.write(body) }
            guard let length else { return }
            bytes.replaceSubrange(1..<5, with: withUnsafeBytes(of: length.bigEndian, Array.init))
        }

        init(type: Character, _ body: (inout ByteWriter) -> Void) {
            var writer = ByteWriter(capacity: 256)
            writer.write(type.asciiValue ?? 0)
            writer.write(Int32(0))
            body(&writer)
            writer.patch(Int32(truncatingIfNeeded: writer.count - 1), at: 1)
            bytes = writer.withBytes { Array($0) }
        }

        /// A column of a RowDescription.
        public struct Column: Sendable, Hashable {
            /// The name that RowDescription tells.
            public var name: String
            /// The OID of its type: 23 is int4, 25 is text.
            public var type: UInt32
            /// The format that RowDescription tells.
            public var isBinary: Bool

            /// A column by name and type OID; 25 is text.
            public init(_ name: String, type: UInt32 = 25, isBinary: Bool = false) {
                self.name = name
                self.type = type
                self.isBinary = isBinary
            }
        }
    }
}

// MARK: - Start-up

extension PostgresMockServer.Message {
    /// Ends authentication; alone, it is trust.
    public static let authenticationOk = authentication(0)
    /// Asks for the password as it is.
    public static let authenticationCleartextPassword = authentication(3)

    /// Asks for the password's MD5, salted by four bytes.
    public static func authenticationMD5Password(salt: [UInt8]) -> Self { authentication(5, salt) }

    /// Offers mechanisms, such as `SCRAM-SHA-256`.
    public static func authenticationSASL(mechanisms: [String]) -> Self {
        authentication(10, mechanisms.flatMap { Array($0.utf8) + [0] } + [0])
    }

    /// The server's first message of SCRAM.
    public static func authenticationSASLContinue(_ data: [UInt8]) -> Self { authentication(11, data) }
    /// The server's last message of SCRAM, with its signature.
    public static func authenticationSASLFinal(_ data: [UInt8]) -> Self { authentication(12, data) }

    /// Any authentication request, by its code.
    public static func authentication(_ code: UInt32, _ data: [UInt8] = []) -> Self {
        Self(type: "R") { writer in
            writer.write(code)
            writer.write(data)
        }
    }

    /// What a cancel request would have to show.
    public static func backendKeyData(processID: UInt32 = 4711, secretKey: [UInt8] = [1, 2, 3, 4]) -> Self {
        Self(type: "K") { writer in
            writer.write(processID)
            writer.write(secretKey)
        }
    }

    /// Tells the value of a run-time parameter.
    public static func parameterStatus(_ name: String, _ value: String) -> Self {
        Self(type: "S") { writer in
            writer.writeText(name)
            writer.writeText(value)
        }
    }

    /// - Parameter newest: the newest version, as major times 65,536 plus minor.
    public static func negotiateProtocolVersion(newest: UInt32, unrecognizedOptions: [String] = []) -> Self {
        Self(type: "v") { writer in
            writer.write(newest)
            writer.write(Int32(truncatingIfNeeded: unrecognizedOptions.count))
            for option in unrecognizedOptions { writer.writeText(option) }
        }
    }

    /// - Parameter status: `I` idle, `T` in a transaction, `E` in a failed one.
    public static func readyForQuery(_ status: Character = "I") -> Self {
        Self(type: "Z", body: [status.asciiValue ?? 0])
    }
}

// MARK: - Queries

extension PostgresMockServer.Message {
    /// Answers Parse.
    public static let parseComplete = Self(type: "1")
    /// Answers Bind.
    public static let bindComplete = Self(type: "2")
    /// Answers Close.
    public static let closeComplete = Self(type: "3")
    /// Answers Describe of a statement without rows.
    public static let noData = Self(type: "n")
    /// Stands for CommandComplete after an empty statement.
    public static let emptyQueryResponse = Self(type: "I")
    /// Stands for CommandComplete when Execute had a limit of rows.
    public static let portalSuspended = Self(type: "s")

    /// Ends a statement, with a tag such as `INSERT 0 1`.
    public static func commandComplete(_ tag: String) -> Self { Self(type: "C") { $0.writeText(tag) } }

    /// A row in text format; nil is NULL.
    public static func dataRow(_ values: [String?]) -> Self { dataRow(values.map { $0.map { Array($0.utf8) } }) }

    /// A row by its bytes; nil is NULL.
    public static func dataRow(_ values: [[UInt8]?]) -> Self {
        Self(type: "D") { writer in
            writer.write(UInt16(truncatingIfNeeded: values.count))
            for value in values {
                writer.write(value.map { Int32(truncatingIfNeeded: $0.count) } ?? -1)
                writer.write(value ?? [])
            }
        }
    }

    /// Names the columns of the rows that follow.
    public static func rowDescription(_ columns: [Column]) -> Self {
        Self(type: "T") { writer in
            writer.write(UInt16(truncatingIfNeeded: columns.count))
            for column in columns {
                writer.writeText(column.name)
                writer.write(UInt32(0))
                writer.write(Int16(0))
                writer.write(column.type)
                writer.write(Int16(-1))
                writer.write(Int32(-1))
                writer.write(UInt16(column.isBinary ? 1 : 0))
            }
        }
    }

    /// Tells the OIDs of a statement's parameters.
    public static func parameterDescription(_ types: [UInt32]) -> Self {
        Self(type: "t") { writer in
            writer.write(UInt16(truncatingIfNeeded: types.count))
            for type in types { writer.write(type) }
        }
    }

    /// - Parameter fields: further fields by their code, such as `R` for the routine.
    public static func errorResponse(
        _ sqlState: String, _ message: String = "refused by the script", severity: String = "ERROR",
        fields: KeyValuePairs<Character, String> = [:]
    ) -> Self {
        report("E", sqlState, message, severity, fields)
    }

    /// A warning, or the like; may come at any time.
    public static func noticeResponse(
        _ message: String, sqlState: String = "00000", severity: String = "NOTICE"
    ) -> Self {
        report("N", sqlState, message, severity, [:])
    }

    private static func report(
        _ type: Character, _ sqlState: String, _ message: String, _ severity: String,
        _ fields: KeyValuePairs<Character, String>
    ) -> Self {
        Self(type: type) { writer in
            let standard: KeyValuePairs<Character, String> = [
                "S": severity, "V": severity, "C": sqlState, "M": message,
            ]
            for (code, value) in Array(standard) + Array(fields) {
                writer.write(code.asciiValue ?? 0)
                writer.writeText(value)
            }
            writer.write(UInt8(0))
        }
    }

    /// What LISTEN is told of; may come at any time.
    public static func notificationResponse(processID: UInt32 = 4711, channel: String, payload: String = "") -> Self {
        Self(type: "A") { writer in
            writer.write(processID)
            writer.writeText(channel)
            writer.writeText(payload)
        }
    }

    /// - Parameter result: nil is NULL.
    public static func functionCallResponse(_ result: [UInt8]?) -> Self {
        Self(type: "V") { writer in
            writer.write(result.map { Int32(truncatingIfNeeded: $0.count) } ?? -1)
            writer.write(result ?? [])
        }
    }
}

// MARK: - COPY

extension PostgresMockServer.Message {
    /// Ends a copy.
    public static let copyDone = Self(type: "c")

    /// A piece of a copy.
    public static func copyData(_ bytes: [UInt8]) -> Self { Self(type: "d", body: bytes) }
    /// Begins COPY FROM STDIN.
    public static func copyInResponse(columns: Int = 1, isBinary: Bool = false) -> Self { copy("G", columns, isBinary) }
    /// Begins COPY TO STDOUT.
    public static func copyOutResponse(columns: Int = 1, isBinary: Bool = false) -> Self {
        copy("H", columns, isBinary)
    }
    /// Begins streaming replication.
    public static func copyBothResponse(columns: Int = 1, isBinary: Bool = false) -> Self {
        copy("W", columns, isBinary)
    }

    private static func copy(_ type: Character, _ columns: Int, _ isBinary: Bool) -> Self {
        Self(type: type) { writer in
            writer.write(UInt8(isBinary ? 1 : 0))
            writer.write(UInt16(truncatingIfNeeded: columns))
            for _ in 0..<max(0, columns) { writer.write(UInt16(isBinary ? 1 : 0)) }
        }
    }
}

extension ByteWriter {
    /// Text and a zero byte, whatever the text holds: a mock may have to send what no server would.
    fileprivate mutating func writeText(_ text: String) {
        write(utf8: text)
        write(UInt8(0))
    }
}
