import Foundation
import Measurement
import Reporting

/// What protocol runs have measured.
struct ProtocolReport {
    let server: String
    let statement: ProtocolStatement
    /// One of each route.
    var ways: [ScenarioResult] = []
    var rows: ScenarioResult?
    var crowds: [ScenarioResult] = []
    var codecs: [CodecCost] = []
    var openLoops: [OpenLoop.Result] = []

    init(server: String, statement: ProtocolStatement) {
        self.server = server
        self.statement = statement
    }

    func json() throws -> Data {
        struct Loop: Encodable {
            var client: String
            var rate: Double
            var achieved: Double
            var p50: Double
            var p99: Double
            var uncorrectedP99: Double
        }
        struct Cost: Encodable {
            var name: String
            var nanoseconds: Double
        }
        struct Report: Encodable {
            var sql: String
            var results: [ArmResult]
            var codecs: [Cost]
            var openLoop: [Loop]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let scenarios = ways + [rows].compactMap { $0 } + crowds
        let report = Report(
            sql: statement.sql, results: scenarios.flatMap { $0.arms.map(\.result) },
            codecs: codecs.map { Cost(name: $0.name, nanoseconds: median($0.nanoseconds)) },
            openLoop: openLoops.map { loop in
                Loop(
                    client: loop.name, rate: loop.rate, achieved: loop.achieved, p50: loop.responses.median,
                    p99: loop.responses.percentile(99), uncorrectedP99: loop.services.percentile(99))
            })
        return try encoder.encode(report) + Data("\n".utf8)
    }

    var text: String {
        var document = Document("The protocol, measured")
        document.add(
            .paragraph(
                "PostgreSQL \(server), libpq \(LibPQ.version), which \(LibPQ.sending).\nStatement: \(statement.sql)"))
        document.add(.section("Ways to send it"))
        document.add(.table(Self.table(ways)))
        if let rows {
            document.add(.section("Text against binary: \(rows.explanation)"))
            document.add(.table(Self.table([rows])))
        }
        document.add(.section("Closed loop: each waits for its own"))
        document.add(.table(Self.table(crowds)))
        document.add(.section("Values and messages alone"))
        document.add(.table(costs))
        document.add(.paragraph("Their instructions and allocations: Benchmarks/counts encode requests replies."))
        if !openLoops.isEmpty {
            document.add(.section("Open loop"))
            document.add(.table(loops))
            document.add(
                .paragraph(
                    "Latency counts from when a statement was due; \"uncorrected\" from when it was sent, as a caller that waits "
                        + "for each would have it."))
        }
        return document.text
    }

    private var costs: TextTable {
        var table = TextTable(["work", "ns (95 %)"])
        for cost in codecs { table.add([cost.name, Estimate(cost.nanoseconds)?.text(0) ?? "-"]) }
        return table
    }

    private var loops: TextTable {
        var table = TextTable(["client", "rate", "achieved", "p50 us", "p95", "p99", "max", "uncorrected p50", "p99"])
        for loop in openLoops {
            let responses = loop.responses
            let times = [
                responses.median, responses.percentile(95), responses.percentile(99), responses.maximum,
                loop.services.median, loop.services.percentile(99),
            ]
            table.add([loop.name, loop.rate.formatted(0), loop.achieved.formatted(0)] + times.map { $0.formatted(1) })
        }
        return table
    }

    /// Each arm beside libpq's of the same name.
    private static func table(_ scenarios: [ScenarioResult]) -> TextTable {
        var table = TextTable(
            [
                "over", "way", "ops/s (95 %)", "p50 us", "p99 us", "cpu us/op", "cpu / libpq (95 %)", "trips/op",
                "syscalls/op", "sends/op",
            ], leading: [0, 1])
        for scenario in scenarios {
            for arm in scenario.arms {
                let result = arm.result
                let libpq = scenario.arms.first {
                    $0.result.arm == "libpq " + result.arm || $0.result.arm == "libpq " + result.arm + ", a thread each"
                }?.measured
                let ratio = libpq.flatMap { Ratio(arm.measured.cpuMicroseconds, over: $0.cpuMicroseconds) }
                table.add([
                    scenario.name, result.arm, result.repetitions?.text(0) ?? "-", result.latencies.median.formatted(1),
                    result.latencies.percentile(99).formatted(1), result.cpuMicrosecondsPerOperation.formatted(2),
                    ratio?.text ?? "-", result.roundTripsPerOperation?.formatted(3) ?? "-",
                    result.systemCallsPerOperation?.formatted(2) ?? "-",
                    result.sendCallsPerOperation?.formatted(3) ?? "-",
                ])
            }
        }
        return table
    }
}
