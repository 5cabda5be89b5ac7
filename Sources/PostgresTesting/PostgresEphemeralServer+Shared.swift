extension PostgresEphemeralServer {
    /// The one server that the tests of a process share, with default options; started by the first call.
    ///
    /// Leave it as it is: no `stop`, no changed rules. `createDatabase()` gives a test a database of its own.
    public static func shared() async throws(Failure) -> PostgresEphemeralServer {
        try await sharedServer.value.get()
    }
}

private let sharedServer = Task.detached { () -> Result<PostgresEphemeralServer, PostgresEphemeralServer.Failure> in
    do throws(PostgresEphemeralServer.Failure) {
        return .success(try await PostgresEphemeralServer.start())
    } catch {
        return .failure(error)
    }
}
