import Glibc
import Synchronization
import TestTurns
import Testing

@testable import PostgresTransport

@Suite(.inTurn, .timeLimit(.minutes(1))) struct EventLoopTests {
    let loop = EventLoop()

    @Test func aHandlerHearsOfWhatItIsInterestedIn() async throws {
        defer { loop.stop() }
        let pair = try SocketPair(loop: loop)
        let handler = RecordingHandler(loop)
        let registration = try loop.register(handler, descriptor: pair.socket.descriptor)
        defer { loop.deregister(registration, descriptor: pair.socket.descriptor) }
        try pair.peerWrites([1])
        try await loop.barrier()
        #expect(handler.readiness == [], "the interest begins empty")
        loop.setInterest(.readable, of: registration, descriptor: pair.socket.descriptor)
        try await loop.barrier()
        #expect(handler.readiness.first == .readable)
        #expect(handler.readiness.count > 1, "level-triggered: told again until it is read")
        loop.setInterest([.writable], of: registration, descriptor: pair.socket.descriptor)
        try await loop.barrier()
        #expect(handler.readiness.last == .writable)
        #expect(handler.record.withLock { $0.wasAlwaysOnLoop })
    }

    @Test func aHangupIsToldOnceWhileTheInterestIsEmpty() async throws {
        defer { loop.stop() }
        let pair = try SocketPair(loop: loop)
        let handler = RecordingHandler(loop)
        let registration = try loop.register(handler, descriptor: pair.socket.descriptor)
        defer { loop.deregister(registration, descriptor: pair.socket.descriptor) }
        pair.closePeer()
        try await loop.barrier()
        try await loop.barrier()
        #expect(handler.readiness == [[.readable, .writable, .hangup]])
    }

    @Test func nothingIsToldAfterDeregistering() async throws {
        defer { loop.stop() }
        let pair = try SocketPair(loop: loop)
        let handler = RecordingHandler(loop)
        let registration = try loop.register(handler, descriptor: pair.socket.descriptor)
        loop.setInterest(.readable, of: registration, descriptor: pair.socket.descriptor)
        loop.deregister(registration, descriptor: pair.socket.descriptor)
        loop.deregister(registration, descriptor: pair.socket.descriptor)
        try pair.peerWrites([1])
        try await loop.barrier()
        #expect(handler.readiness == [])
    }

    @Test func aDescriptorThatEpollRefusesIsAnErrorAndLeavesNoRegistration() throws {
        defer { loop.stop() }
        #expect(throws: TransportError.system(call: "epoll_ctl(EPOLL_CTL_ADD)", errno: EBADF)) {
            try loop.register(RecordingHandler(loop), descriptor: -1)
        }
    }

    /// Both descriptors are ready in the same batch of events. The first handler that is called replaces the other by a
    /// third, in the same slot: the event that was meant for the second must reach nobody.
    @Test func aLateEventReachesNoOtherHandler() async throws {
        defer { loop.stop() }
        let loop = self.loop
        let pairs = [try SocketPair(loop: loop), try SocketPair(loop: loop), try SocketPair(loop: loop)]
        let registrations = Lock<[Registration]>([])
        let heir = RecordingHandler(loop)
        let calls = Lock<[Int]>([])
        let heirs = Lock<Registration?>(nil)
        let handlers = [0, 1].map { index in
            RecordingHandler(loop) { _ in
                let isFirst = calls.withLock { calls in
                    calls.append(index)
                    return calls.count == 1
                }
                guard isFirst else { return }
                let other = 1 - index
                let registered = registrations.withLock { $0 }
                loop.deregister(registered[other], descriptor: pairs[other].socket.descriptor)
                loop.deregister(registered[index], descriptor: pairs[index].socket.descriptor)
                // The free list gives back the last slot first; take both, so that the late event's is among them.
                for pair in [pairs[2], pairs[other]] {
                    let new = try? loop.register(heir, descriptor: pair.socket.descriptor)
                    if pair === pairs[2] { heirs.withLock { $0 = new } }
                }
            }
        }
        for (handler, pair) in zip(handlers, pairs) {
            let registration = try loop.register(handler, descriptor: pair.socket.descriptor)
            registrations.withLock { $0.append(registration) }
        }
        // Hold the loop until both are ready.
        let gate = Gate()
        loop.scheduleTurn(Turn { gate.wait() })
        for (registration, pair) in zip(registrations.withLock { $0 }, pairs) {
            loop.setInterest(.readable, of: registration, descriptor: pair.socket.descriptor)
            try pair.peerWrites([1])
        }
        gate.open()
        try await loop.barrier()
        #expect(calls.withLock { $0.count } == 1)
        #expect(heir.readiness == [])
        let heirRegistration = try #require(heirs.withLock { $0 })
        let slots = registrations.withLock { $0.map(\.slot) }
        #expect(slots.contains(heirRegistration.slot), "else this test shows nothing")
    }

    @Test func theTableKnowsGenerations() throws {
        var table = RegistrationTable()
        let first = RecordingHandler(loop)
        let second = RecordingHandler(loop)
        let old = table.insert(first, holding: .weak)
        #expect(Registration(eventData: old.eventData) == old)
        #expect(table.handler(of: old) === first)
        #expect(table.remove(old).removed)
        #expect(!table.remove(old).removed)
        let new = table.insert(second, holding: .strong)
        #expect(new.slot == old.slot)
        #expect(table.handler(of: old) == nil)
        #expect(table.handler(of: new) === second)
        #expect(table.handler(of: Registration(slot: 99, generation: 0)) == nil)
    }

    @Test func aWeaklyHeldHandlerMayGoAway() async throws {
        defer { loop.stop() }
        let pair = try SocketPair(loop: loop)
        var handler: RecordingHandler? = RecordingHandler(loop)
        weak let observer = handler
        let registration = try loop.register(try #require(handler), descriptor: pair.socket.descriptor)
        loop.setInterest(.readable, of: registration, descriptor: pair.socket.descriptor)
        handler = nil
        #expect(observer == nil)
        try pair.peerWrites([1])
        try await loop.barrier()
        loop.deregister(registration, descriptor: pair.socket.descriptor)
    }

    @Test func aStronglyHeldHandlerLivesUntilItIsDeregistered() async throws {
        defer { loop.stop() }
        let pair = try SocketPair(loop: loop)
        var handler: RecordingHandler? = RecordingHandler(loop)
        weak let observer = handler
        let registration = try loop.register(
            try #require(handler), descriptor: pair.socket.descriptor, holding: .strong)
        handler = nil
        #expect(observer != nil)
        loop.deregister(registration, descriptor: pair.socket.descriptor)
        try await loop.barrier()
        #expect(observer == nil)
    }

    @Test func aTurnRunsOncePerRequestOnTheLoop() async throws {
        defer { loop.stop() }
        let handler = RecordingHandler(loop)
        for _ in 0..<100 { loop.scheduleTurn(handler) }
        try await loop.barrier()
        #expect(handler.record.withLock { $0.turns } == 100)
        #expect(handler.record.withLock { $0.wasAlwaysOnLoop })
    }

    @Test func aTurnAskedForFromTheLoopRunsToo() async throws {
        defer { loop.stop() }
        let loop = self.loop
        let completion = Completion<Bool>()
        loop.scheduleTurn(
            Turn {
                let isInside = Lock(true)
                loop.scheduleTurn(Turn { completion.finish(.success(isInside.withLock { !$0 })) })
                isInside.withLock { $0 = false }
            })
        #expect(try await completion.value(), "a later turn, not a call inside the first")
    }

    @Test func aPauseEndsOnceAndHoldsNobodyElseUp() async throws {
        defer { loop.stop() }
        let loop = self.loop
        let pauses = Lock(0)
        let over = Completion<Void>()
        let handler = Pausing {
            pauses.withLock { $0 += 1 }
            over.finish(.success(()))
        }
        loop.scheduleTurn(Turn { loop.pause(handler) })
        for _ in 0..<100 { try await loop.barrier() }
        try await over.value()
        for _ in 0..<100 { try await loop.barrier() }
        #expect(pauses.withLock { $0 } == 1)
    }

    @Test func aHandlerLivesUntilItsTurn() async throws {
        defer { loop.stop() }
        let completion = Completion<Void>()
        loop.scheduleTurn(Turn { completion.finish(.success(())) })
        try await completion.value()
    }

    @Test func timersRunInOrderOnTheLoop() async throws {
        defer { loop.stop() }
        let loop = self.loop
        let order = Lock<[Int]>([])
        let completion = Completion<Bool>()
        let start = Deadline.now
        let after = { @Sendable (milliseconds: UInt64) in
            Deadline(nanoseconds: start.nanoseconds + milliseconds * 1_000_000)
        }
        // On the loop's own thread: there none can go off before all are set, however busy the machine is.
        loop.scheduleTurn(
            Turn {
                _ = loop.schedule(at: after(8)) {
                    completion.finish(.success(loop.isCurrent && Deadline.now.nanoseconds >= after(8).nanoseconds))
                }
                _ = loop.schedule(at: after(4)) { order.withLock { $0.append(2) } }
                _ = loop.schedule(at: after(2)) { order.withLock { $0.append(1) } }
                let cancelled = loop.schedule(at: after(3)) { order.withLock { $0.append(99) } }
                #expect(loop.cancel(cancelled))
                #expect(!loop.cancel(cancelled))
            })
        #expect(try await completion.value())
        #expect(order.withLock { $0 } == [1, 2])
    }

    @Test func theHeapKeepsOrderUnderInsertionsAndCancellations() {
        var random = SystemRandomNumberGenerator()
        var heap = TimerHeap()
        let ran = Lock<[UInt64]>([])
        var timers: [EventLoop.Timer] = []
        for _ in 0..<500 {
            let time = UInt64.random(in: 0..<1000, using: &random)
            let timer = EventLoop.Timer(Deadline(nanoseconds: time)) { ran.withLock { $0.append(time) } }
            timers.append(timer)
            heap.insert(timer)
            if timers.count % 3 == 0 {
                let index = Int.random(in: 0..<timers.count, using: &random)
                #expect(heap.remove(timers.remove(at: index)) != nil)
            }
        }
        while let action = heap.popDue(at: Deadline(nanoseconds: 1000)) { action() }
        let times = ran.withLock { $0 }
        #expect(times.count == timers.count)
        #expect(times == times.sorted())
        #expect(heap.isEmpty)
    }

    @Test func sleepingCanBeCancelled() async {
        defer { loop.stop() }
        let loop = self.loop
        let task = Task { () async -> TransportError? in
            do throws(TransportError) {
                try await loop.sleep(until: .never)
                return nil
            } catch {
                return error
            }
        }
        task.cancel()
        #expect(await task.value == .cancelled)
    }
}

@Suite(.inTurn, .timeLimit(.minutes(1))) struct EventLoopExecutorTests {
    let loop = EventLoop()

    private actor Resident {
        nonisolated let loop: EventLoop
        nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
        var count = 0
        init(_ loop: EventLoop) { self.loop = loop }

        func increment() -> Bool {
            count += 1
            return loop.isCurrent
        }
    }

    @Test func aTaskThatPrefersTheLoopRunsOnItWithItsChildren() async {
        defer { loop.stop() }
        let loop = self.loop
        let task = Task(executorPreference: loop) {
            var all = loop.isCurrent
            all = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<100 {
                    group.addTask {
                        await Task.yield()
                        return loop.isCurrent
                    }
                }
                return await group.reduce(all) { $0 && $1 }
            }
            return all
        }
        #expect(await task.value)
    }

    @Test func anActorCanLiveOnTheLoop() async {
        defer { loop.stop() }
        let resident = Resident(loop)
        for _ in 0..<100 { #expect(await resident.increment()) }
        #expect(await resident.count == 100)
    }

    @Test func theLoopCountsAsIsolatingItsResidents() async throws {
        defer { loop.stop() }
        let resident = Resident(loop)
        let completion = Completion<Int>()
        loop.scheduleTurn(Turn { completion.finish(.success(resident.assumeIsolated { $0.count })) })
        #expect(try await completion.value() == 0)
        #expect(loop.isIsolatingCurrentContext() == false)
    }

    @Test func manyThreadsCanEnqueueAtOnce() async {
        defer { loop.stop() }
        let loop = self.loop
        let resident = Resident(loop)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<64 {
                group.addTask { for _ in 0..<100 { _ = await resident.increment() } }
            }
        }
        #expect(await resident.count == 6400)
    }

    /// If the loop ran jobs for as long as there are any, it would never look at the descriptor.
    @Test func jobsDoNotStarveDescriptors() async throws {
        defer { loop.stop() }
        let loop = self.loop
        let pair = try SocketPair(loop: loop)
        let isReady = Atomic(false)
        try await withTaskExecutorPreference(loop) {
            let handler = RecordingHandler(loop) { _ in isReady.store(true, ordering: .relaxed) }
            let registration = try loop.register(handler, descriptor: pair.socket.descriptor)
            loop.setInterest(.readable, of: registration, descriptor: pair.socket.descriptor)
            try pair.peerWrites([1])
            while !isReady.load(ordering: .relaxed) { await Task.yield() }
            loop.deregister(registration, descriptor: pair.socket.descriptor)
        }
    }

    @Test func aStoppedLoopHasNoThread() async throws {
        try await loop.barrier()
        loop.stop()
        loop.stop()
        #expect(!loop.isCurrent)
    }

    @Test func aLoopThatWasNeverUsedCanBeStopped() {
        EventLoop().stop()
    }
}

@Suite(.inTurn, .timeLimit(.minutes(1))) struct BackgroundThreadTests {
    @Test func workRunsOnAThreadOfItsOwn() async {
        let other = await BackgroundThread.run { pthread_self() }
        #expect(pthread_equal(other, pthread_self()) == 0)
        #expect(await !BackgroundThread.run { EventLoop.shared.isCurrent })
    }

    @Test func workThatTakesTooLongIsLeftAlone() async {
        let gate = Gate()
        defer { gate.open() }
        let error = await #expect(throws: TransportError.self) {
            try await BackgroundThread.run(
                until: Deadline(after: .milliseconds(5)), loop: .shared, what: "thinking"
            ) { gate.wait() }
        }
        #expect(error == .timedOut(what: "thinking"))
    }

    @Test func cancellingTheTaskDoesNotWaitForTheWork() async {
        let gate = Gate()
        defer { gate.open() }
        let task = Task { () async -> TransportError? in
            do throws(TransportError) {
                try await BackgroundThread.run(until: .never, loop: .shared, what: "thinking") { gate.wait() }
                return nil
            } catch {
                return error
            }
        }
        task.cancel()
        #expect(await task.value == .cancelled)
    }

    @Test func theResultComesInTime() async throws {
        let sum = try await BackgroundThread.run(
            until: Deadline(after: .seconds(30)), loop: .shared, what: "adding"
        ) { (1...100).reduce(0, +) }
        #expect(sum == 5050)
    }
}
