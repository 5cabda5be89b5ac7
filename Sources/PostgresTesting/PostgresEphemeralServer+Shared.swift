extension PostgresEphemeralServer {
    /// The one server that the tests of a process share, with room for many connections; started by the first call.
    ///
    /// Leave it as it is: no `stop`, no changed rules. `createDatabase()` gives a test a database of its own.
    public static func shared() async throws(Failure) -> PostgresEphemeralServer {
        try await sharedServer.value.get()
    }
}

private let sharedServer = Task.detached { () -> Result<PostgresEphemeralServer, PostgresEphemeralServer.Failure> in
    do throws(PostgresEphemeralServer.Failure) {
        var options = PostgresEphemeralServer.Options()
        // Tests run in parallel, hundreds at a time.
        options.maxConnections = 400
        return .success(try await PostgresEphemeralServer.start(options))
    } catch {
        return .failure(error)
    }
}
