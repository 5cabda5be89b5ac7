import CLibPQArms
import Measurement
import Postgres

extension Scenario {
    /// A statement in every way that the protocol has.
    static func ways(_ route: ProtocolServer.Route, _ statement: ProtocolStatement) async throws -> Scenario {
        let count = 100
        var arms: [Arm] = []

        if let sql = statement.simpleSQL {
            let simple = try await route.connect()
            let query: PostgresQuery = "\(unsafeSQL: sql)"
            arms.append(
                Arm(name: "simple", connections: [simple]) {
                    await tally(0..<count) { _ in _ = try await simple.script(query) }
                })
        }
        for (name, isCached) in [("extended, unnamed", false), ("prepared", true)] {
            let db = try await route.connect(cachingStatements: isCached)
            arms.append(
                Arm(name: name, connections: [db]) {
                    await tally(0..<count) { _ in _ = try await db.query(statement.query) }
                })
        }
        // Whoever does not say what the columns are gets them as text.
        if statement.isDefault {
            let binary = try await route.connect()
            arms.append(
                Arm(name: "prepared, binary result", connections: [binary]) {
                    await tally(0..<count) { _ in _ = try await binary.query(statement.query, as: Int32.self).one() }
                })
        }
        for (name, sync) in pipelines {
            let db = try await route.connect()
            arms.append(
                Arm(name: name, connections: [db]) {
                    try await Tally.flights(1, of: count) { tally in
                        var pipeline = PostgresPipeline(sync)
                        pipeline.reserveCapacity(count)
                        for _ in 0..<count { pipeline.add(statement.query) }
                        for error in try await db.run(pipeline).errors {
                            if let error { tally.count(error) }
                        }
                    }
                })
        }
        return Scenario(
            name: route.name,
            explanation: "\(count) times on one connection, one after the other or in one flight",
            arms: arms + (try libpqArms(route, statement, count)),
            reset: {},
            tidyUp: {})
    }

    private static let pipelines: [(String, PostgresPipeline.Sync)] = [
        ("pipeline of 100, isolated", .isolated), ("pipeline of 100, atomic", .atomic),
    ]

    private static func libpqArms(
        _ route: ProtocolServer.Route, _ statement: ProtocolStatement, _ count: Int
    ) throws -> [Arm] {
        let libpq = try route.connectLibPQ()
        let binary = try LibPQ.Statement(statement, binaryResults: true)
        let text = try LibPQ.Statement(statement, binaryResults: false)
        try libpq.prepare(text)
        func arm(_ name: String, _ statement: LibPQ.Statement, _ mode: libpq_mode) -> Arm {
            Arm(name: "libpq " + name, connections: []) { try libpq.run(statement, mode, count) }
        }
        var arms: [Arm] = []
        if statement.simpleSQL != nil { arms.append(arm("simple", text, libpq_mode_simple)) }
        arms += [
            arm("extended, unnamed", text, libpq_mode_unnamed),
            arm("prepared", text, libpq_mode_prepared),
        ]
        if statement.isDefault { arms.append(arm("prepared, binary result", binary, libpq_mode_prepared)) }
        for (name, sync) in pipelines {
            arms.append(
                Arm(name: "libpq " + name, connections: []) {
                    try await Tally.flights(1, of: count) { tally in
                        try libpq.pipeline(text, count, syncEach: sync == .isolated, &tally)
                    }
                })
        }
        return arms
    }

    /// 1,000 rows of five columns, in both forms, every column read.
    static func formats(_ route: ProtocolServer.Route) async throws -> Scenario {
        let count = 1000
        let sql = SQLText.fiveColumns.replacing("$1::int4", with: "\(count)")
        let script: PostgresQuery = "\(unsafeSQL: sql)"
        let binary = try await route.connect()
        let text = try await route.connect()
        let libpq = try route.connectLibPQ()
        try libpq.prepareRows()
        return Scenario(
            name: "rows",
            explanation: "\(count) rows of int4, int8, text, float8, timestamptz; an operation is a row",
            arms: [
                Arm(name: "binary", connections: [binary]) {
                    try await Tally.flights(1, of: count) { _ in try await Reading.rows(binary, count) }
                },
                Arm(name: "text", connections: [text]) {
                    try await Tally.flights(1, of: count) { _ in
                        var read = 0
                        for row in try await text.script(script).flatMap({ try $0.all() }) {
                            let columns = try row.decode(as: (Int32, Int64, String, Double, PostgresTimestamp).self)
                            if Int64(columns.0) * 2 == columns.1 { read += 1 }
                        }
                        if read != count { throw Selecting.WrongAnswer() }
                    }
                },
                Arm(name: "libpq binary", connections: []) {
                    try await Tally.flights(1, of: count) { _ in try libpq.readRows(count) }
                },
                Arm(name: "libpq text", connections: []) {
                    try await Tally.flights(1, of: count) { _ in try libpq.readTextRows(sql, count) }
                },
            ],
            reset: {},
            tidyUp: {})
    }

    /// A statement by callers that each wait for their own.
    static func crowd(
        _ route: ProtocolServer.Route, _ statement: ProtocolStatement, connections count: Int
    ) async throws -> Scenario {
        let each = max(1, 200 / count)
        var connections: [PostgresConnection] = []
        var libpqs: [LibPQConnection] = []
        for _ in 0..<count {
            connections.append(try await route.connect())
            libpqs.append(try LibPQConnection(route, statement))
        }
        return Scenario(
            name: "\(count) connection\(count == 1 ? "" : "s")",
            explanation: "\(each) times each",
            arms: [
                Arm(name: "prepared", connections: connections) { [connections] in
                    await together(connections, parts: connections.map { _ in Array(0..<each) }) { db, _ in
                        _ = try await db.query(statement.query)
                    }
                },
                Arm(name: "libpq prepared, a thread each", connections: []) { [libpqs] in
                    try await withThrowingTaskGroup(of: Tally.self) { group in
                        for libpq in libpqs { group.addTask { try await onOwnThread { try libpq.run(each) } } }
                        return try await group.reduce(into: Tally()) { $0 += $1 }
                    }
                },
            ],
            reset: {},
            tidyUp: {})
    }
}

/// A libpq connection that travels from thread to thread, with a statement prepared on it.
///
/// Unchecked: `LibPQ` and its statement are no more than memory and a socket, bound to no thread; and each is used by the one thread
/// that an iteration makes for it, which has ended before the next begins.
final class LibPQConnection: @unchecked Sendable {
    private let libpq: LibPQ
    private let statement: LibPQ.Statement

    init(_ route: ProtocolServer.Route, _ statement: ProtocolStatement) throws(LibPQ.Failure) {
        libpq = try route.connectLibPQ()
        self.statement = try LibPQ.Statement(statement, binaryResults: false)
        try libpq.prepare(self.statement)
    }

    func run(_ count: Int) throws(LibPQ.Failure) -> Tally { try libpq.run(statement, libpq_mode_prepared, count) }

    func openLoop(
        start: UInt64, interval: UInt64, count: Int
    ) throws(LibPQ.Failure) -> (responses: [UInt64], services: [UInt64]) {
        try libpq.openLoop(statement, start: start, interval: interval, count: count)
    }
}
