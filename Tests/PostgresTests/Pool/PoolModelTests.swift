import TestTurns
import Testing

@testable import Postgres

/// Random events against a model that knows only who asked, who holds what, and what the rules are.
@Suite(.serialized) struct PoolModelTests {
    @Test(arguments: [UInt64(1), 20_261_124, .random(in: 0...UInt64.max)])
    func aThirdOfAMillionRandomEventsKeepTheInvariants(_ seed: UInt64) async throws {
        print("pool model: seed \(seed)")
        if let broken = try await onThread({ Self.run(seed) }) { Issue.record("\(broken)") }
    }

    /// - Returns: what was wrong, if anything.
    private static func run(_ seed: UInt64) -> String? {
        var random = ModelRandom(state: seed)
        var events = 0
        while events < 340_000 {
            var model = PoolModel(&random)
            let length = min(2000 + Int(random.next() % 20_000), 340_000 - events)
            for _ in 0..<max(1, length) {
                model.step(&random)
                if let broken = model.broken { return "seed \(seed), event \(events): \(broken)" }
                events += 1
            }
            if let broken = model.end() { return "seed \(seed), at the end: \(broken)" }
        }
        return nil
    }
}

struct PoolModel {
    var pool: PoolStateMachine
    var now: UInt64 = 1
    /// Those who wait, in the order in which they are to be served.
    var waiting: [Waiting] = []
    var answered: Set<WaiterQueue.ID> = []
    var holders: [Holder] = []
    var exclusive: Set<PoolStateMachine.ConnectionID> = []
    var connecting: [PoolStateMachine.ConnectionID] = []
    var cleaning: [PoolStateMachine.ConnectionID] = []
    var openIDs: Set<PoolStateMachine.ConnectionID> = []
    var isShutDown = false
    var isFinished = false
    var broken: String?

    /// What somebody asked for.
    struct Wish {
        let use: PoolStateMachine.Use
        let since: UInt64
        let until: UInt64
    }

    struct Waiting {
        let id: WaiterQueue.ID
        let wish: Wish
        /// When it is to be told that there is none.
        let deadline: UInt64
        let wasServedInVain: Bool
    }

    struct Holder {
        let id: PoolStateMachine.ConnectionID
        let wish: Wish
    }

    init(_ random: inout ModelRandom) {
        var limits = PoolStateMachine.Limits()
        limits.maximum = 1 + Int(random.next() % 8)
        limits.minimum = Int(random.next() % UInt64(limits.maximum + 1))
        limits.maximumWaiters = 1 + Int(random.next() % 40)
        limits.sharedDepth = 1 + Int(random.next() % 4)
        limits.acquireTimeout = 1 + random.next() % 10_000
        limits.idleTimeout = random.next() % 3 == 0 ? PoolStateMachine.never : 1 + random.next() % 20_000
        limits.lifetime = random.next() % 3 == 0 ? PoolStateMachine.never : 1 + random.next() % 50_000
        limits.lifetimeJitter = random.next() % 100
        limits.resetDelay = 1 + random.next() % 1000
        limits.cleanTimeout = 1 + random.next() % 1000
        limits.leakTime = random.next() % 2 == 0 ? PoolStateMachine.never : 1 + random.next() % 5000
        pool = PoolStateMachine(limits)
    }

    mutating func step(_ random: inout ModelRandom) {
        now += random.next() % 200
        let choice = random.next() % 100
        switch choice {
        case 0..<34:
            // Some have a deadline of their own, which may be the earliest of all.
            let until = random.next() % 3 == 0 ? now + 1 + random.next() % 5000 : PoolStateMachine.never
            acquire(Wish(use: random.next() % 3 == 0 ? .exclusive : .shared, since: now, until: until))
        case 34..<55: release(&random)
        case 55..<58: findDead(&random)
        case 58..<70: connect(&random)
        case 70..<76: if let waiter = waiting.randomElement(using: &random) { cancel(waiter.id) }
        case 76..<82: clean(&random)
        case 82..<85: if let id = openIDs.randomElement(using: &random) { pool.connectionEnded(id, now: now) }
        case 85..<87:
            // What comes late must change nothing.
            let old = PoolStateMachine.ConnectionID(slot: Int(random.next() % 8), generation: UInt64.max - 1)
            pool.release(old, .clean, resetPending: false, needsReset: true, now: now)
            pool.connectionEnded(old, now: now)
            pool.cleaned(old, succeeded: true, didReset: true, now: now)
        case 87: now += random.next() % 30_000_000_000
        case 88 where random.next() % 200 == 0:
            isShutDown = true
            pool.shutDown()
        case 89 where isShutDown: pool.endLeases()
        default:
            if pool.wakeAt != PoolStateMachine.never { now = max(now, pool.wakeAt) }
            pool.timer(now: now)
            takeActions()
            if waiting.contains(where: { $0.deadline <= now }) { broken = "somebody waits beyond the deadline" }
        }
        takeActions()
        check()
    }

    /// - Parameter isAgain: the wish was fulfilled before, by a connection that turned out to be dead.
    private mutating func acquire(_ wish: Wish, isAgain: Bool = false) {
        switch pool.acquire(wish.use, now: now, until: wish.until, since: isAgain ? wish.since : nil) {
        case .granted(let granted):
            if waiting.contains(where: { precedes($0, wish, isAgain) }) { broken = "somebody was overtaken" }
            hold(granted, wish)
        case .wait(let waiter):
            let deadline = min(wish.until, wish.since + pool.limits.acquireTimeout)
            let index = waiting.firstIndex { !precedes($0, wish, isAgain) } ?? waiting.endIndex
            let new = Waiting(id: waiter, wish: wish, deadline: deadline, wasServedInVain: isAgain)
            waiting.insert(new, at: index)
        case .failed(.shutDown): if !isShutDown { broken = "shut down too early" }
        case .failed(.tooManyWaiters):
            if waiting.count < pool.limits.maximumWaiters { broken = "refused with \(waiting.count) waiting" }
            if isAgain { broken = "a turn was lost" }
        case .failed(.cannotConnect): if pool.open > 0 { broken = "failed fast with open connections" }
        case .failed(.timedOut): broken = "timed out at once"
        }
    }

    /// Whether one who waits is served before this one.
    private func precedes(_ waiter: Waiting, _ wish: Wish, _ isAgain: Bool) -> Bool {
        isAgain ? waiter.wasServedInVain && waiter.wish.since <= wish.since : true
    }

    private mutating func hold(_ granted: PoolStateMachine.Granted, _ wish: Wish) {
        let id = granted.id
        if !openIDs.contains(id) { broken = "a connection that is not open was handed out" }
        if cleaning.contains(id) { broken = "a connection that is being cleaned was handed out" }
        let users = holders.count { $0.id == id }
        if exclusive.contains(id), users > 0 { broken = "two users of an exclusive connection" }
        if wish.use == .exclusive, users > 0 { broken = "an exclusive user joined others" }
        if users >= pool.limits.sharedDepth { broken = "too many users" }
        if users > 0, pool.slots[id.slot].expires <= now { broken = "somebody joined a connection beyond its time" }
        if granted.isJoined != (users > 0) { broken = "isJoined is wrong" }
        if wish.use == .exclusive { exclusive.insert(id) } else { exclusive.remove(id) }
        holders.append(Holder(id: id, wish: wish))
    }

    /// Somebody finds the connection dead, and asks again in the same moment.
    private mutating func findDead(_ random: inout ModelRandom) {
        guard !holders.isEmpty else { return }
        let holder = holders.remove(at: Int(random.next() % UInt64(holders.count)))
        pool.release(holder.id, .broken, resetPending: true, needsReset: false, now: now)
        acquire(holder.wish, isAgain: true)
    }

    private mutating func release(_ random: inout ModelRandom) {
        guard !holders.isEmpty else { return }
        let id = holders.remove(at: Int(random.next() % UInt64(holders.count))).id
        let conditions: [PoolStateMachine.Condition] = [.clean, .clean, .clean, .clean, .busy, .dirty, .kept, .broken]
        let condition = conditions[Int(random.next() % 8)]
        pool.release(
            id, condition, resetPending: random.next() % 5 == 0, needsReset: random.next() % 2 == 0, now: now)
    }

    private mutating func connect(_ random: inout ModelRandom) {
        guard !connecting.isEmpty else { return }
        let id = connecting.remove(at: Int(random.next() % UInt64(connecting.count)))
        switch random.next() % 8 {
        case 0: fail(id, .unreachable, &random)
        case 1: fail(id, .refused, &random)
        case 2: fail(id, .full, &random)
        default:
            openIDs.insert(id)
            if !pool.connected(id, random: random.next(), now: now) { broken = "a connection was not wanted" }
        }
    }

    private mutating func fail(
        _ id: PoolStateMachine.ConnectionID, _ kind: PoolStateMachine.ConnectFailure, _ random: inout ModelRandom
    ) {
        pool.connectFailed(id, kind, PoolModel.error, random: random.next(), now: now)
    }

    private static let error = PostgresError(code: .cannotConnect, message: "nobody there")

    private mutating func cancel(_ waiter: WaiterQueue.ID) {
        if !pool.cancel(waiter, now: now) { broken = "a waiter could not give up" }
        if pool.cancel(waiter, now: now) { broken = "a waiter gave up twice" }
        waiting.removeAll { $0.id == waiter }
        answered.insert(waiter)
    }

    private mutating func clean(_ random: inout ModelRandom) {
        guard !cleaning.isEmpty else { return }
        let id = cleaning.remove(at: Int(random.next() % UInt64(cleaning.count)))
        pool.cleaned(id, succeeded: random.next() % 4 != 0, didReset: true, now: now)
    }

    private mutating func takeActions() {
        let actions = pool.actions
        pool.actions.removeAll(keepingCapacity: true)
        for action in actions {
            switch action {
            case .grant(let waiter, let granted):
                guard let next = waiting.first, next.id == waiter else {
                    broken = "\(waiter) was served before \(waiting.first?.id ?? 0)"
                    return
                }
                answer(waiter)
                hold(granted, next.wish)
            case .fail(let waiter, let failure):
                if case .timedOut(let limit, let waited, _) = failure { checkTimeout(waiter, limit, waited) }
                answer(waiter)
            case .connect(let id): connecting.append(id)
            case .abandonConnect(let id): connecting.removeAll { $0 == id }
            case .clean(let id):
                if isHeld(id) { broken = "a connection in use is cleaned" }
                cleaning.append(id)
            case .close(let id, _):
                if openIDs.remove(id) == nil { broken = "closed twice, or never opened" }
                if isHeld(id), !isShutDown { broken = "a connection in use was closed" }
                holders.removeAll { $0.id == id }
                cleaning.removeAll { $0 == id }
            case .reportLeak(let id, _): if !isHeld(id) { broken = "a leak of nobody" }
            case .finishShutdown:
                if isFinished { broken = "finished twice" }
                isFinished = true
            }
        }
    }

    private func isHeld(_ id: PoolStateMachine.ConnectionID) -> Bool { holders.contains { $0.id == id } }

    private mutating func checkTimeout(_ id: WaiterQueue.ID, _ limit: PoolStateMachine.TimeLimit, _ waited: UInt64) {
        guard let waiter = waiting.first(where: { $0.id == id }) else { return }
        if waiter.deadline > now { broken = "\(id) timed out too early" }
        if waited != now - waiter.wish.since { broken = "\(id) waited \(now - waiter.wish.since), not \(waited)" }
        let isOwn = waiter.wish.until < waiter.wish.since + pool.limits.acquireTimeout
        if (limit == .callersDeadline) != isOwn { broken = "\(id) was told of the wrong limit" }
    }

    private mutating func answer(_ waiter: WaiterQueue.ID) {
        if !answered.insert(waiter).inserted { broken = "\(waiter) was answered twice" }
        waiting.removeAll { $0.id == waiter }
    }

    private mutating func check() {
        if broken != nil { return }
        let limits = pool.limits
        if pool.permits > limits.maximum { broken = "\(pool.permits) permits of \(limits.maximum)" }
        if pool.permits != openIDs.count + connecting.count { broken = "permits do not match connections" }
        if pool.connecting != connecting.count { broken = "connecting" }
        if pool.cleaning != cleaning.count { broken = "cleaning" }
        if pool.inUse != Set(holders.map(\.id)).count { broken = "in use" }
        if pool.waiters.count != waiting.count { broken = "waiting" }
        let bound = limits.maximumWaiters + waiting.count { $0.wasServedInVain }
        if waiting.count > bound { broken = "too many waiters" }
        if let deadline = waiting.map(\.deadline).min(), pool.wakeAt > deadline { broken = "nobody will end a wait" }
        if pool.hopelessness(now) != nil, !waiting.isEmpty { broken = "somebody waits without hope" }
        if !waiting.isEmpty, !pool.idle.isEmpty { broken = "somebody waits beside an idle connection" }
        if waiting.first?.wish.use == .shared, pool.slots.contains(where: takesOneMore) {
            broken = "somebody waits beside a shared connection with room"
        }
        let hasHope = pool.permits > 0 || pool.wakeAt != PoolStateMachine.never
        if !waiting.isEmpty, !hasHope { broken = "somebody waits for nothing" }
        if !waiting.isEmpty, pool.connecting == 0, pool.permits < limits.maximum {
            guard let until = pool.breaker?.until else {
                broken = "nobody connects for who waits"
                return
            }
            if pool.wakeAt > until { broken = "nobody will connect for who waits" }
        }
        if !pool.idle.isEmpty, limits.idleTimeout != PoolStateMachine.never, pool.permits > limits.minimum,
            pool.wakeAt == PoolStateMachine.never
        {
            broken = "nobody looks after the idle ones"
        }
        if pool.cleaning > 0, pool.wakeAt == PoolStateMachine.never { broken = "nobody looks after cleaning" }
        if isShutDown, !waiting.isEmpty || !connecting.isEmpty || !pool.idle.isEmpty { broken = "not shut down" }
        if isFinished, pool.permits != 0 { broken = "finished with connections" }
    }

    /// Whether it is a shared connection with room.
    private func takesOneMore(_ slot: PoolStateMachine.Slot) -> Bool {
        slot.phase == .inUse && slot.isShared && slot.users < pool.limits.sharedDepth && slot.condition == .clean
            && slot.expires > now
    }

    /// Everybody gives back what he has, and the pool ends with nothing left over.
    mutating func end() -> String? {
        if !isShutDown {
            isShutDown = true
            pool.shutDown()
            takeActions()
        }
        while let holder = holders.popLast() {
            pool.release(holder.id, .clean, resetPending: false, needsReset: true, now: now)
            takeActions()
        }
        if broken == nil, !isFinished { broken = "never finished" }
        check()
        return broken
    }
}

/// SplitMix64: the same numbers for the same seed.
struct ModelRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
