import PostgresTransport

extension PostgresConnection {
    /// Asks the server to stop what this connection is running (manual, "Canceling Requests in Progress"; libpq's `PQcancel`).
    ///
    /// It goes over a connection of its own, to the same address and with TLS if this one has it. When it returns, the request has
    /// had its effect: it never stops a statement that was begun afterwards. Until then, statements of other tasks wait. The task
    /// whose statement was stopped gets `queryCanceled` (57014); if the statement is part of a transaction, that has failed. A
    /// pipeline goes on behind the statement that was stopped, unless it is atomic; of an atomic one, what was not sent yet follows
    /// first, because it ends only with its Sync. A COPY in also gets CopyFail, and fails wherever it is. The rows of a stream whose
    /// consumer does not read meanwhile are buffered, up to `maximumResultBytes`; then the stream fails with `resultTooLarge`.
    ///
    /// If the way of the request breaks, so that it could still arrive, the connection is closed as soon as the statement has ended.
    ///
    /// - Returns: true if something was in flight; it has ended by now, stopped or not, for it may have come to its end before the
    ///   request arrived. False if nothing was, or if it was being cancelled already; then nothing is waited for.
    /// - Throws: `unsupported` if several requests are in flight that are not one pipeline, because any of them could be hit, or if the
    ///   server gave no key; `cannotConnect` or `tls` if no connection could be made: then only a COPY in has been given up.
    ///   `timedOut` if the statement did not end within ``PostgresConfiguration/cancelTimeout``: then the connection is closed.
    ///   The error that closed it, if the connection is closed already.
    @discardableResult
    public func cancel() async throws(PostgresError) -> Bool { try await core.cancelRunning() }
}

extension PostgresBlockingConnection {
    /// As ``PostgresConnection/cancel()``, from another thread than the one that waits.
    @discardableResult
    public func cancel() throws(PostgresError) -> Bool {
        try core.refuseOnLoop()
        return try CallingThread.wait { [core] () async throws(PostgresError) -> Bool in try await core.cancelRunning()
        }
    }
}
