extension PostgresMockServer {
    /// One thing that a script does.
    public struct Step: Sendable {
        enum Action: Sendable {
            case expect(FrontendMessage.Kind)
            case expectBytes([UInt8])
            case receive(until: FrontendMessage.Kind)
            case send([UInt8])
            case sendSplit([UInt8], sizes: [Int])
            case delay(Duration)
            case open(Gate)
            case wait(Gate)
            case halfClose
            case close
            case reset
            case expectClose
            case startTLS(PostgresTestCertificate)
            case serve(@Sendable ([FrontendMessage]) -> [Step])
            case group([Step])
        }

        let action: Action

        /// The next message must be of this kind.
        public static func expect(_ kind: FrontendMessage.Kind) -> Step { Step(action: .expect(kind)) }

        /// The next messages must be of these kinds, in this order.
        public static func expect(_ kinds: [FrontendMessage.Kind]) -> Step { .steps(kinds.map { .expect($0) }) }

        /// The next bytes must be these.
        public static func expect(bytes: [UInt8]) -> Step { Step(action: .expectBytes(bytes)) }

        /// Takes any messages up to and including one of this kind.
        public static func receive(until kind: FrontendMessage.Kind) -> Step { Step(action: .receive(until: kind)) }

        /// Sends messages in one piece.
        public static func send(_ messages: Message...) -> Step { .send(messages) }

        /// Sends messages in one piece.
        public static func send(_ messages: [Message]) -> Step { .send(bytes: messages.flatMap(\.bytes)) }

        /// Sends bytes in one piece.
        public static func send(bytes: [UInt8]) -> Step { Step(action: .send(bytes)) }

        /// Sends bytes in pieces of these sizes; the last size holds for all that is left. `[1]` sends byte by byte.
        ///
        /// Each piece is a call of its own without Nagle's delay. A client that is busy may still read two of them at once.
        public static func send(_ messages: [Message], split sizes: [Int]) -> Step {
            Step(action: .sendSplit(messages.flatMap(\.bytes), sizes: sizes))
        }

        /// Does nothing for a while.
        public static func delay(_ duration: Duration) -> Step { Step(action: .delay(duration)) }

        /// Opens a gate, for which the test waits.
        public static func open(_ gate: Gate) -> Step { Step(action: .open(gate)) }

        /// Waits until the test opens a gate.
        public static func wait(for gate: Gate) -> Step { Step(action: .wait(gate)) }

        /// Ends the server's direction; the client's stays open.
        public static let halfClose = Step(action: .halfClose)

        /// Closes the connection.
        public static let close = Step(action: .close)

        /// Closes the connection with a reset (RST), as a crash does. On a Unix socket the same as `close`.
        public static let reset = Step(action: .reset)

        /// The client must close the connection now, with or without Terminate.
        public static let expectClose = Step(action: .expectClose)

        /// Answers each group of messages, up to and including a Sync, a Query or a CopyFail, with the steps that `answer`
        /// returns for it, until the client closes the connection.
        public static func serve(_ answer: @escaping @Sendable ([FrontendMessage]) -> [Step]) -> Step {
            Step(action: .serve(answer))
        }

        /// Several steps as one.
        public static func steps(_ steps: [Step]) -> Step { Step(action: .group(steps)) }
    }
}

extension PostgresMockServer.Step {
    /// Answers SSLRequest: `N` to go on in the clear, `S` for TLS, `E` for an error; `extra` comes in the same piece.
    public static func answerSSLRequest(_ answer: Character, extra: [UInt8] = []) -> Self {
        .steps([.expect(.sslRequest), .send(bytes: [answer.asciiValue ?? 0] + extra)])
    }

    /// Agrees to SSLRequest, and does the handshake. From then on all is encrypted: each `send` begins a TLS record, and is one as
    /// far as 16 KiB go; `split` sizes are those of the ciphertext; and a client must say with close_notify that it closes.
    package static func acceptTLS(_ certificate: PostgresTestCertificate) -> Self {
        .steps([.answerSSLRequest("S"), Self(action: .startTLS(certificate))])
    }

    /// A whole start-up that asks for no proof: StartupMessage, then everything up to ReadyForQuery.
    public static func acceptTrust(parameters: KeyValuePairs<String, String> = ["server_version": "18.0"]) -> Self {
        .steps([.expect(.startup), .send(PostgresMockServer.Message.startupComplete(parameters: parameters))])
    }

    /// The answer to the first, extended execution of a statement: Parse and Describe, Bind and Execute, Sync.
    ///
    /// - Parameters:
    ///   - rows: in the format that the client asks for; nil is NULL.
    ///   - tag: `SELECT` and the number of rows when nil.
    public static func answerQuery(
        parameters: [UInt32] = [], columns: [PostgresMockServer.Message.Column], rows: [[[UInt8]?]],
        tag: String? = nil
    ) -> Self {
        .steps([
            .expect([.parse, .describe, .bind, .execute, .sync]),
            .send(PostgresMockServer.Message.reply(parameters: parameters, columns: columns, rows: rows, tag: tag)),
        ])
    }
}

extension PostgresMockServer.Message {
    /// What a server says from AuthenticationOk to ReadyForQuery.
    public static func startupComplete(
        parameters: KeyValuePairs<String, String> = ["server_version": "18.0"]
    ) -> [Self] {
        [.authenticationOk] + parameters.map { .parameterStatus($0.key, $0.value) }
            + [.parameterStatus("client_encoding", "UTF8"), .backendKeyData(), .readyForQuery()]
    }

    /// The answer to Parse, Describe, Bind, Execute and Sync.
    public static func reply(
        parameters: [UInt32] = [], columns: [Column], rows: [[[UInt8]?]], tag: String? = nil
    ) -> [Self] {
        [.parseComplete, .parameterDescription(parameters), columns.isEmpty ? .noData : .rowDescription(columns)]
            + boundReply(rows: rows, tag: tag)
    }

    /// The answer to Bind, Execute and Sync of a statement that was described before.
    public static func boundReply(rows: [[[UInt8]?]], tag: String? = nil) -> [Self] {
        [.bindComplete] + rows.map { .dataRow($0) }
            + [.commandComplete(tag ?? "SELECT \(rows.count)"), .readyForQuery()]
    }
}
