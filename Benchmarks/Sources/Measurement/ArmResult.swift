/// One scenario done in one way, as it goes into the JSON report. What was not counted is null.
package struct ArmResult: Sendable, Encodable {
    package var scenario: String
    package var arm: String
    package var operations: Int
    package var errors: Int
    package var duplicateKeyErrors: Int
    /// Successful operations per second.
    package var throughput: Double
    package var latencies: Latencies
    package var roundTripsPerOperation: Double?
    package var systemCallsPerOperation: Double?
    package var cpuMicrosecondsPerOperation: Double

    package init(
        scenario: String, arm: String, operations: Int, errors: Int, duplicateKeyErrors: Int, cost: Cost,
        latencies: Latencies, roundTrips: Int?, systemCalls: Int?
    ) {
        self.scenario = scenario
        self.arm = arm
        self.operations = operations
        self.errors = errors
        self.duplicateKeyErrors = duplicateKeyErrors
        self.latencies = latencies
        let count = Double(max(operations, 1))
        throughput = cost.seconds > 0 ? Double(operations - errors) / cost.seconds : 0
        roundTripsPerOperation = roundTrips.map { Double($0) / count }
        systemCallsPerOperation = systemCalls.map { Double($0) / count }
        cpuMicrosecondsPerOperation = cost.cpuSeconds * 1e6 / count
    }

    package var errorRate: Double { operations == 0 ? 0 : Double(errors) / Double(operations) }

    private enum CodingKeys: String, CodingKey {
        case scenario
        case arm
        case operations
        case errors
        case duplicateKeyErrors = "duplicate_key_errors"
        case throughput
        case mean = "mean_us"
        case median = "p50_us"
        case p95 = "p95_us"
        case p99 = "p99_us"
        case roundTripsPerOperation = "round_trips_per_op"
        case systemCallsPerOperation = "syscalls_per_op"
        case cpuMicrosecondsPerOperation = "cpu_us_per_op"
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(scenario, forKey: .scenario)
        try container.encode(arm, forKey: .arm)
        try container.encode(operations, forKey: .operations)
        try container.encode(errors, forKey: .errors)
        try container.encode(duplicateKeyErrors, forKey: .duplicateKeyErrors)
        try container.encode(throughput, forKey: .throughput)
        try container.encode(latencies.mean, forKey: .mean)
        try container.encode(latencies.median, forKey: .median)
        try container.encode(latencies.percentile(95), forKey: .p95)
        try container.encode(latencies.percentile(99), forKey: .p99)
        // Not `encodeIfPresent`: every object has every key.
        try container.encode(roundTripsPerOperation, forKey: .roundTripsPerOperation)
        try container.encode(systemCallsPerOperation, forKey: .systemCallsPerOperation)
        try container.encode(cpuMicrosecondsPerOperation, forKey: .cpuMicrosecondsPerOperation)
    }
}
