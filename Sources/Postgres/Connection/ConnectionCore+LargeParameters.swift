import PostgresProtocol
import PostgresTransport
import Synchronization

/// Parameters that leave from where the query has them: copying so much would cost more than all else that is done for it.
///
/// Immutable once the query is made, and held until the last byte is sent or the connection has ended. Only of a statement in a Sync
/// group of its own; those of pipelines, streams and cursors are copied.
struct LargeParameters {
    let storage: QueryStorage
    /// Where in the buffer of their messages they belong.
    let place: Int

    /// From so many bytes on they are not copied: below, one system call of three pieces is not cheaper.
    static let minimum = 1 << 16

    var bytes: UnsafeRawBufferPointer { storage.cells }
}

extension ConnectionCore {
    /// As `begin`, of a statement with large parameters. They are copied only if its caller does not become the sender: then
    /// they wait among what others have queued.
    @inline(never)
    func beginLarge(
        _ query: PostgresQuery, _ formats: ResultFormats, _ mode: ConnectionState.Mode, as writer: Int?, mayRead: Bool,
        blocking: Bool
    ) throws(PostgresError) -> Begun {
        let onLoop = loop.isCurrent
        return try state.withLock { state throws(PostgresError) in
            guard state.hasRoom(for: writer), state.closed == nil else { return try refuse(&state, writer) }
            let start = state.encodedBytes
            let (request, parameters) = try state.encodeAroundParameters(query, formats, mode)
            let begun = enqueue(
                &state, InFlight(request: request, formats: formats, startOffset: start), mayRead: mayRead,
                blocking: blocking, onLoop: onLoop)
            switch begun {
            case .reads, .queued(_, flush: true):
                // The role was taken, and with it all that was pending, under this lock.
                outgoingParameters = parameters
                state.sentBytes &+= parameters.bytes.count
            case .queued(_, flush: false): state.pending.insert(parameters.bytes, at: parameters.place)
            case .noRoom: break
            }
            return begun
        }
    }

    /// What the sender has not sent of what it took.
    var unsentBytes: Int { outgoing.count &+ (outgoingParameters?.bytes.count ?? 0) &- outgoingSent }

    /// As `sendOutgoing`, with parameters between what is in front of them and what is behind.
    @inline(never)
    func sendOutgoing(around parameters: LargeParameters) throws(TransportError) -> Bool {
        let bytes = outgoing.bytes
        let all = ScatteredBytes(
            UnsafeRawBufferPointer(rebasing: bytes.prefix(parameters.place)), parameters.bytes,
            UnsafeRawBufferPointer(rebasing: bytes.dropFirst(parameters.place)))
        return try sendAll(all.count) { sent throws(TransportError) in try channel.send(all.dropFirst(sent)) }
    }
}
