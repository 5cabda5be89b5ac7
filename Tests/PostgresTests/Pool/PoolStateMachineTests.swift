import Testing

@testable import Postgres

/// The rules of the pool, event by event.
struct PoolStateMachineTests {
    private let second: UInt64 = 1_000_000_000
    private let refused = PostgresError(code: .invalidPassword, message: "no")
    private let unreachable = PostgresError(code: .cannotConnect, message: "nobody there")
    private let full = PostgresError(code: .tooManyConnections, message: "full")

    private func pool(_ change: (inout PoolStateMachine.Limits) -> Void = { _ in }) -> PoolUnderTest {
        var limits = PoolStateMachine.Limits()
        limits.maximum = 2
        limits.acquireTimeout = 30 * second
        limits.idleTimeout = 600 * second
        change(&limits)
        return PoolUnderTest(limits)
    }

    @Test func connectsWhenAConnectionIsFirstWanted() throws {
        let pool = pool()
        #expect(pool.permits == 0)
        let waiter = try #require(pool.wait(now: 0))
        let id = try #require(pool.takeConnects().first)
        #expect(pool.connected(id, now: 5))
        #expect(pool.takeGrants().map(\.waiter) == [waiter])
        #expect(pool.counts.longestWait == 5)
        #expect(pool.permits == 1)
    }

    @Test func theLastUsedConnectionIsUsedNext() throws {
        let pool = pool()
        let ids = pool.openAll(2)
        pool.release(ids[0], .clean, now: 1)
        pool.release(ids[1], .clean, now: 2)
        #expect(pool.lease(now: 3)?.id == ids[1])
    }

    @Test func waitersAreServedInOrderAndOneWhoGaveUpIsSkipped() throws {
        let pool = pool()
        let ids = pool.openAll(2)
        let waiters = try (0..<4).map { _ in try #require(pool.wait(now: 10)) }
        #expect(pool.takeConnects().isEmpty)
        #expect(pool.cancel(waiters[1]))
        #expect(!pool.cancel(waiters[1]))
        pool.release(ids[1], .clean, now: 11)
        pool.release(ids[0], .clean, now: 12)
        let grants = pool.takeGrants()
        #expect(grants.map(\.waiter) == [waiters[0], waiters[2]])
        #expect(grants.map(\.granted.id) == [ids[1], ids[0]])
        #expect(pool.waiters.count == 1)
    }

    @Test func aWaiterThatGaveUpTakesNoPermit() throws {
        let pool = pool()
        let waiter = try #require(pool.wait(now: 0))
        _ = pool.cancel(waiter)
        let id = try #require(pool.takeConnects().first)
        #expect(pool.connected(id, now: 1))
        #expect(pool.idle.count == 1)
        #expect(pool.inUse == 0)
        #expect(pool.takeGrants().isEmpty)
    }

    @Test func aWaiterFailsAtItsDeadline() throws {
        let pool = pool()
        _ = pool.openAll(2)
        let waiter = try #require(pool.wait(now: 5))
        #expect(pool.wakeAt <= 5 + 30 * second)
        pool.timer(now: 4 + 30 * second)
        #expect(pool.takeFailures().isEmpty)
        pool.timer(now: 5 + 30 * second)
        #expect(pool.takeFailures() == [waiter])
        #expect(pool.counts.timeouts == 1)
    }

    @Test func eachWaiterFailsAtItsOwnDeadlineWhereverItStands() throws {
        let pool = pool()
        let ids = pool.openAll(2)
        let first = try #require(pool.wait(now: 0))
        let last = try #require(pool.wait(now: 1, until: 50))
        let other = try #require(pool.wait(now: 2, until: 40))
        let patient = try #require(pool.wait(now: 3, until: 60 * second))
        #expect(pool.wakeAt == 40)
        pool.timer(now: 40)
        #expect(pool.takeTimeouts().map(\.waiter) == [other])
        #expect(pool.wakeAt == 50)
        pool.timer(now: 50)
        let ended = pool.takeTimeouts()
        #expect(ended.map(\.waiter) == [last])
        #expect(ended.map(\.limit) == [.callersDeadline])
        #expect(ended.map(\.waited) == [49])
        // Neither moved those who stay.
        pool.release(ids[0], .clean, now: 51)
        #expect(pool.takeGrants().map(\.waiter) == [first])
        pool.timer(now: 3 + 30 * second)
        let late = pool.takeTimeouts()
        #expect(late.map(\.waiter) == [patient])
        #expect(late.map(\.limit) == [.acquireTimeout])
    }

    @Test func theDeadlinesOfThoseWhoWereServedDoNotPileUp() {
        var queue = WaiterQueue()
        let deadline = WaiterQueue.Deadline(time: 1_000_000, limit: .acquireTimeout)
        let waiting = queue.append(.shared, since: 0, until: deadline)
        for time in 1...10_000 {
            let id = queue.append(.shared, since: UInt64(time), until: deadline)
            let wasThere = queue.remove(id)
            #expect(wasThere)
        }
        #expect(queue.deadlines.count < 100)
        #expect(queue.places.count < 100)
        var earliest = queue.earliestDeadline
        #expect(earliest == 1_000_000)
        let expired = queue.popExpired(1_000_000)
        #expect(expired?.id == waiting)
        earliest = queue.earliestDeadline
        #expect(earliest == PoolStateMachine.never)
    }

    @Test func whoeverWasGivenADeadConnectionKeepsTheTurn() throws {
        let pool = pool {
            $0.maximum = 1
            $0.maximumWaiters = 3
        }
        let id = pool.openAll(1)[0]
        let waiters = try (10..<13).map { try #require(pool.wait(now: $0)) }
        pool.release(id, .clean, now: 20)
        #expect(pool.takeGrants().map(\.waiter) == [waiters[0]])
        // Somebody has taken the place that became free in the queue.
        let late = try #require(pool.wait(now: 21))
        pool.release(id, .broken, now: 22)
        let again = try #require(pool.wait(now: 22, since: 10))
        let other = try #require(pool.takeConnects().first)
        #expect(pool.connected(other, now: 23))
        #expect(pool.takeGrants().map(\.waiter) == [again])
        #expect(pool.counts.longestWait == 13, "from when it asked first")
        // Two of them keep their order.
        pool.release(other, .clean, now: 24)
        #expect(pool.takeGrants().map(\.waiter) == [waiters[1]])
        pool.release(other, .broken, now: 25)
        let second = try #require(pool.wait(now: 25, since: 11))
        let first = try #require(pool.wait(now: 26, since: 10))
        let third = try #require(pool.takeConnects().first)
        #expect(pool.connected(third, now: 27))
        for waiter in [first, second, waiters[2], late] {
            #expect(pool.takeGrants().map(\.waiter) == [waiter])
            pool.release(third, .clean, now: 28)
        }
        // Its time has not begun anew.
        _ = pool.lease(now: 30)
        _ = try #require(pool.wait(now: 31, since: 9))
        #expect(pool.wakeAt <= 9 + 30 * self.second)
    }

    @Test func thoseWhoWaitFailWhenTheLastConnectionGoesWhileNoneCanBeMade() throws {
        let pool = pool()
        let ids = pool.openAll(1)
        let waiter = try #require(pool.wait(now: 1))
        let attempt = try #require(pool.takeConnects().first)
        pool.connectFailed(attempt, .refused, refused, now: 2)
        #expect(pool.takeFailures().isEmpty, "the open one may serve it yet")
        pool.release(ids[0], .broken, now: 3)
        #expect(pool.takeFailures() == [waiter])
        #expect(pool.takeConnects().isEmpty)
        #expect(pool.waiters.isEmpty)
    }

    @Test func aTimeThatIsALittleEarlierIsNoLongWait() throws {
        let pool = pool()
        _ = try #require(pool.wait(now: 5))
        let id = try #require(pool.takeConnects().first)
        #expect(pool.connected(id, now: 4))
        #expect(pool.counts.longestWait == 0)
    }

    @Test func moreThanTheAllowedWaitersFailAtOnce() throws {
        let pool = pool { $0.maximumWaiters = 3 }
        for _ in 0..<3 { _ = try #require(pool.wait(now: 0)) }
        guard case .failed(.tooManyWaiters) = pool.acquire(.exclusive, now: 0) else {
            Issue.record("no failure")
            return
        }
    }

    @Test func aWrongPasswordFailsEverybodyAtOnceAndIsNotTriedOnceAWaiter() throws {
        let pool = pool { $0.maximum = 50 }
        let waiters = try (0..<100).map { _ in try #require(pool.wait(now: 0)) }
        let connects = pool.takeConnects()
        #expect(connects.count == 1)
        pool.connectFailed(connects[0], .refused, refused, now: 1)
        #expect(pool.takeFailures() == waiters)
        guard case .failed(.cannotConnect(let error)) = pool.acquire(.exclusive, now: 2) else {
            Issue.record("did not fail fast")
            return
        }
        #expect(error.code == .invalidPassword)
        let later = try #require(pool.breaker?.until)
        #expect(pool.wait(now: later) != nil)
        #expect(pool.takeConnects().count == 1)
    }

    @Test func theTimeWithoutAttemptsDoublesUpToABoundAndEndsWithASuccess() throws {
        let pool = pool()
        var now: UInt64 = 0
        var pauses: [UInt64] = []
        for _ in 0..<8 {
            _ = pool.wait(now: now)
            let id = try #require(pool.takeConnects().first)
            pool.connectFailed(id, .unreachable, unreachable, now: now)
            _ = pool.takeFailures()
            let until = try #require(pool.breaker?.until)
            pauses.append(until - now)
            now = until
        }
        #expect(pauses == [50, 100, 200, 400, 800, 1000, 1000, 1000].map { $0 * 1_000_000 })
        _ = pool.wait(now: now)
        let id = try #require(pool.takeConnects().first)
        #expect(pool.connected(id, now: now))
        #expect(pool.breaker == nil)
    }

    @Test func aServerThatIsFullMakesNobodyFail() throws {
        let pool = pool()
        let waiter = try #require(pool.wait(now: 0))
        let id = try #require(pool.takeConnects().first)
        pool.connectFailed(id, .full, full, now: 1)
        #expect(pool.takeFailures().isEmpty)
        let until = try #require(pool.breaker?.until)
        #expect(pool.wakeAt <= until)
        #expect(pool.wait(now: 2) != nil)
        pool.timer(now: until)
        let again = pool.takeConnects()
        #expect(again.count == 1)
        #expect(pool.connected(again[0], now: until))
        #expect(pool.takeGrants().first?.waiter == waiter)
    }

    @Test func whoeverCanBeServedByOtherConnectionsDoesNotFailWithAnAttempt() throws {
        let pool = pool()
        let ids = pool.openAll(1)
        let waiter = try #require(pool.wait(now: 1))
        let attempt = try #require(pool.takeConnects().first)
        pool.connectFailed(attempt, .unreachable, unreachable, now: 2)
        #expect(pool.takeFailures().isEmpty)
        pool.release(ids[0], .clean, now: 3)
        #expect(pool.takeGrants().map(\.waiter) == [waiter])
    }

    @Test func idleConnectionsAreClosedInTimeButNotTheMinimum() throws {
        let pool = pool {
            $0.maximum = 3
            $0.minimum = 1
        }
        for id in pool.openAll(3) { pool.release(id, .clean, now: 7) }
        pool.timer(now: 7 + 599 * second)
        #expect(pool.idle.count == 3)
        pool.timer(now: pool.wakeAt)
        #expect(pool.idle.count == 1)
        #expect(pool.counts.closes == [.idle: 2])
        #expect(pool.wakeAt == PoolStateMachine.never)
    }

    @Test func theMinimumIsRestoredAfterALoss() throws {
        let pool = pool { $0.minimum = 2 }
        let ids = pool.openAll(1)
        #expect(pool.permits == 2)
        let other = try #require(pool.takeConnects().first)
        #expect(pool.connected(other, now: 1))
        pool.release(ids[0], .clean, now: 2)
        pool.connectionEnded(ids[0], now: 3)
        #expect(pool.takeConnects().count == 1)
        #expect(pool.counts.closes == [.lost: 1])
    }

    @Test func anOldConnectionIsClosedWhenItComesBackAndWhenItIsIdle() throws {
        let pool = pool {
            $0.lifetime = 100
            $0.lifetimeJitter = 10
        }
        let ids = pool.openAll(2, random: 3)
        pool.release(ids[0], .clean, now: 50)
        pool.timer(now: 96)
        #expect(pool.counts.closes.isEmpty)
        pool.timer(now: 97)
        #expect(pool.counts.closes == [.lifetime: 1])
        pool.release(ids[1], .clean, now: 98)
        #expect(pool.counts.closes == [.lifetime: 2])
        #expect(pool.permits == 0)
    }

    @Test func aResetRidesWithTheNextUserOrIsDoneAlone() throws {
        let pool = pool()
        let id = pool.openAll(1)[0]
        pool.release(id, .clean, needsReset: true, now: 0)
        #expect(pool.lease(now: 1)?.carriesReset == true)
        // The user sent nothing: it is still due.
        pool.release(id, .clean, resetPending: true, now: 2)
        #expect(pool.counts.resets == 0)
        #expect(pool.lease(now: 3)?.carriesReset == true)
        pool.release(id, .clean, now: 4)
        #expect(pool.counts.resets == 1)
        #expect(pool.lease(now: 5)?.carriesReset == false)
        pool.release(id, .clean, needsReset: true, now: 6)
        pool.timer(now: 6 + second)
        #expect(pool.cleaning == 1)
        pool.cleaned(id, now: 7 + second)
        #expect(pool.counts.resets == 2)
        #expect(pool.lease(now: 8 + second)?.carriesReset == false)
    }

    @Test func aDirtyConnectionIsCleanedInTimeOrClosed() throws {
        let pool = pool()
        let ids = pool.openAll(2)
        pool.release(ids[0], .dirty, now: 0)
        pool.release(ids[1], .busy, now: 0)
        #expect(pool.cleaning == 2)
        let waiter = try #require(pool.wait(now: 1))
        pool.cleaned(ids[0], now: 2)
        #expect(pool.takeGrants().map(\.waiter) == [waiter])
        pool.timer(now: second)
        #expect(pool.cleaning == 0)
        #expect(pool.counts.closes == [.dirty: 1])
        // Too late.
        pool.cleaned(ids[1], now: second + 1)
        #expect(pool.open == 1)
    }

    @Test func aBrokenOrKeptConnectionIsReplacedForWhoWaits() throws {
        let pool = pool()
        let ids = pool.openAll(2)
        for _ in 0..<3 { _ = pool.wait(now: 0) }
        pool.release(ids[0], .broken, now: 1)
        pool.release(ids[1], .kept, now: 1)
        #expect(pool.takeConnects().count == 2)
        #expect(pool.counts.closes == [.lost: 1, .kept: 1])
    }

    @Test func aLeaseHeldTooLongIsReportedOnce() throws {
        let pool = pool { $0.leakTime = 10 }
        _ = pool.openAll(1)
        pool.timer(now: 9)
        #expect(pool.counts.leaks == 0)
        #expect(pool.wakeAt == 10)
        pool.timer(now: 10)
        pool.timer(now: 30)
        #expect(pool.counts.leaks == 1)
    }

    @Test func statementsShareAConnectionUpToTheDepthAndNobodyOvertakes() throws {
        let pool = pool {
            $0.maximum = 1
            $0.sharedDepth = 3
        }
        let id = pool.openAll(1, .shared)[0]
        #expect(pool.lease(.shared, now: 1)?.isJoined == true)
        let exclusive = try #require(pool.wait(.exclusive, now: 2))
        // There would be room, but somebody waits.
        let shared = try #require(pool.wait(.shared, now: 3))
        pool.release(id, .busy, now: 4)
        #expect(pool.takeGrants().isEmpty)
        pool.release(id, .clean, now: 5)
        #expect(pool.takeGrants().map(\.waiter) == [exclusive])
        pool.release(id, .clean, now: 6)
        #expect(pool.takeGrants().map(\.waiter) == [shared])
    }

    @Test(arguments: [true, false])
    func whoeverWaitsBehindOneWhoGivesUpJoinsAtOnce(isCancelled: Bool) throws {
        let pool = pool {
            $0.maximum = 1
            $0.sharedDepth = 3
        }
        let id = pool.openAll(1, .shared)[0]
        let exclusive = try #require(pool.wait(.exclusive, now: 1, until: 10))
        let shared = try (2..<5).map { try #require(pool.wait(.shared, now: $0)) }
        #expect(pool.takeGrants().isEmpty)
        if isCancelled {
            #expect(pool.cancel(exclusive, now: 10))
        } else {
            pool.timer(now: 10)
            #expect(pool.takeFailures() == [exclusive])
        }
        let grants = pool.takeGrants()
        #expect(grants.map(\.waiter) == [shared[0], shared[1]])
        #expect(
            grants.allSatisfy { $0.granted == PoolStateMachine.Granted(id: id, carriesReset: false, isJoined: true) })
        pool.release(id, .clean, now: 11)
        #expect(pool.takeGrants().map(\.waiter) == [shared[2]])
    }

    @Test func whoeverWaitsBehindOneWhoIsServedJoinsAnotherConnection() throws {
        let pool = pool { $0.sharedDepth = 2 }
        let full = pool.openAll(1, .shared)[0]
        #expect(pool.lease(.shared, now: 1)?.id == full)
        _ = try #require(pool.wait(.shared, now: 2))
        let other = try #require(pool.takeConnects().first)
        #expect(pool.connected(other, now: 3))
        _ = pool.takeGrants()
        let exclusive = try #require(pool.wait(.exclusive, now: 4))
        let shared = try #require(pool.wait(.shared, now: 5))
        // There is room now, but not for the first.
        pool.release(full, .clean, now: 6)
        #expect(pool.takeGrants().isEmpty)
        pool.release(other, .clean, now: 7)
        let grants = pool.takeGrants()
        #expect(grants.map(\.waiter) == [exclusive, shared])
        #expect(grants.map(\.granted.id) == [other, full])
    }

    @Test func aSharedConnectionThatNeverPausesEndsInItsTime() throws {
        let pool = pool {
            $0.maximum = 1
            $0.sharedDepth = 2
            $0.lifetime = 100
        }
        let id = pool.openAll(1, .shared)[0]
        // Each user comes before the one before it leaves.
        for now: UInt64 in stride(from: 10, to: 100, by: 10) {
            #expect(pool.lease(.shared, now: now)?.id == id)
            pool.release(id, .clean, now: now + 5)
        }
        let waiter = try #require(pool.wait(.shared, now: 100))
        pool.release(id, .clean, now: 105)
        #expect(pool.counts.closes == [.lifetime: 1])
        let next = try #require(pool.takeConnects().first)
        #expect(pool.connected(next, now: 110))
        #expect(pool.takeGrants().map(\.waiter) == [waiter])
    }

    @Test func shutdownAnswersAThousandWaitersOnceAndLetsLeasesFinish() throws {
        let pool = pool()
        let ids = pool.openAll(2)
        let waiters = try (0..<1000).map { _ in try #require(pool.wait(now: 0)) }
        pool.shutDown()
        #expect(pool.takeFailures() == waiters)
        #expect(!pool.takeFinish())
        guard case .failed(.shutDown) = pool.acquire(.exclusive, now: 1) else {
            Issue.record("still open")
            return
        }
        pool.release(ids[0], .clean, now: 2)
        #expect(!pool.takeFinish())
        pool.endLeases()
        #expect(pool.takeFinish())
        #expect(pool.permits == 0)
        // Its user comes back later.
        pool.release(ids[1], .clean, now: 3)
        #expect(pool.permits == 0)
        #expect(pool.counts.closes == [.shutdown: 2])
    }
}

/// A machine whose actions are taken kind by kind. (A class, because `#expect` cannot call what mutates.)
@dynamicMemberLookup
private final class PoolUnderTest {
    private var machine: PoolStateMachine

    init(_ limits: PoolStateMachine.Limits) { machine = PoolStateMachine(limits) }

    subscript<Value>(dynamicMember path: KeyPath<PoolStateMachine, Value>) -> Value { machine[keyPath: path] }

    func acquire(
        _ use: PoolStateMachine.Use, now: UInt64, until: UInt64 = PoolStateMachine.never, since: UInt64? = nil
    ) -> PoolStateMachine.Acquisition {
        machine.acquire(use, now: now, until: until, since: since)
    }

    func wait(
        _ use: PoolStateMachine.Use = .exclusive, now: UInt64, until: UInt64 = PoolStateMachine.never,
        since: UInt64? = nil
    ) -> WaiterQueue.ID? {
        if case .wait(let waiter) = acquire(use, now: now, until: until, since: since) { waiter } else { nil }
    }

    func lease(_ use: PoolStateMachine.Use = .exclusive, now: UInt64) -> PoolStateMachine.Granted? {
        if case .granted(let granted) = acquire(use, now: now) { granted } else { nil }
    }

    func cancel(_ waiter: WaiterQueue.ID, now: UInt64 = 0) -> Bool { machine.cancel(waiter, now: now) }

    func release(
        _ id: PoolStateMachine.ConnectionID, _ condition: PoolStateMachine.Condition, resetPending: Bool = false,
        needsReset: Bool = false, now: UInt64
    ) {
        machine.release(id, condition, resetPending: resetPending, needsReset: needsReset, now: now)
    }

    func connected(_ id: PoolStateMachine.ConnectionID, random: UInt64 = 0, now: UInt64) -> Bool {
        machine.connected(id, random: random, now: now)
    }

    func connectFailed(
        _ id: PoolStateMachine.ConnectionID, _ kind: PoolStateMachine.ConnectFailure, _ error: PostgresError,
        now: UInt64
    ) {
        machine.connectFailed(id, kind, error, random: 0, now: now)
    }

    func connectionEnded(_ id: PoolStateMachine.ConnectionID, now: UInt64) { machine.connectionEnded(id, now: now) }

    func cleaned(_ id: PoolStateMachine.ConnectionID, now: UInt64) {
        machine.cleaned(id, succeeded: true, didReset: true, now: now)
    }

    func timer(now: UInt64) { machine.timer(now: now) }
    func shutDown() { machine.shutDown() }
    func endLeases() { machine.endLeases() }

    /// Opens so many connections at time 0, all in use.
    func openAll(
        _ count: Int, _ use: PoolStateMachine.Use = .exclusive, random: UInt64 = 0
    ) -> [PoolStateMachine.ConnectionID] {
        for _ in 0..<count { _ = wait(use, now: 0) }
        var ids: [PoolStateMachine.ConnectionID] = []
        while ids.count < count {
            for id in takeConnects() where ids.count < count {
                _ = connected(id, random: random, now: 0)
                ids.append(id)
            }
        }
        _ = takeGrants()
        return ids
    }

    private func take<Value>(_ pick: (PoolStateMachine.Action) -> Value?) -> [Value] {
        var taken: [Value] = []
        machine.actions.removeAll { action in
            guard let value = pick(action) else { return false }
            taken.append(value)
            return true
        }
        return taken
    }

    func takeConnects() -> [PoolStateMachine.ConnectionID] {
        take { if case .connect(let id) = $0 { id } else { nil } }
    }

    func takeFailures() -> [WaiterQueue.ID] { take { if case .fail(let waiter, _) = $0 { waiter } else { nil } } }

    func takeTimeouts() -> [(waiter: WaiterQueue.ID, limit: PoolStateMachine.TimeLimit, waited: UInt64)] {
        take {
            if case .fail(let waiter, .timedOut(let limit, let waited, _)) = $0 { (waiter, limit, waited) } else { nil }
        }
    }

    func takeGrants() -> [(waiter: WaiterQueue.ID, granted: PoolStateMachine.Granted)] {
        take { if case .grant(let waiter, let granted) = $0 { (waiter, granted) } else { nil } }
    }

    func takeFinish() -> Bool { !take { if case .finishShutdown = $0 { true } else { nil } }.isEmpty }
}
