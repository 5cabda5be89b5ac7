import CPostgresOpenSSL
import Glibc
import TestTurns
import Testing

@testable import PostgresTransport

@Suite(.inTurn, .timeLimit(.minutes(1))) struct TLSTransferTests {
    let identity: Identity
    let context: TLSContext

    init() throws {
        identity = try Identity("server", names: "DNS:db.example.test")
        context = try TLSContext(verification: .none)
    }

    private struct Shape: CustomTestStringConvertible {
        let version: Int32
        let name: String
        let chunk: Int
        let size: Int
        var testDescription: String { "\(name), \(chunk) bytes at a time" }
    }

    private static let shapes = [
        Shape(version: TLS1_2_VERSION, name: "TLSv1.2", chunk: 1, size: 20_000),
        Shape(version: TLS1_3_VERSION, name: "TLSv1.3", chunk: 1, size: 20_000),
        Shape(version: TLS1_2_VERSION, name: "TLSv1.2", chunk: 1000, size: 300_000),
        Shape(version: TLS1_2_VERSION, name: "TLSv1.2", chunk: 65_536, size: 3_000_000),
        Shape(version: TLS1_3_VERSION, name: "TLSv1.3", chunk: 65_536, size: 3_000_000),
    ]

    @Test(arguments: shapes)
    private func whatIsSentIsReceivedBothWays(_ shape: Shape) async throws {
        let link = try await TLSLink(identity, context, serverVersion: shape.version, chunk: shape.chunk)
        let channel = link.channel
        #expect(channel.isEncrypted)
        #expect(channel.tlsDescription?.hasPrefix(shape.name + ", ") == true)
        let there = pattern(shape.size, 1)
        let back = pattern(shape.size, 2)
        async let served = link.serve { server in
            let received = try server.read(exactly: there.count)
            try server.write(back)
            return received == there
        }
        let isEqual = try await BackgroundThread.run {
            Result {
                try channel.sendAll(there)
                return try channel.receive(exactly: back.count) == back
            }
        }.get()
        #expect(isEqual)
        #expect(try await served)
        #expect(channel.senderCounters.bytesSent > there.count)
        #expect(channel.readerCounters.bytesReceived > back.count)
        #expect(channel.senderCounters.sendCalls > 0)
    }

    @Test func keysMayChangeWhileBothRolesWorkOnTwoThreads() async throws {
        let link = try await TLSLink(identity, context)
        let channel = link.channel
        let message = pattern(3_000_000)
        async let served: Void = link.serve { server in
            var echoed = 0
            while echoed < message.count {
                let piece = try server.read(atMost: 1000)
                try server.updateKeys()
                try server.write(piece)
                echoed += piece.count
            }
        }
        async let sent: Void = BackgroundThread.run { Result { try channel.sendAll(message, piece: 1000) } }.get()
        async let received = BackgroundThread.run {
            Result { try channel.receive(exactly: message.count, piece: 10_000) == message }
        }.get()
        try await sent
        #expect(try await received)
        try await served
    }

    /// OpenSSL answers a request for renegotiation, with an alert, while it is reading.
    @Test func renegotiationIsRefusedByTheReader() async throws {
        let link = try await TLSLink(identity, context, serverVersion: TLS1_2_VERSION)
        let sent = link.channel.senderCounters.bytesSent
        try await link.serve { server in
            try server.requestRenegotiation()
            try server.write([1, 2])
        }
        #expect(try link.channel.receive(exactly: 2) == [1, 2])
        #expect(link.channel.senderCounters.bytesSent > sent)
        #expect(!link.channel.hasUnsentBytes)
    }

    /// As when an answer that was made while reading meets a busy sender: three threads want to empty the same queue.
    @Test func ciphertextKeepsItsOrderWhoeverSendsIt() async throws {
        let link = try await TLSLink(identity, context)
        let channel = link.channel
        let message = pattern(300_000)
        let isDone = Flag()
        async let received = link.serve { try $0.read(exactly: message.count) == message }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    try await BackgroundThread.run {
                        Result {
                            while !isDone.isSet {
                                _ = try channel.send(UnsafeRawBufferPointer(start: nil, count: 0))
                            }
                        }
                    }.get()
                }
            }
            let result = await BackgroundThread.run { Result { try channel.sendAll(message, piece: 500) } }
            isDone.set()
            try result.get()
            try await group.waitForAll()
        }
        #expect(try await received)
    }

    @Test func lessThanAskedForMeansThatNothingIsLeft() async throws {
        let link = try await TLSLink(identity, context)
        let message = pattern(40_000)
        try await link.serve { try $0.write(message) }
        var received: [UInt8] = []
        while received.count < message.count {
            let piece = try link.channel.receive(atMost: 1001)
            received += piece
            if piece.count < 1001, received.count < message.count {
                #expect(link.channel.socket.waitReadable(microseconds: 0), "or a reader would wait for ever")
            }
        }
        let isEqual = received == message
        #expect(isEqual)
        #expect(try link.channel.receive(atMost: 1) == [])
    }

    @Test func aPeerThatDoesNotReadBoundsWhatIsEncryptedAhead() async throws {
        let link = try await TLSLink(identity, context)
        let message = pattern(8_000_000)
        var accepted = 0
        while true {
            let count = try message[accepted...].withUnsafeBytes { try link.channel.send($0) }
            if count == 0 { break }
            accepted += count
        }
        #expect(link.channel.hasUnsentBytes)
        let sent = link.channel.senderCounters.bytesSent
        #expect(accepted - sent < TLSEngine.unsentLimit + 20_000)
        let channel = link.channel
        let rest = Array(message[accepted...])
        async let received = link.serve { try $0.read(exactly: message.count) == message }
        try await BackgroundThread.run { Result { try channel.sendAll(rest) } }.get()
        #expect(try await received)
        #expect(!channel.hasUnsentBytes)
    }

    @Test func aProperEndIsToldFromACut() async throws {
        for isProper in [true, false] {
            let link = try await TLSLink(identity, context)
            try await link.serve { server in
                try server.write([1, 2, 3])
                if isProper { try server.sendCloseNotify() }
            }
            link.pair.closePeer()
            #expect(try link.channel.receive(atMost: 10) == [1, 2, 3])
            for _ in 0..<2 {
                #expect(throws: TransportError.endOfFile) { try link.channel.receive(atMost: 10) }
            }
            #expect(link.channel.peerClosedCleanly == isProper)
        }
    }

    @Test func ourCloseNotifyReachesThePeer() async throws {
        let link = try await TLSLink(identity, context)
        link.channel.sendCloseNotify()
        let error = await #expect(throws: TestFailure.self) { try await link.serve { try $0.read(atMost: 1) } }
        #expect(error?.number == SSL_ERROR_ZERO_RETURN)
    }

    @Test func whatCameBeforeABadRecordIsNotLost() async throws {
        let link = try await TLSLink(identity, context)
        try await link.serve { server in
            try server.write([7, 8])
            // An application data record whose seal cannot be right.
            try server.sendRaw([23, 3, 3, 0, 32] + [UInt8](repeating: 0x55, count: 32))
        }
        #expect(try link.channel.receive(atMost: 10) == [7, 8])
        for _ in 0..<2 {
            let error = #expect(throws: TransportError.self) { try link.channel.receive(atMost: 10) }
            guard case .tls(.read, _) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        let error = #expect(throws: TransportError.self) {
            try [UInt8](repeating: 1, count: 3).withUnsafeBytes { try link.channel.send($0) }
        }
        guard case .tls(.write, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func sendingAfterThePeerHasGoneFailsForGood() async throws {
        let link = try await TLSLink(identity, context)
        link.pair.closePeer()
        for _ in 0..<2 {
            #expect(throws: TransportError.system(call: "send", errno: EPIPE)) {
                try [UInt8](repeating: 1, count: 3).withUnsafeBytes { try link.channel.send($0) }
            }
        }
        #expect(!link.channel.hasUnsentBytes, "nobody is to wait for the rest")
    }

    @Test func aPeerWithoutACommonVersionIsRefused() async throws {
        let context = try TLSContext(verification: .none, minimumVersion: .tls13)
        let error = await #expect(throws: TransportError.self) {
            _ = try await TLSLink(identity, context, serverVersion: TLS1_2_VERSION)
        }
        guard case .tls(.handshake, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test(arguments: ["HTTP/1.1 400 Bad Request\r\n\r\n", "\u{15}\u{3}\u{1}", ""])
    func aPeerThatDoesNotSpeakTLSIsRefused(_ answer: String) async throws {
        let pair = try SocketPair()
        try pair.peerWrites(Array(answer.utf8))
        _ = shutdown(pair.peer, Int32(SHUT_WR))
        let channel = ByteChannel(pair.socket)
        let error = await #expect(throws: TransportError.self) {
            try await channel.startTLS(context, serverName: nil, deadline: Deadline(after: .seconds(30)))
        }
        guard case .tls(.handshake, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(!channel.isEncrypted)
    }

    @Test func aSilentPeerTimesOut() async throws {
        let pair = try SocketPair()
        let channel = ByteChannel(pair.socket)
        let error = await #expect(throws: TransportError.self) {
            try await channel.startTLS(context, serverName: nil, deadline: Deadline(after: .milliseconds(5)))
        }
        #expect(error == .timedOut(what: "TLS handshake with /peer"))
    }

    @Test func aHandshakeCanBeCancelled() async throws {
        let pair = try SocketPair()
        let context = self.context
        let task = Task { () async -> TransportError? in
            do throws(TransportError) {
                try await ByteChannel(pair.socket).startTLS(context, serverName: nil, deadline: .never)
                return nil
            } catch {
                return error
            }
        }
        task.cancel()
        #expect(await task.value == .cancelled)
    }
}
