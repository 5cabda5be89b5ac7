/// Connections that come and go, time, and the end.
extension PoolStateMachine {
    // MARK: Connecting

    /// As many as are wanted, allowed, and of use.
    mutating func startConnects(_ now: Time) {
        guard !isShutDown else { return }
        if let error = hopelessness(now) { failWaiters(error) }
        var wanted = max(waiters.count - connecting, limits.minimum - permits)
        wanted = min(wanted, limits.maximum - permits)
        guard wanted > 0 else { return }
        if let breaker, now < breaker.until { return wake(by: breaker.until) }
        if !isProven { wanted = min(wanted, 1 - connecting) }
        while wanted > 0 {
            wanted -= 1
            let index: Int
            if let free = vacant.popLast() {
                index = free
            } else {
                index = slots.count
                slots.append(Slot())
            }
            slots[index].phase = .connecting
            slots[index].since = now
            connecting += 1
            actions.append(.connect(id(index)))
        }
    }

    /// - Parameter random: any number; spreads the ends of connections that begin together.
    /// - Returns: false if it is not wanted any more: the driver closes it.
    mutating func connected(_ id: ConnectionID, random: UInt64, now: Time) -> Bool {
        guard isCurrent(id), slots[id.slot].phase == .connecting else { return false }
        connecting -= 1
        counts.connects &+= 1
        isProven = true
        breaker = nil
        if limits.lifetime != PoolStateMachine.never {
            let earlier = limits.lifetimeJitter == 0 ? 0 : random % limits.lifetimeJitter
            slots[id.slot].expires = after(now, limits.lifetime - min(earlier, limits.lifetime))
        }
        makeAvailable(id.slot, now)
        startConnects(now)
        return true
    }

    mutating func connectFailed(
        _ id: ConnectionID, _ kind: ConnectFailure, _ error: PostgresError, random: UInt64, now: Time
    ) {
        guard isCurrent(id), slots[id.slot].phase == .connecting else { return }
        connecting -= 1
        vacate(id.slot)
        counts.connectFailures &+= 1
        isProven = false
        // Those that were tried at the same time fail for the same reason; together they are one failure.
        let isNew = breaker.map { now >= $0.until } ?? true
        let failures = (breaker?.failures ?? 0) + (isNew ? 1 : 0)
        let until = isNew ? after(now, PoolStateMachine.backoff(kind, failures, random)) : breaker?.until ?? now
        breaker = Breaker(until: until, failures: failures, error: error, kind: kind)
        if kind != .full, open == 0 { failWaiters(error) }
        startConnects(now)
    }

    private mutating func failWaiters(_ error: PostgresError) {
        while let waiter = waiters.popFirst() { actions.append(.fail(waiter.id, .cannotConnect(error))) }
    }

    /// Doubles from failure to failure; between half of it and all of it, so that many clients do not come together.
    static func backoff(_ kind: ConnectFailure, _ failures: Int, _ random: UInt64) -> Time {
        let (first, last): (Time, Time) =
            switch kind {
            case .unreachable: (100_000_000, 2_000_000_000)
            case .refused: (1_000_000_000, 30_000_000_000)
            case .full: (100_000_000, 1_000_000_000)
            }
        let doubled = min(last, first << UInt64(min(max(failures - 1, 0), 10)))
        return doubled / 2 + random % (doubled / 2 + 1)
    }

    // MARK: Endings

    /// The connection broke, or the server closed it.
    mutating func connectionEnded(_ id: ConnectionID, now: Time) {
        guard isCurrent(id) else { return }
        switch slots[id.slot].phase {
        case .vacant, .connecting: return
        case .inUse: slots[id.slot].condition = .broken
        case .idle:
            idle.removeAll { $0 == id.slot }
            close(id.slot, .lost)
            startConnects(now)
        case .cleaning:
            cleaning -= 1
            close(id.slot, .lost)
            startConnects(now)
        }
    }

    /// The slot is in the count of no phase.
    mutating func clean(_ index: Int, _ now: Time) {
        slots[index].phase = .cleaning
        slots[index].since = now
        cleaning += 1
        wake(by: after(now, limits.cleanTimeout))
        actions.append(.clean(id(index)))
    }

    /// - Parameter didReset: whether the session was reset, too.
    mutating func cleaned(_ id: ConnectionID, succeeded: Bool, didReset: Bool, now: Time) {
        guard isCurrent(id), slots[id.slot].phase == .cleaning else { return }
        cleaning -= 1
        guard succeeded else {
            close(id.slot, .dirty)
            return startConnects(now)
        }
        if didReset { counts.resets &+= 1 }
        slots[id.slot].condition = .clean
        slots[id.slot].needsReset = false
        makeAvailable(id.slot, now)
    }

    /// Nobody gets a connection any more. Leases go on; the end comes with the last, or with `endLeases`.
    mutating func shutDown() {
        guard !isShutDown else { return }
        isShutDown = true
        while let waiter = waiters.popFirst() { actions.append(.fail(waiter.id, .shutDown)) }
        idle.removeAll()
        for index in slots.indices {
            switch slots[index].phase {
            case .vacant, .inUse: break
            case .connecting:
                connecting -= 1
                actions.append(.abandonConnect(id(index)))
                vacate(index)
            case .idle: close(index, .shutdown)
            case .cleaning:
                cleaning -= 1
                close(index, .shutdown)
            }
        }
        finishShutdownIfDone()
    }

    /// The time for leases to finish is up.
    mutating func endLeases() {
        guard isShutDown, inUse > 0 else { return }
        for index in slots.indices where slots[index].phase == .inUse {
            inUse -= 1
            close(index, .shutdown)
        }
        finishShutdownIfDone()
    }

    mutating func finishShutdownIfDone() {
        if isShutDown, inUse == 0 { actions.append(.finishShutdown) }
    }

    // MARK: Time

    /// Does what is due, and says in `wakeAt` when something will be.
    mutating func timer(now: Time) {
        wakeAt = PoolStateMachine.never
        guard !isShutDown else { return }
        while let waiter = waiters.popExpired(now) {
            counts.timeouts &+= 1
            let waited = now > waiter.since ? now - waiter.since : 0
            actions.append(.fail(waiter.id, .timedOut(waiter.deadline.limit, waited: waited, breaker?.error)))
        }
        fillShared(now)
        // From the bottom of the stack: those that were not used for longest.
        for index in idle {
            let slot = slots[index]
            if slot.expires <= now {
                leaveIdle(index, .lifetime)
            } else if after(slot.since, limits.idleTimeout) <= now, permits > limits.minimum {
                leaveIdle(index, .idle)
            } else if slot.needsReset, after(slot.since, limits.resetDelay) <= now {
                idle.removeAll { $0 == index }
                clean(index, now)
            }
        }
        for index in slots.indices {
            switch slots[index].phase {
            case .inUse: reportLeak(index, now)
            case .cleaning where after(slots[index].since, limits.cleanTimeout) <= now:
                cleaning -= 1
                close(index, .dirty)
            default: break
            }
        }
        startConnects(now)
        wakeForNext(now)
    }

    private mutating func leaveIdle(_ index: Int, _ reason: PostgresClient.CloseReason) {
        idle.removeAll { $0 == index }
        close(index, reason)
    }

    private mutating func reportLeak(_ index: Int, _ now: Time) {
        guard !slots[index].isReported, !slots[index].isShared, after(slots[index].since, limits.leakTime) <= now
        else { return }
        slots[index].isReported = true
        counts.leaks &+= 1
        actions.append(.reportLeak(id(index), heldFor: now &- slots[index].since))
    }

    private mutating func wakeForNext(_ now: Time) {
        wake(by: waiters.earliestDeadline)
        for index in idle { wake(by: max(now &+ 1, nextTime(ofIdle: index))) }
        for slot in slots {
            switch slot.phase {
            case .inUse where !slot.isReported && !slot.isShared: wake(by: after(slot.since, limits.leakTime))
            case .cleaning: wake(by: after(slot.since, limits.cleanTimeout))
            default: break
            }
        }
    }

    /// When an idle connection wants to be looked at.
    func nextTime(ofIdle index: Int) -> Time {
        let slot = slots[index]
        var time = slot.expires
        if permits > limits.minimum { time = min(time, after(slot.since, limits.idleTimeout)) }
        if slot.needsReset { time = min(time, after(slot.since, limits.resetDelay)) }
        return time
    }
}
