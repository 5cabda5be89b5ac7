import Glibc

/// One connection of a mock server on its way through its script, on a thread of its own with blocking calls.
struct ScriptRun: ~Copyable {
    private let server: PostgresMockServer
    private let number: Int
    private var descriptor: Int32
    /// Read; what lies before `taken` was taken by a step.
    private var buffer: [UInt8] = []
    private var taken = 0
    private var isStarted = false
    private var tls: MockTLS?
    /// Which step it is, for failures.
    private var position = "the start"

    /// Why a script ends before its last step. The failure, if it is one, was recorded.
    private struct Ended: Error {}

    init(_ server: PostgresMockServer, _ descriptor: Int32, _ number: Int) {
        self.server = server
        self.descriptor = descriptor
        self.number = number
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }

    mutating func run(_ script: [PostgresMockServer.Step]) {
        do {
            try run(script, within: "step")
            position = "the end of the script"
            if descriptor >= 0 { try expectClose() }
        } catch {}
    }

    private mutating func run(_ steps: [PostgresMockServer.Step], within name: String) throws(Ended) {
        for (index, step) in steps.enumerated() {
            let here = "\(name) \(index)"
            position = here
            try run(step.action, here)
        }
    }

    private mutating func run(_ action: PostgresMockServer.Step.Action, _ here: String) throws(Ended) {
        switch action {
        case .expect(let kind):
            let message = try take("\(kind.rawValue)")
            guard message.kind == kind else {
                throw fail("\(kind.rawValue) was expected, \(message.kind.rawValue) came")
            }
        case .expectBytes(let bytes):
            while rest.count < bytes.count { try read("\(bytes.count) bytes") }
            guard rest.starts(with: bytes) else {
                throw fail("the bytes \(bytes) were expected, \(Array(rest.prefix(bytes.count))) came")
            }
            taken += bytes.count
        case .receive(let last):
            while try take(last.rawValue).kind != last {}
        case .send(let bytes): try send(bytes)
        case .sendSplit(let bytes, let sizes): try send(bytes, split: sizes)
        case .delay(let duration):
            // The stop descriptor is readable exactly when the server stops.
            if server.waitReadable(server.stopDescriptor, for: duration) == .stopped { throw Ended() }
        case .open(let gate): gate.open()
        case .wait(let gate): try wait(gate.descriptor, "a gate to be opened")
        case .halfClose: shutdown(descriptor, Int32(SHUT_WR))
        case .close: end()
        case .reset:
            var option = linger(l_onoff: 1, l_linger: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
            end()
        case .expectClose:
            try expectClose()
            end()
        case .startTLS(let certificate): try startTLS(certificate)
        case .serve(let answer): try serve(answer, here)
        case .group(let steps): try run(steps, within: "\(here).")
        }
    }

    /// Closes the connection, if that is not done.
    mutating func end() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    private func fail(_ message: String) -> Ended {
        server.fail("\(position): \(message)", connection: number)
        return Ended()
    }

    // MARK: Receiving

    private func wait(_ descriptor: Int32, _ what: String) throws(Ended) {
        guard descriptor >= 0 else { throw fail("the script has closed the connection, and waits for \(what)") }
        switch server.waitReadable(descriptor, for: server.timeout) {
        case .readable: return
        case .stopped: throw Ended()
        case .timedOut: throw fail("\(what) did not come in time")
        }
    }

    /// - Returns: false at the end of the client's direction.
    private mutating func receive(_ what: String) throws(Ended) -> Bool {
        try wait(descriptor, what)
        var chunk = [UInt8](repeating: 0, count: 65536)
        let count = recv(descriptor, &chunk, chunk.count, 0)
        guard count > 0 else {
            if let tls, !tls.isClosedByPeer { throw fail("the client closed the connection without close_notify") }
            return false
        }
        var plain = chunk[..<count]
        if let tls { plain = try decrypt(plain, tls) }
        server.record(plain, connection: number)
        buffer.removeFirst(taken)
        taken = 0
        buffer += plain
        return true
    }

    /// - Returns: what was decrypted, after the answers of the handshake were sent.
    private mutating func decrypt(_ ciphertext: ArraySlice<UInt8>, _ tls: MockTLS) throws(Ended) -> ArraySlice<UInt8> {
        let plain: [UInt8]
        do throws(PostgresMockServer.Failure) {
            plain = try tls.decrypt(ciphertext)
        } catch {
            throw fail(error.message)
        }
        try transmit(tls.takeOutput()[...])
        return plain[...]
    }

    private mutating func startTLS(_ certificate: PostgresTestCertificate) throws(Ended) {
        guard rest.isEmpty else { throw fail("\(rest.count) bytes came before the handshake") }
        do throws(PostgresMockServer.Failure) {
            tls = try MockTLS(certificate)
        } catch {
            throw fail(error.message)
        }
        while let tls, !tls.isConnected { try read("a TLS handshake") }
    }

    private var rest: ArraySlice<UInt8> { buffer[taken...] }

    private mutating func read(_ what: String) throws(Ended) {
        guard try receive(what) else { throw fail("the client closed the connection; \(what) was expected") }
    }

    /// The next message if its bytes are there already.
    private mutating func takeReceived() throws(Ended) -> PostgresMockServer.FrontendMessage? {
        switch PostgresMockServer.FrontendMessage.frame(rest, isStarted: isStarted) {
        case .incomplete: return nil
        case .invalid(let reason): throw fail("the client sent \(reason)")
        case .message(let message, let size):
            taken += size
            if message.kind == .startup { isStarted = true }
            server.record(message, connection: number)
            return message
        }
    }

    private mutating func take(_ what: String) throws(Ended) -> PostgresMockServer.FrontendMessage {
        while true {
            if let message = try takeReceived() { return message }
            try read(what)
        }
    }

    /// Nothing but a Terminate may come any more.
    private mutating func expectClose() throws(Ended) {
        repeat {
            while !rest.isEmpty, let message = try takeReceived() {
                guard message.kind == .terminate else {
                    throw fail("the client was to close the connection; \(message.kind.rawValue) came")
                }
            }
        } while try receive("the end of the connection")
    }

    private mutating func serve(
        _ answer: @Sendable ([PostgresMockServer.FrontendMessage]) -> [PostgresMockServer.Step], _ here: String
    ) throws(Ended) {
        var group: [PostgresMockServer.FrontendMessage] = []
        while descriptor >= 0 {
            guard let message = try takeReceived() else {
                if try receive("a message") { continue }
                if !group.isEmpty || !rest.isEmpty { throw fail("the client closed the connection inside a group") }
                return end()
            }
            if message.kind == .terminate { continue }
            group.append(message)
            guard message.kind == .sync || message.kind == .query || message.kind == .copyFail else { continue }
            let steps = answer(group)
            group = []
            try run(steps, within: "\(here), answer,")
        }
    }

    // MARK: Sending

    private func send(_ bytes: [UInt8]) throws(Ended) { try transmit(try encrypted(bytes)[...]) }

    private func encrypted(_ bytes: [UInt8]) throws(Ended) -> [UInt8] {
        guard let tls else { return bytes }
        do throws(PostgresMockServer.Failure) {
            return try tls.encrypt(bytes)
        } catch {
            throw fail(error.message)
        }
    }

    /// Sends bytes as they are.
    private func transmit(_ bytes: ArraySlice<UInt8>) throws(Ended) {
        var rest = bytes
        let deadline = ContinuousClock.now + server.timeout
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { buffer in
                Glibc.send(
                    descriptor, buffer.baseAddress, buffer.count,
                    Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                // A client that reads slowly: look again soon, for there is no waiting for room and for the stop at once.
                if server.waitReadable(server.stopDescriptor, for: .milliseconds(1)) == .stopped { throw Ended() }
                if ContinuousClock.now > deadline { throw fail("the client did not read \(rest.count) bytes in time") }
            } else if errno != EINTR {
                throw fail("the client closed the connection while \(rest.count) bytes were to be sent")
            }
        }
    }

    private func send(_ bytes: [UInt8], split sizes: [Int]) throws(Ended) {
        var rest = try encrypted(bytes)[...]
        var index = 0
        while !rest.isEmpty {
            let size = sizes.isEmpty ? rest.count : max(1, sizes[min(index, sizes.count - 1)])
            index += 1
            try transmit(rest.prefix(size))
            rest = rest.dropFirst(size)
        }
    }
}
