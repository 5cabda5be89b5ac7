import Glibc
import PostgresTesting
import TestTurns
import Testing

/// The fault proxy between two plain sockets of this process.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct FaultProxyTests {
    typealias Address = PostgresEphemeralServer.Address
    typealias Direction = PostgresFaultProxy.Direction
    typealias Ending = PostgresFaultProxy.Ending

    /// A client and a server on both sides of a proxy.
    struct Ends {
        let proxy: PostgresFaultProxy
        let client: PlainSocket
        let server: PlainSocket

        init(
            _ faults: PostgresFaultProxy.Faults = .init(), _ address: Address = .tcp
        ) async throws {
            let listener = try PlainListener(address)
            proxy = try PostgresFaultProxy(to: listener.server, listeningOn: address)
            proxy.faults = faults
            client = try PlainSocket(to: proxy)
            server = try await listener.accept()
        }

        func sender(_ direction: Direction) -> PlainSocket { direction == .toServer ? client : server }
        func receiver(_ direction: Direction) -> PlainSocket { direction == .toServer ? server : client }
    }

    private let message = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

    @Test(arguments: Address.allCases, Direction.allCases)
    func everythingIsForwardedAndCounted(_ address: Address, _ direction: Direction) async throws {
        let ends = try await Ends(.init(), address)
        let (sender, receiver) = (ends.sender(direction), ends.receiver(direction))
        sender.send(message)
        #expect(await receiver.read(message.count) == message)
        let proxy = ends.proxy
        #expect(await eventually { proxy.lastConnection?.bytes(direction) == message.count })
        #expect(proxy.lastConnection?.bytes(direction == .toServer ? .toClient : .toServer) == 0)

        // The end goes through as it came: one way, then the other.
        sender.endWriting()
        #expect(await receiver.readToEnd() == PlainSocket.Remainder(bytes: [], ending: .end))
        receiver.send([1, 2, 3])
        receiver.endWriting()
        #expect(await sender.readToEnd() == PlainSocket.Remainder(bytes: [1, 2, 3], ending: .end))
        #expect(await eventually { proxy.openConnectionCount == 0 })
        await proxy.stop()
    }

    @Test func faultsOfTheNextConnectionsHoldOnceEach() async throws {
        let listener = try PlainListener(.tcp)
        let proxy = try PostgresFaultProxy(to: listener.server, listeningOn: .tcp)
        proxy.faults = .init(cut: .init(.close, after: 5, of: .toServer))
        proxy.nextFaults = [.init(), .init(cut: .init(.close, after: 3, of: .toServer))]
        for count in [10, 3, 5, 5] {
            let client = try PlainSocket(to: proxy)
            let server = try await listener.accept()
            client.send(Array(1...10))
            client.endWriting()
            #expect(await server.readToEnd().bytes == Array(1...UInt8(count)))
        }
        #expect(proxy.nextFaults.isEmpty)
        await proxy.stop()
    }

    @Test func aTurnIsCountedWhenTheClientSendsAgainAfterAnAnswer() async throws {
        let ends = try await Ends()
        // Two questions before the first answer are one turn; two answers before the next question, too.
        for turn in 1...3 {
            for _ in 0..<2 {
                ends.client.send([1])
                #expect(await ends.server.read(1) == [1])
            }
            #expect(await eventually { ends.proxy.lastConnection?.turns == turn })
            for _ in 0..<2 {
                ends.server.send([2])
                #expect(await ends.client.read(1) == [2])
            }
        }
        await ends.proxy.stop()
    }

    @Test(arguments: Ending.allCases, Direction.allCases)
    func aCutIsBehindExactlyItsByte(_ ending: Ending, _ direction: Direction) async throws {
        for address in Address.allCases {
            for offset in [0, 1, 4999, 5000] {
                let ends = try await Ends(.init(cut: .init(ending, after: offset, of: direction)), address)
                let (sender, receiver) = (ends.sender(direction), ends.receiver(direction))
                let proxy = ends.proxy
                sender.send(message)
                #expect(await eventually { proxy.lastConnection?.wasCut == true })
                #expect(proxy.lastConnection?.bytes(direction) == offset)
                let prefix = message.prefix(offset)
                switch ending {
                case .close:
                    #expect(await receiver.readToEnd() == PlainSocket.Remainder(bytes: prefix, ending: .end))
                    #expect(await sender.readToEnd() == PlainSocket.Remainder(bytes: [], ending: .end))
                case .reset:
                    let received = await receiver.readToEnd()
                    #expect(received.bytes == Array(prefix))
                    if address == .tcp { #expect(received.ending == .reset) }
                    #expect(await eventually { proxy.openConnectionCount == 0 })
                case .halfClose:
                    #expect(await receiver.readToEnd() == PlainSocket.Remainder(bytes: prefix, ending: .end))
                    receiver.send([4, 5, 6])
                    #expect(await sender.read(3) == [4, 5, 6])
                case .stall:
                    #expect(await receiver.read(offset) == Array(prefix))
                    receiver.send([4, 5, 6])
                    #expect(await receiver.isSilent())
                    #expect(await sender.isSilent())
                    #expect(proxy.openConnectionCount == 1)
                    // A peer that gives up frees the other.
                    sender.close()
                    #expect(await receiver.readToEnd().bytes == [])
                }
                ends.client.close()
                ends.server.close()
                #expect(await eventually { proxy.openConnectionCount == 0 })
                await proxy.stop()
            }
        }
    }

    @Test(arguments: Direction.allCases)
    func piecesAreOfTheSizesAskedFor(_ direction: Direction) async throws {
        // With a pause that the receiver, which does nothing else, keeps up with most of the time; on a busy machine now and then.
        var faults = PostgresFaultProxy.Faults()
        var pace = PostgresFaultProxy.Pace.byteByByte
        pace.pause = .milliseconds(2) ... .milliseconds(3)
        faults.toServer = pace
        faults.toClient = pace
        let ends = try await Ends(faults)
        let (sender, receiver) = (ends.sender(direction), ends.receiver(direction))
        let begin = ContinuousClock.now
        sender.send(Array(message.prefix(100)))
        let sizes = await receiver.sizesOfReads(until: 100)
        #expect(sizes.reduce(0, +) == 100)
        #expect(sizes.count > 5)
        #expect(ContinuousClock.now - begin >= .milliseconds(150))
        await ends.proxy.stop()
    }

    @Test func coalescedWritesArriveTogether() async throws {
        var faults = PostgresFaultProxy.Faults()
        faults.toServer.coalescing = .seconds(1)
        let ends = try await Ends(faults)
        for byte in message.prefix(50) { ends.client.send([byte]) }
        #expect(await ends.server.sizesOfReads(until: 50) == [50])
        await ends.proxy.stop()
    }

    @Test(arguments: Direction.allCases)
    func bytesAreDelayedWithoutHoldingUpEachOther(_ direction: Direction) async throws {
        var faults = PostgresFaultProxy.Faults()
        faults.toServer.delay = .milliseconds(500)
        faults.toClient.delay = .milliseconds(500)
        let ends = try await Ends(faults)
        let (sender, receiver) = (ends.sender(direction), ends.receiver(direction))
        let begin = ContinuousClock.now
        for chunk in stride(from: 0, to: message.count, by: 500) { sender.send(Array(message[chunk..<(chunk + 500)])) }
        #expect(await receiver.read(message.count) == message)
        let time = ContinuousClock.now - begin
        #expect(time >= .milliseconds(500))
        // Ten chunks one after the other would take five seconds.
        #expect(time < .milliseconds(4900))
        await ends.proxy.stop()
    }

    @Test func aSlowLinkTakesItsTime() async throws {
        var faults = PostgresFaultProxy.Faults()
        faults.toServer.bytesPerSecond = 20_000
        let ends = try await Ends(faults)
        let begin = ContinuousClock.now
        ends.client.send(message)
        #expect(await ends.server.read(message.count) == message)
        #expect(ContinuousClock.now - begin >= .milliseconds(220))
        await ends.proxy.stop()
    }

    @Test func everySeedForwardsEverythingAndDrawsTheSame() async throws {
        for seed in UInt64(0)..<40 {
            #expect(PostgresFaultProxy.Faults.random(seed: seed) == .random(seed: seed))
            var faults = PostgresFaultProxy.Faults.random(seed: seed)
            // At most 200 microseconds for each byte.
            faults.toServer.pause = .zero ... .microseconds(10)
            let ends = try await Ends(faults, seed.isMultiple(of: 2) ? .tcp : .unixSocket)
            ends.client.send(message)
            ends.client.endWriting()
            let received = await ends.server.readToEnd()
            #expect(received == PlainSocket.Remainder(bytes: message[...], ending: .end), "seed \(seed)")
            await ends.proxy.stop()
        }
        #expect(Set((UInt64(0)..<40).map { PostgresFaultProxy.Faults.random(seed: $0) }).count == 40)
    }

    @Test(arguments: Ending.allCases)
    func openConnectionsCanBeEndedAtAnyTime(_ ending: Ending) async throws {
        let ends = try await Ends()
        let proxy = ends.proxy
        ends.client.send([1])
        #expect(await ends.server.read(1) == [1])
        proxy.endConnections(ending)
        switch ending {
        case .close, .halfClose: #expect(await ends.client.readToEnd().ending == .end)
        case .reset: #expect(await ends.client.readToEnd().ending == .reset)
        case .stall:
            // Without a bound: the command reaches the thread before or after these bytes, but never later than the next.
            #expect(
                await eventually {
                    ends.server.send([9])
                    return await ends.client.isSilent()
                })
        }
        await proxy.stop()
    }

    /// A name can have an address at which nobody listens, as ::1 of localhost here.
    @Test(arguments: ["localhost", "127.0.0.1"])
    func aServerIsReachedByTheNameOfItsHost(_ host: String) async throws {
        let listener = try PlainListener(.tcp)
        guard case .tcp(let port) = listener.server else { throw PlainSocket.Failure() }
        let proxy = try PostgresFaultProxy(to: .host(host, port: port))
        let client = try PlainSocket(to: proxy)
        let server = try await listener.accept()
        client.send(message)
        #expect(await server.read(message.count) == message)
        server.send([1, 2, 3])
        #expect(await client.read(3) == [1, 2, 3])
        await proxy.stop()
    }

    @Test func aServerThatIsNotThereResetsTheClient() async throws {
        let listener = try PlainListener(.tcp)
        let server = listener.server
        listener.close()
        let proxy = try PostgresFaultProxy(to: server)
        let client = try PlainSocket(to: proxy)
        #expect(await client.readToEnd().ending == .reset)
        #expect(await eventually { proxy.lastConnection?.reachedServer == false })
        #expect(proxy.openConnectionCount == 0)
        await proxy.stop()
    }

    @Test(arguments: Address.allCases)
    func stopClosesEverythingAndTheListener(_ address: Address) async throws {
        let ends = try await Ends(.init(), address)
        let proxy = ends.proxy
        await proxy.stop()
        #expect(proxy.openConnectionCount == 0)
        #expect(await ends.client.readToEnd().bytes == [])
        #expect(await ends.server.readToEnd().bytes == [])
        #expect(throws: PlainSocket.Failure.self) { try PlainSocket(to: proxy) }
        if let folder = proxy.socketFolder { #expect(access(folder, F_OK) != 0) }
    }

    @Test func aProxyThatNobodyRefersToEndsByItself() async throws {
        let listener = try PlainListener(.tcp)
        var proxy: PostgresFaultProxy? = try PostgresFaultProxy(to: listener.server)
        let client = try PlainSocket(to: #require(proxy))
        let server = try await listener.accept()
        proxy = nil
        _ = proxy
        #expect(await client.readToEnd().bytes == [])
        #expect(await server.readToEnd().bytes == [])
    }
}
