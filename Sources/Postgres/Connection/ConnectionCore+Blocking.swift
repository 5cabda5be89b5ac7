import PostgresTransport
import Synchronization

/// The blocking API's part: the same roles, on a thread that may wait.
extension ConnectionCore {
    func performBlocking(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int? = nil
    ) throws(PostgresError) -> Reply {
        if let error = query.storage.sealed.pointee.failure { throw error.naming(query.sql) }
        var mode = ConnectionState.Mode.cached
        while true {
            let reply = try finishBlocking(as: writer) { () throws(PostgresError) -> Begun in
                try begin(query, formats, mode, as: writer, mayRead: true, blocking: true)
            }
            guard let error = reply.error else { return reply }
            guard let next = nextMode(after: reply, mode, query) else { throw error.naming(query.sql) }
            mode = next
        }
    }

    /// - Parameter limits: nil for those of the thread.
    @inline(__always)
    func finishBlocking(
        as writer: Int? = nil, within limits: WaitLimits? = nil, _ begin: () throws(PostgresError) -> Begun
    ) throws(PostgresError) -> Reply {
        try refuseOnLoop()
        let limits = limits ?? waitLimits()
        while true {
            switch try begin() {
            case .reads(let number):
                if let reply = readOwnReply(number, limits.blockingBound) { return reply.reply }
                return waitOrStopBlocking(for: number, until: limits.deadline).0
            case .queued(let number, let flush):
                if flush { pump(.waits) }
                return waitOrStopBlocking(for: number, until: limits.deadline).0
            case .noRoom: try waitForRoomBlocking(for: writer, until: limits.deadline)
            }
        }
    }

    @inline(__always)
    func refuseOnLoop() throws(PostgresError) {
        if loop.isCurrent { throw .blockingOnTheLoop }
    }

    func waitForRoomBlocking(for writer: Int? = nil) throws(PostgresError) {
        try refuseToWaitForItself(as: writer)
        let number = state.withLock { state in
            state.roomNumber &+= 1
            return state.roomNumber
        }
        let thread = BlockedThread()
        if waitForRoom(number, .thread(thread), writer) { _ = thread.wait() }
    }
}
