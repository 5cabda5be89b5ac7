/// Who gets which connection, and what becomes of it when it comes back.
extension PoolStateMachine {
    // MARK: Acquiring

    /// - Parameters:
    ///   - deadline: the caller's own, beside `acquireTimeout`.
    ///   - since: when it asked first, if it was given a connection since that turned out to be dead: it keeps its turn.
    mutating func acquire(_ use: Use, now: Time, until deadline: Time = never, since: Time? = nil) -> Acquisition {
        guard !isShutDown else { return .failed(.shutDown) }
        if waiters.isEmpty || since.map({ waiters.putsBackInFront($0) }) == true {
            if let slot = idle.popLast() { return .granted(take(slot, use, now)) }
            if use == .shared, let slot = sharedWithRoom(now) { return .granted(join(slot)) }
        }
        return queueUp(use, now, deadline, since)
    }

    @inline(never)
    private mutating func queueUp(_ use: Use, _ now: Time, _ own: Time, _ since: Time?) -> Acquisition {
        if let error = hopelessness(now) { return .failed(.cannotConnect(error)) }
        // A turn that was had is not lost for the number of those who came later.
        guard since != nil || waiters.count < limits.maximumWaiters else { return .failed(.tooManyWaiters) }
        let common = after(since ?? now, limits.acquireTimeout)
        let deadline =
            own < common
            ? WaiterQueue.Deadline(time: own, limit: .callersDeadline)
            : WaiterQueue.Deadline(time: common, limit: .acquireTimeout)
        let id =
            if let since {
                waiters.putBack(use, since: since, until: deadline)
            } else {
                waiters.append(use, since: now, until: deadline)
            }
        wake(by: deadline.time)
        startConnects(now)
        return .wait(id)
    }

    /// Why waiting is of no use: there is no connection, and none can be made for now.
    func hopelessness(_ now: Time) -> PostgresError? {
        guard open == 0, let breaker, breaker.kind != .full, now < breaker.until else { return nil }
        return breaker.error
    }

    /// Whether `acquire` would not make the caller wait.
    func canGrantAtOnce(_ use: Use, _ now: Time) -> Bool {
        !isShutDown && waiters.isEmpty && (!idle.isEmpty || (use == .shared && sharedWithRoom(now) != nil))
    }

    /// A task was cancelled.
    ///
    /// - Returns: false if it does not wait any more; then what it was given is on its way to it.
    mutating func cancel(_ waiter: WaiterQueue.ID, now: Time) -> Bool {
        guard waiters.remove(waiter) else { return false }
        fillShared(now)
        return true
    }

    /// An idle connection becomes somebody's.
    private mutating func take(_ index: Int, _ use: Use, _ now: Time) -> Granted {
        slots[index].phase = .inUse
        slots[index].since = now
        slots[index].users = 1
        slots[index].isShared = use == .shared && limits.sharedDepth > 1
        slots[index].isReported = false
        let carriesReset = slots[index].needsReset
        slots[index].carriesReset = carriesReset
        slots[index].needsReset = false
        inUse += 1
        counts.acquires &+= 1
        if limits.leakTime != PoolStateMachine.never { wake(by: after(now, limits.leakTime)) }
        return Granted(id: id(index), carriesReset: carriesReset, isJoined: false)
    }

    private mutating func join(_ index: Int) -> Granted {
        slots[index].users += 1
        counts.acquires &+= 1
        return Granted(id: id(index), carriesReset: false, isJoined: true)
    }

    /// The one with the fewest users.
    private func sharedWithRoom(_ now: Time) -> Int? {
        guard limits.sharedDepth > 1 else { return nil }
        var best: Int?
        for index in slots.indices where hasRoom(index, now) {
            if let known = best, slots[known].users <= slots[index].users { continue }
            best = index
        }
        return best
    }

    /// One whose time is over takes nobody in any more: under a load that never pauses it would never have a last user.
    func hasRoom(_ index: Int, _ now: Time) -> Bool {
        let slot = slots[index]
        return slot.phase == .inUse && slot.isShared && slot.users < limits.sharedDepth && slot.condition == .clean
            && slot.expires > now
    }

    // MARK: Releasing

    /// A user is done with a connection.
    ///
    /// - Parameters:
    ///   - resetPending: the reset that it was granted with was not sent, because nothing was.
    ///   - needsReset: what this user may have done to the session is to be undone.
    mutating func release(
        _ id: ConnectionID, _ condition: Condition, resetPending: Bool, needsReset: Bool, now: Time
    ) {
        guard isCurrent(id), slots[id.slot].phase == .inUse else { return }
        let index = id.slot
        if slots[index].carriesReset, !resetPending, condition != .broken {
            slots[index].carriesReset = false
            counts.resets &+= 1
        }
        slots[index].users -= 1
        let isLast = slots[index].users == 0
        if isLast || condition != .busy, condition > slots[index].condition { slots[index].condition = condition }
        if needsReset || resetPending { slots[index].needsReset = true }
        guard isLast else { return fillShared(now) }
        inUse -= 1
        if isShutDown {
            close(index, .shutdown)
            return finishShutdownIfDone()
        }
        switch slots[index].condition {
        case .clean: makeAvailable(index, now)
        case .busy, .dirty: clean(index, now)
        case .kept:
            close(index, .kept)
            startConnects(now)
        case .broken:
            close(index, .lost)
            startConnects(now)
        }
    }

    /// An open connection without users goes to who waits, or to the idle ones.
    mutating func makeAvailable(_ index: Int, _ now: Time) {
        if slots[index].expires <= now {
            close(index, .lifetime)
            return startConnects(now)
        }
        if let waiter = waiters.popFirst() {
            hand(take(index, waiter.kind, now), to: waiter, now)
            return fillShared(now)
        }
        slots[index].phase = .idle
        slots[index].since = now
        idle.append(index)
        wake(by: nextTime(ofIdle: index))
    }

    /// Further statements join shared connections, but nobody overtakes: whenever there is room, or another in front.
    mutating func fillShared(_ now: Time) {
        while let next = waiters.first, next.kind == .shared, let index = sharedWithRoom(now) {
            _ = waiters.popFirst()
            hand(join(index), to: next, now)
        }
    }

    private mutating func hand(_ granted: Granted, to waiter: WaiterQueue.Waiter, _ now: Time) {
        // The time is taken before the driver's lock: it may be a little earlier than that of who had the lock before.
        let waited = now > waiter.since ? now - waiter.since : 0
        counts.waited &+= waited
        counts.longestWait = max(counts.longestWait, waited)
        actions.append(.grant(waiter.id, granted))
    }
}
