import Postgres
import Synchronization
import Testing

@testable import PostgresUpsert

/// A server made of closures: it notes each statement, and answers when it is let. What the library finds before it sends anything is
/// found by the library.
private final class Runway: Sendable {
    private struct State {
        var statements: [[PageStats]] = []
        var sent: [[PageStats]] = []
        var isClosed = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Lock(State())
    private let answer: @Sendable ([PageStats], Int) throws(PostgresError) -> Void

    /// - Parameter answer: gets the rows, and the number of the statement from 1.
    init(_ answer: @escaping @Sendable ([PageStats], Int) throws(PostgresError) -> Void = { _, _ in }) {
        self.answer = answer
    }

    var statements: [[PageStats]] { state.withLock { $0.statements } }
    /// Without those that were found on this side to be impossible.
    var sent: [[PageStats]] { state.withLock { $0.sent } }
    var paths: [[String]] { statements.map { $0.map(\.path) } }

    /// Statements are not answered until `open()`.
    func close() { state.withLock { $0.isClosed = true } }

    func open() {
        let waiters = state.withLock { state in
            state.isClosed = false
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    func run(_ rows: [PageStats]) async throws(PostgresError) -> [Int]? {
        let number = state.withLock { state in
            state.statements.append(rows)
            return state.statements.count
        }
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isOpen = state.withLock { state in
                if state.isClosed { state.waiters.append(continuation) }
                return !state.isClosed
            }
            if isOpen { continuation.resume() }
        }
        for statement in try PageStats.upsert.rows(rows).batch().statements {
            if let error = statement.query.error { throw error }
        }
        state.withLock { $0.sent.append(rows) }
        try answer(rows, number)
        return rows.map(\.hits)
    }

    func writer(_ options: UpsertWriterOptions = .init()) -> UpsertWriter<PageStats, Int> {
        UpsertWriter(
            table: "page_stats", options: options, key: { Array($0.path.utf8) },
            run: { (rows) async throws(PostgresError) in try await self.run(rows) })
    }
}

/// Lets others run until it is so; a test that waits in vain runs into its time limit.
private func until(_ condition: () -> Bool) async { while !condition() { await Task.yield() } }

private func rejected(_ code: PostgresError.Code) -> PostgresError {
    PostgresError(code: code, message: "no", outcome: .rejected)
}

private func row(_ path: String, _ hits: Int = 1) -> PageStats { PageStats(path: path, hits: hits) }

@Suite(.timeLimit(.minutes(1))) struct UpsertWriterTests {
    /// One row in the air, and these behind it, handed in one after another.
    private func gather(
        _ writer: UpsertWriter<PageStats, Int>, _ runway: Runway, _ rows: [PageStats]
    ) async -> [Task<Int, any Error>] {
        runway.close()
        var tasks = [Task { try await writer.upsert(row("first", 0)) }]
        await until { runway.statements.count == 1 }
        for (index, row) in rows.enumerated() {
            tasks.append(Task { try await writer.upsert(row) })
            await until { writer.statistics.waiting == index + 1 }
        }
        return tasks
    }

    @Test func u44WhoIsAloneWaitsForNobody() async throws {
        let runway = Runway()
        let writer = runway.writer()
        for hits in 1...3 {
            let output = try await writer.upsert(row("/", hits))
            #expect(output == hits)
        }
        #expect(runway.paths == [["/"], ["/"], ["/"]])
        #expect(writer.statistics.flights == 3)
        #expect(writer.statistics.wait.count == 3)
    }

    @Test func u44RowsJoinTheFlightThatForms() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, (1...5).map { row("p\($0)", $0) })
        runway.open()
        for (number, task) in tasks.enumerated() {
            let output = try await task.value
            #expect(output == number)
        }
        #expect(runway.paths == [["first"], ["p1", "p2", "p3", "p4", "p5"]])
        #expect(writer.statistics.rowsPerFlight.maximum == 5)
        #expect(writer.statistics.rows == 6)
    }

    @Test func u44AFlightTakesNoMoreThanItMay() async throws {
        let runway = Runway()
        let writer = runway.writer(.init(maximumRows: 2))
        let tasks = await gather(writer, runway, (1...5).map { row("p\($0)") })
        runway.open()
        for task in tasks { _ = try await task.value }
        #expect(runway.paths == [["first"], ["p1", "p2"], ["p3", "p4"], ["p5"]])
    }

    @Test func u44EqualKeysFlyOneAfterAnother() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [row("a", 1), row("b", 2), row("a", 3), row("a", 4), row("c", 5)])
        runway.open()
        for task in tasks { _ = try await task.value }
        let hits = runway.statements.map { $0.map(\.hits) }
        #expect(hits == [[0], [1, 2, 5], [3], [4]])
        #expect(writer.statistics.postponedRows == 2)
        #expect(writer.statistics.statements == writer.statistics.flights)
    }

    /// However many rows have a key, each of them is run once, and those of other keys do not wait for them.
    @Test func u44AHotKeyHoldsUpNobodyElse() async throws {
        let runway = Runway()
        let writer = runway.writer(.init(maximumRows: 4))
        let hot = (1...200).map { row("hot", $0) }
        let tasks = await gather(writer, runway, hot + [row("a", 201), row("b", 202)])
        runway.open()
        for task in tasks { _ = try await task.value }
        let statements = runway.statements
        #expect(statements[1].map(\.path) == ["hot", "a", "b"])
        let ofTheHotKey = statements.flatMap { $0 }.filter { $0.path == "hot" }.map(\.hits)
        #expect(ofTheHotKey == Array(1...200))
        #expect(statements.count == 201)
        #expect(writer.statistics.statements == 201)
    }

    @Test func u44WhichRowsMustNotFlyTogether() {
        let a = row("a", 1)
        #expect(PageStats.bump.flightKey(of: a) == PageStats.bump.flightKey(of: row("a", 2)))
        #expect(PageStats.bump.flightKey(of: a) != PageStats.bump.flightKey(of: row("b", 1)))
        #expect(PageStats.bump.duplicates(.keepLast).flightKey(of: a) == nil)
        #expect(PageStats.upsert.onConstraint("c").flightKey(of: a) == nil)
        // NULL equals nothing, and what cannot be encoded is the flight's error.
        #expect(Article.upsert.flightKey(of: .sample()) != nil)
        #expect(Article.upsert.flightKey(of: .sample(slug: nil)) == nil)
        #expect(PageStats.bump.flightKey(of: row("a\0", 1)) == nil)
    }

    /// One bound for all: single rows and the rows of every sequence.
    @Test func u43SequencesAndSingleRowsShareOneBound() async throws {
        let runway = Runway()
        let writer = runway.writer(.init(maximumRows: 100, maximumWaiting: 4))
        runway.close()
        let single = Task { try await writer.upsert(row("single")) }
        await until { runway.statements.count == 1 }
        let read = Lock([0, 0, 0])
        let written = (0..<3).map { index in
            let rows = AsyncStream<PageStats>(unfolding: {
                let number = read.withLock { read in
                    read[index] += 1
                    return read[index]
                }
                return number > 20 ? nil : row("p\(index)-\(number)")
            })
            return Task { try await writer.upsert(contentsOf: rows) }
        }
        // Three are inside beside the single one, and of each sequence one stands in line.
        await until { writer.statistics.waiting == 6 }
        for _ in 0..<1000 { await Task.yield() }
        #expect(read.withLock { $0.reduce(0, +) } == 6)
        // A single row stands in line, too, and its task can leave it.
        let late = Task { try await writer.upsert(row("late")) }
        await until { writer.statistics.waiting == 7 }
        late.cancel()
        let error = await #expect(throws: PostgresError.self) { try await late.value }
        #expect(error?.outcome == .notSent)
        let last = Task { try await writer.upsert(row("last", 7)) }
        await until { writer.statistics.waiting == 7 }
        runway.open()
        for task in written { #expect(try await task.value == 20) }
        _ = try await single.value
        #expect(try await last.value == 7)
        #expect(writer.statistics.rowsPerFlight.maximum <= 4)
        // Nobody is passed by: who came first went first.
        let place = try #require(runway.paths.flatMap { $0 }.firstIndex(of: "last"))
        #expect(place == 7)
    }

    @Test func u43AShutDownWriterTellsASequence() async throws {
        let runway = Runway()
        let writer = runway.writer(.init(maximumWaiting: 1))
        await writer.shutdown()
        let rows = AsyncStream<PageStats> { continuation in
            continuation.yield(row("a"))
            continuation.yield(row("b"))
            continuation.finish()
        }
        let error = await #expect(throws: PostgresError.self) { try await writer.upsert(contentsOf: rows) }
        #expect(error?.code == .writerShutDown)
    }

    @Test func u44FlushWaitsForThoseInLine() async throws {
        let runway = Runway()
        let writer = runway.writer(.init(maximumWaiting: 1))
        let tasks = await gather(writer, runway, (1...5).map { row("p\($0)") })
        let flushed = Task {
            await writer.shutdown()
            return runway.statements.count
        }
        await until { writer.state.withLock { $0.isShutDown } }
        runway.open()
        #expect(await flushed.value == 6)
        for task in tasks { _ = try await task.value }
    }

    @Test func u44ABadRowFailsItsOwnCallerOnly() async throws {
        let runway = Runway { (rows, _) throws(PostgresError) in
            if rows.contains(where: { $0.hits < 0 }) { throw rejected(.checkViolation) }
        }
        let writer = runway.writer()
        let tasks = await gather(writer, runway, (1...64).map { row("p\($0)", $0 == 37 ? -1 : $0) })
        runway.open()
        for (number, task) in tasks.enumerated() {
            let result = await task.result
            if number == 37 {
                #expect(throws: PostgresError.self) { try result.get() }
                guard case .failure(let error as PostgresError) = result else { continue }
                #expect(error.code == .checkViolation)
            } else {
                #expect(try result.get() == number)
            }
        }
        // The whole, and two halves at each of six levels.
        #expect(runway.statements.count == 14)
        #expect(writer.statistics.failedRows == 1)
        #expect(writer.statistics.splits == 6)
    }

    @Test func u44ARowThatCannotBeEncodedIsFoundToo() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [row("a"), row("b\0"), row("c")])
        runway.open()
        for (number, task) in tasks.enumerated() {
            let result = await task.result
            let output = try? result.get()
            #expect(output == [0, 1, nil, 1][number])
        }
    }

    /// A flight that is split to find a bad row must not part rows of one key.
    @Test func u44RowsOfOneKeyKeepTheirOrderBesideABadOne() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [row("a", 1), row("a", 2), row("a", 3), row("b\0", 4)])
        runway.open()
        for (number, task) in tasks.enumerated() {
            let output = try? await task.value
            #expect(output == [0, 1, 2, 3, nil][number])
        }
        #expect(runway.sent.flatMap { $0.map(\.hits) } == [0, 1, 2, 3])
    }

    @Test func u44AnErrorOfTheTableIsEverybodysAtOnce() async throws {
        let runway = Runway { (rows, _) throws(PostgresError) in
            if rows.count > 1 { throw rejected(.undefinedTable) }
        }
        let writer = runway.writer()
        let tasks = await gather(writer, runway, (1...9).map { row("p\($0)") })
        runway.open()
        for task in tasks.dropFirst() {
            await #expect(throws: PostgresError.self) { try await task.value }
        }
        #expect(runway.statements.count == 2)
        #expect(writer.statistics.failedRows == 9)
        // And the writer goes on.
        let output = try await writer.upsert(row("next", 7))
        #expect(output == 7)
    }

    @Test(arguments: [
        (PostgresError.Code.programLimitExceeded, true), (.init("U0001"), true), (.raiseException, true),
        (.insufficientPrivilege, false), (.undefinedTable, false), (.diskFull, false), (.adminShutdown, false),
    ])
    func u44WhichErrorsAreAboutARow(_ code: PostgresError.Code, _ isAboutARow: Bool) {
        #expect(rejected(code).isAboutARow == isAboutARow)
        #expect(!PostgresError(code: code, message: "", outcome: .unknown).isAboutARow)
    }

    @Test(arguments: [
        (PostgresError.Code.invalidArgument, true), (.typeMismatch, true), (.init("app.noSuchColour"), true),
        (.tooManyWaiters, false), (.clientShutDown, false), (.timedOut, false), (.connectionClosed, false),
        (.invalidConfiguration, false), (.unsupported, false), (.resultTooLarge, false),
    ])
    func u44WhichErrorsOfThisSideAreAboutARow(_ code: PostgresError.Code, _ isAboutARow: Bool) {
        #expect(PostgresError(code: code, message: "").isAboutARow == isAboutARow)
        // What a server says of a connection that could not be made.
        let server = PostgresError.Server(severity: "FATAL", sqlState: "53300", message: "")
        #expect(!PostgresError(code: code, message: "", server: server).isAboutARow)
    }

    /// A trigger may raise an error of any class; by the routine that reports it, it is the row's.
    @Test(arguments: ["exec_stmt_raise", "exec_stmt_assert", "errorMissingColumn"])
    func u44WhatATriggerRaisesIsAboutARow(_ routine: String) {
        for state in ["42501", "42P01", "55000", "0A000", "40001", "P0004"] {
            var server = PostgresError.Server(severity: "ERROR", sqlState: state, message: "no")
            server.routine = routine
            let error = PostgresError(
                code: PostgresError.Code(state), message: "no", outcome: .rejected, server: server)
            #expect(error.isAboutARow == (routine.hasPrefix("exec_stmt") || state == "P0004"), "\(state)")
        }
    }

    @Test func u44AMistakeInTheUpsertIsNotLookedForInItsRows() async throws {
        let runs = Atomic(0)
        let mistake = PostgresError(code: .invalidArgument, message: "no key")
        let writer = UpsertWriter<PageStats, Int>(
            table: "page_stats", declarationError: { mistake },
            run: { (_) async throws(PostgresError) in
                runs.add(1, ordering: .relaxed)
                throw mistake
            })
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<50 { group.addTask { _ = try? await writer.upsert(row("p\(number)")) } }
        }
        #expect(writer.statistics.failedRows == 50)
        #expect(writer.statistics.splits == 0)
        #expect(runs.load(ordering: .relaxed) == writer.statistics.flights)
    }

    @Test func u44ADeadlockIsRunAgain() async throws {
        let runway = Runway { (_, number) throws(PostgresError) in
            if number == 2 { throw rejected(.deadlockDetected) }
            if number == 3 { throw rejected(.serializationFailure) }
        }
        let writer = runway.writer(.init(retry: .upTo(3, base: .nanoseconds(1), cap: .nanoseconds(1))))
        let tasks = await gather(writer, runway, [row("a"), row("b")])
        runway.open()
        for task in tasks { _ = try await task.value }
        #expect(runway.paths == [["first"], ["a", "b"], ["a", "b"], ["a", "b"]])
        #expect(writer.statistics.retries == 2)
    }

    @Test func u44WhoseOutcomeIsUnknownIsNotRunAgain() async throws {
        let runway = Runway { (_, number) throws(PostgresError) in
            if number == 2 { throw PostgresError(code: .deadlockDetected, message: "cut", outcome: .unknown) }
        }
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [row("a"), row("b")])
        runway.open()
        for task in tasks.dropFirst() {
            let result = await task.result
            guard case .failure(let error as PostgresError) = result else {
                Issue.record("no error")
                continue
            }
            #expect(error.outcome == .unknown)
        }
        #expect(runway.statements.count == 2)
    }

    @Test func u44WhoIsCancelledBeforeItsFlightIsNotSent() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [row("a"), row("b")])
        tasks[0].cancel()
        tasks[1].cancel()
        for (task, outcome) in zip(tasks, [PostgresError.Outcome.unknown, .notSent]) {
            // Before the runway opens: nobody waits for the flight.
            let result = await task.result
            guard case .failure(let error as PostgresError) = result else {
                Issue.record("no error")
                continue
            }
            #expect(error.code == .cancelled)
            #expect(error.outcome == outcome)
        }
        #expect(writer.statistics.waiting == 1)
        runway.open()
        _ = try await tasks[2].value
        #expect(runway.paths == [["first"], ["b"]])
    }

    @Test func u44WhoIsCancelledAlreadyHandsNothingIn() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [])
        let late = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await writer.upsert(row("late"))
        }
        await #expect(throws: PostgresError.self) { try await late.value }
        runway.open()
        _ = try await tasks[0].value
        await writer.flush()
        #expect(runway.paths == [["first"]])
    }

    @Test func u44WhoseTimeIsUpWaitsNoLonger() async throws {
        let runway = Runway()
        let writer = runway.writer()
        runway.close()
        let first = Task { try await writer.upsert(row("first")) }
        await until { runway.statements.count == 1 }
        // The runway stays closed until all of them have given up.
        let late = await #expect(throws: PostgresError.self) {
            try await withPostgresTimeout(.milliseconds(1)) { try await writer.upsert(row("late")) }
        }
        #expect(late?.code == .timedOut)
        #expect(late?.outcome == .notSent)
        await withPostgresTimeout(.milliseconds(1)) { await writer.flush() }
        let rows = AsyncStream<PageStats> { continuation in
            continuation.yield(row("a"))
            continuation.finish()
        }
        let sequence = await #expect(throws: PostgresError.self) {
            try await withPostgresTimeout(.milliseconds(1)) { try await writer.upsert(contentsOf: rows) }
        }
        #expect(sequence?.code == .timedOut)
        runway.open()
        _ = try await first.value
        await writer.flush()
        // What was read of the sequence is written, what waited alone is not.
        #expect(runway.paths == [["first"], ["a"]])
    }

    @Test func u44WhoseTimeIsUpInFlightDoesNotKnow() async throws {
        let runway = Runway()
        let writer = runway.writer()
        runway.close()
        let error = await #expect(throws: PostgresError.self) {
            try await withPostgresTimeout(.milliseconds(1)) { try await writer.upsert(row("a")) }
        }
        #expect(error?.code == .timedOut)
        runway.open()
        await writer.flush()
        // It is sent, or not, before the time is up.
        #expect(runway.paths == (error?.outcome == .unknown ? [["a"]] : []))
    }

    @Test func u44FlushWaitsForWhatCameBefore() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [row("a")])
        let flushed = Task {
            await writer.flush()
            return runway.statements.count
        }
        let shutDown = Task { await writer.shutdown() }
        await until { writer.state.withLock { $0.isShutDown } }
        await #expect(throws: PostgresError.self) { try await writer.upsert(row("late")) }
        runway.open()
        for task in tasks { _ = try await task.value }
        let statements = await flushed.value
        #expect(statements == 2)
        await shutDown.value
        do {
            try await writer.upsert(row("later"))
            Issue.record("it was taken")
        } catch {
            #expect(error.code == .writerShutDown)
            #expect(error.outcome == .notSent)
        }
        // Of an idle writer, too.
        await writer.flush()
    }

    @Test func u44ACancelledFlushWaitsNoLonger() async throws {
        let runway = Runway()
        let writer = runway.writer()
        let tasks = await gather(writer, runway, [])
        let flushed = Task { await writer.flush() }
        flushed.cancel()
        await flushed.value
        runway.open()
        _ = try await tasks[0].value
        await writer.flush()
    }

    @Test func u43ASequenceIsReadNoFurtherThanItMay() async throws {
        let runway = Runway()
        let writer = runway.writer(.init(maximumRows: 2, maximumWaiting: 4))
        runway.close()
        let read = Lock(0)
        let rows = AsyncStream<PageStats>(unfolding: {
            let number = read.withLock { number in
                number += 1
                return number
            }
            return number > 50 ? nil : row("p\(number)", number)
        })
        let written = Task { try await writer.upsert(contentsOf: rows) }
        // Four are handed in; the fifth was read, and waits for room.
        await until { read.withLock { $0 } == 5 }
        for _ in 0..<1000 { await Task.yield() }
        #expect(read.withLock { $0 } == 5)
        runway.open()
        let count = try await written.value
        #expect(count == 50)
        #expect(runway.paths.flatMap { $0 } == (1...50).map { "p\($0)" })
    }

    @Test func u43FailuresOfASequenceAreToldOrEndIt() async throws {
        let runway = Runway { (rows, _) throws(PostgresError) in
            if rows.contains(where: { $0.hits % 10 == 0 }) { throw rejected(.checkViolation) }
        }
        let writer = runway.writer()
        let rows = AsyncStream<PageStats> { continuation in
            for hits in 1...45 { continuation.yield(row("p\(hits)", hits)) }
            continuation.finish()
        }
        var failed: [Int] = []
        let count = try await writer.upsert(contentsOf: rows) { row, error in
            #expect(error.code == .checkViolation)
            failed.append(row.hits)
        }
        #expect(count == 41)
        #expect(failed.sorted() == [10, 20, 30, 40])
        let again = AsyncStream<PageStats> { continuation in
            continuation.yield(row("p", 10))
            continuation.finish()
        }
        await #expect(throws: PostgresError.self) { try await writer.upsert(contentsOf: again) }
    }

    /// While the sequence waits for its next row a failure does not end that wait; the row is written when it comes.
    @Test func u43TheRowThatComesBehindAFailureIsWritten() async throws {
        let runway = Runway { (rows, _) throws(PostgresError) in
            if rows.contains(where: { $0.hits < 0 }) { throw rejected(.checkViolation) }
        }
        let writer = runway.writer()
        let read = Lock(0)
        let rows = AsyncStream<PageStats>(unfolding: {
            let number = read.withLock { number in
                number += 1
                return number
            }
            if number == 1 { return row("bad", -1) }
            if number > 1000 { return nil }
            await until { writer.statistics.failedRows == 1 }
            return row("p\(number)")
        })
        let error = await #expect(throws: PostgresError.self) { try await writer.upsert(contentsOf: rows) }
        #expect(error?.code == .checkViolation)
        // A failure is counted a moment before the sequence is told of it: a few rows may come in between.
        let count = read.withLock { $0 }
        #expect(2...1000 ~= count)
        #expect(runway.paths.flatMap { $0 } == ["bad"] + (2...max(2, count)).map { "p\($0)" })
    }

    @Test func u43RowsReadBeforeASequenceFailsAreWritten() async throws {
        struct Torn: Error {}
        let runway = Runway()
        let writer = runway.writer()
        let rows = AsyncThrowingStream<PageStats, any Error> { continuation in
            continuation.yield(row("a"))
            continuation.yield(row("b"))
            continuation.finish(throwing: Torn())
        }
        await #expect(throws: Torn.self) { try await writer.upsert(contentsOf: rows) }
        #expect(runway.paths.flatMap { $0 } == ["a", "b"])
    }
}
