import Glibc
import PostgresTesting
import TestTurns
import Testing

@Suite(.inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct LifecycleTests {
    @Test func aServerAnswersOverBothAddresses() async throws {
        try await PostgresEphemeralServer.withServer { server in
            let answer = try await server.runSQL("SELECT current_user, current_setting('port')")
            #expect(answer == "postgres|\(server.port)")
            #expect(try await server.runSQL("SHOW server_encoding") == "UTF8")
            #expect(server.majorVersion == PostgresEphemeralServer.availableMajorVersion)
            #expect(canConnect(toPort: server.port))
        }
    }

    @Test func removingLeavesNeitherProcessNorFolder() async throws {
        let server = try await PostgresEphemeralServer.start()
        let processID = try #require(await server.processID)
        let folder = server.folder
        #expect(isRunning(processID))
        await server.remove()
        #expect(!isRunning(processID))
        #expect(access(folder, F_OK) != 0)
        await #expect(throws: PostgresEphemeralServer.Failure.self) { try await server.restart() }
    }

    @Test func droppingTheLastReferenceRemovesTheServer() async throws {
        var server: PostgresEphemeralServer? = try await .start()
        let processID = try #require(await server?.processID)
        let folder = try #require(server?.folder)
        server = nil
        #expect(await eventually { !isRunning(processID) && access(folder, F_OK) != 0 })
    }

    @Test(arguments: PostgresEphemeralServer.ShutdownMode.allCases)
    func stoppingKeepsTheData(_ mode: PostgresEphemeralServer.ShutdownMode) async throws {
        var options = PostgresEphemeralServer.Options()
        options.isDurable = true
        try await PostgresEphemeralServer.withServer(options) { server in
            try await server.runSQL("CREATE TABLE kept (value int); INSERT INTO kept VALUES (7)")
            let before = try #require(await server.processID)
            try await server.stop(mode)
            #expect(await server.processID == nil)
            #expect(!isRunning(before))
            #expect(!canConnect(toPort: server.port))
            try await server.restart()
            #expect(try await server.runSQL("SELECT value FROM kept") == "7")
            #expect(canConnect(toPort: server.port))
        }
    }

    @Test func smartStopWaitsForClientsOnlyUntilItsTimeout() async throws {
        try await PostgresEphemeralServer.withServer { server in
            let sleeping = Task { try await server.runSQL("SELECT pg_sleep(600)") }
            try await waitForQuery("pg_sleep", on: server)
            let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
                try await server.stop(.smart, timeout: .milliseconds(50))
            }
            #expect(failure?.code == .stopFailed)
            try await server.stop(.fast)
            await #expect(throws: PostgresEphemeralServer.Failure.self) { _ = try await sleeping.value }
        }
    }

    @Test func killingEndsTheChildrenTooAndTheServerRecovers() async throws {
        var options = PostgresEphemeralServer.Options()
        options.isDurable = true
        try await PostgresEphemeralServer.withServer(options) { server in
            try await server.runSQL("CREATE TABLE kept (value int); INSERT INTO kept VALUES (7)")
            let sleeping = Task { try await server.runSQL("SELECT pg_sleep(600)") }
            try await waitForQuery("pg_sleep", on: server)
            let pids = try await server.runSQL("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            let children = pids.split(separator: "\n").compactMap { Int32($0) }
            #expect(children.count >= 2)
            let postmaster = try #require(await server.processID)
            try await server.kill()
            #expect(!isRunning(postmaster))
            for child in children { #expect(!isRunning(child)) }
            await #expect(throws: PostgresEphemeralServer.Failure.self) { _ = try await sleeping.value }

            try await server.restart()
            #expect(try await server.runSQL("SELECT value FROM kept") == "7")
            #expect(await server.serverLog.contains("automatic recovery in progress"))
        }
    }

    @Test func aWrongSettingIsReportedWithTheServersLog() async throws {
        var options = PostgresEphemeralServer.Options()
        options.settings = ["no_such_parameter": "1"]
        let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
            try await PostgresEphemeralServer.start(options)
        }
        #expect(failure?.code == .startFailed)
        #expect(failure?.serverLog.contains("no_such_parameter") == true)
    }

    @Test func aFailingInitdbIsReportedWithWhatItSaid() async throws {
        var options = PostgresEphemeralServer.Options()
        options.initdbArguments = ["--no-such-option"]
        let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
            try await PostgresEphemeralServer.start(options)
        }
        #expect(failure?.code == .initdbFailed)
        #expect(failure?.message.contains("no-such-option") == true)
    }

    @Test func whenStartedByRootTheServerRunsAsAnotherUser() async throws {
        try await PostgresEphemeralServer.withServer { server in
            let processID = try #require(await server.processID)
            var status = stat()
            #expect(stat("/proc/\(processID)", &status) == 0)
            #expect(status.st_uid != 0)
            if geteuid() != 0 { #expect(status.st_uid == geteuid()) }
            #expect(stat(server.dataFolder, &status) == 0)
            #expect(status.st_uid != 0)
        }
    }

    @Test func parallelCallersShareOneServerWithDatabasesOfTheirOwn() async throws {
        let databases = try await withThrowingTaskGroup(of: (String, Int).self) { group in
            for _ in 0..<4 {
                group.addTask {
                    let server = try await PostgresEphemeralServer.shared()
                    return (try await server.createDatabase(), server.port)
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(databases.map(\.0)).count == 4)
        #expect(Set(databases.map(\.1)).count == 1)
    }
}

@Suite struct InstallationTests {
    @Test func aFolderWithoutAServerIsNamedInTheError() async throws {
        var options = PostgresEphemeralServer.Options()
        options.binFolder = "/nonexistent/bin"
        let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
            try await PostgresEphemeralServer.start(options)
        }
        #expect(failure?.code == .notInstalled)
        #expect(failure?.message.contains("/nonexistent/bin") == true)
        #expect(failure?.message.contains("apt-get install postgresql") == true)
    }
}
