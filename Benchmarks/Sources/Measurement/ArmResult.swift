/// One scenario done in one way, as it goes into the JSON report. What was not counted is null.
package struct ArmResult: Sendable, Encodable {
    package var scenario: String
    package var arm: String
    package var operations: Int
    package var errors: Int
    package var duplicateKeyErrors: Int
    /// Increments that were reported as done and are not in the table; nil where it was not asked.
    package var lostUpdates: Int?
    /// Successful operations per second.
    package var throughput: Double
    package var latencies: Latencies
    /// The median of the repetitions' throughputs, with its interval.
    package var repetitions: Estimate?
    /// Of the repetitions' throughputs.
    package var coefficientOfVariation: Double
    package var roundTripsPerOperation: Double?
    /// The same, as a proxy between client and server counted them.
    package var proxyRoundTripsPerOperation: Double?
    /// Calls of send, where they were counted: libpq's.
    package var sendCallsPerOperation: Double?
    package var systemCallsPerOperation: Double?
    package var cpuMicrosecondsPerOperation: Double

    /// What was counted; what was not is nil.
    package struct Counts: Sendable {
        package var operations = 0
        package var errors = 0
        package var duplicateKeyErrors = 0
        package var lostUpdates: Int?
        package var roundTrips: Int?
        package var proxyRoundTrips: Int?
        package var systemCalls: Int?
        package var sendCalls: Int?

        package init() {}
    }

    /// - Parameter throughputs: one of each repetition.
    package init(
        scenario: String, arm: String, counts: Counts, cost: Cost, latencies: Latencies, throughputs: [Double] = []
    ) {
        self.scenario = scenario
        self.arm = arm
        operations = counts.operations
        errors = counts.errors
        duplicateKeyErrors = counts.duplicateKeyErrors
        lostUpdates = counts.lostUpdates
        self.latencies = latencies
        let count = Double(max(operations, 1))
        throughput = cost.seconds > 0 ? Double(operations - errors) / cost.seconds : 0
        repetitions = Estimate(throughputs)
        coefficientOfVariation = Measurement.coefficientOfVariation(throughputs)
        roundTripsPerOperation = counts.roundTrips.map { Double($0) / count }
        proxyRoundTripsPerOperation = counts.proxyRoundTrips.map { Double($0) / count }
        systemCallsPerOperation = counts.systemCalls.map { Double($0) / count }
        sendCallsPerOperation = counts.sendCalls.map { Double($0) / count }
        cpuMicrosecondsPerOperation = cost.cpuSeconds * 1e6 / count
    }

    package var errorRate: Double { operations == 0 ? 0 : Double(errors) / Double(operations) }

    private enum CodingKeys: String, CodingKey {
        case scenario
        case arm
        case operations
        case errors
        case duplicateKeyErrors = "duplicate_key_errors"
        case lostUpdates = "lost_updates"
        case throughput
        case repetitions = "throughput_median"
        case coefficientOfVariation = "throughput_cv"
        case mean = "mean_us"
        case median = "p50_us"
        case p95 = "p95_us"
        case p99 = "p99_us"
        case roundTripsPerOperation = "round_trips_per_op"
        case proxyRoundTripsPerOperation = "proxy_round_trips_per_op"
        case systemCallsPerOperation = "syscalls_per_op"
        case sendCallsPerOperation = "sends_per_op"
        case cpuMicrosecondsPerOperation = "cpu_us_per_op"
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(scenario, forKey: .scenario)
        try container.encode(arm, forKey: .arm)
        try container.encode(operations, forKey: .operations)
        try container.encode(errors, forKey: .errors)
        try container.encode(duplicateKeyErrors, forKey: .duplicateKeyErrors)
        try container.encode(lostUpdates, forKey: .lostUpdates)
        try container.encode(throughput, forKey: .throughput)
        try container.encode(repetitions, forKey: .repetitions)
        try container.encode(coefficientOfVariation, forKey: .coefficientOfVariation)
        try container.encode(latencies.mean, forKey: .mean)
        try container.encode(latencies.median, forKey: .median)
        try container.encode(latencies.percentile(95), forKey: .p95)
        try container.encode(latencies.percentile(99), forKey: .p99)
        // Not `encodeIfPresent`: every object has every key.
        try container.encode(roundTripsPerOperation, forKey: .roundTripsPerOperation)
        try container.encode(proxyRoundTripsPerOperation, forKey: .proxyRoundTripsPerOperation)
        try container.encode(systemCallsPerOperation, forKey: .systemCallsPerOperation)
        try container.encode(sendCallsPerOperation, forKey: .sendCallsPerOperation)
        try container.encode(cpuMicrosecondsPerOperation, forKey: .cpuMicrosecondsPerOperation)
    }
}
