public import Postgres

/// Something about the upserts of a service that somebody should look at.
public struct UpsertAlert: Sendable, Hashable {
    /// How bad it is.
    public enum Severity: String, Sendable, Hashable, CaseIterable {
        case warning
        case critical
    }

    /// What is wrong.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// A `unique_violation` (23505) of an upsert: a second unique constraint, or a statement that is not atomic.
        case duplicateKeys
        /// Too many upserts fail.
        case errorRate
        /// No connection can be made.
        case unavailable
        /// Upserts take too long.
        case latency
        /// Fewer upserts than usual.
        case throughput
        /// Too many of the pool's connections are in use.
        case poolSaturation
    }

    public let severity: Severity
    public let kind: Kind
    /// What was measured, in the unit of the threshold.
    public let value: Double
    /// What it should not have passed.
    public let threshold: Double
    /// What was measured and what was expected, in words.
    public let message: String
}

extension UpsertAlert: CustomStringConvertible {
    public var description: String { "\(severity.rawValue): \(message)" }
}

/// Where normal ends. Nil switches a check off.
public struct UpsertAlertThresholds: Sendable, Hashable {
    /// Critical above so many duplicate keys in a window.
    public var duplicateKeys: Int? = 0
    /// Critical above this part of upserts that failed.
    public var errorRate: Double? = 0.01
    /// Critical when connecting failed and never succeeded in a window.
    public var unavailable = true
    /// Warning above this 95th percentile of an upsert's duration. The measured one is exact to a factor of two, and never too small.
    public var latency: Duration? = .milliseconds(50)
    /// Warning below this part of `baseline`.
    public var throughput: Double? = 0.8
    /// Upserts a second on a usual day; nil as long as nobody knows.
    public var baseline: Double?
    /// Warning above this part of the pool's connections in use.
    public var poolSaturation: Double? = 0.8

    public init() {}

    /// What is wrong with a window, worst first. An empty window is no reason for any but `throughput` and `poolSaturation`.
    ///
    /// - Parameters:
    ///   - window: of ``UpsertMetrics/nextWindow()``.
    ///   - pool: its state at the end of the window.
    public func alerts(_ window: UpsertMetrics.Window, pool: PostgresClient.Statistics? = nil) -> [UpsertAlert] {
        critical(window) + warnings(window, pool)
    }

    private func critical(_ window: UpsertMetrics.Window) -> [UpsertAlert] {
        var alerts: [UpsertAlert] = []
        let upserts = window.upserts
        if unavailable, window.connects.failures > 0, window.connects.failures == window.connects.operations {
            let codes = window.connects.errors.keys.map(\.description).sorted().joined(separator: ", ")
            alerts.append(
                UpsertAlert(
                    severity: .critical, kind: .unavailable, value: Double(window.connects.failures), threshold: 0,
                    message: "the database is unavailable: \(window.connects.failures) attempts to connect failed"
                        + " (\(codes)), and none succeeded"))
        }
        if let duplicateKeys, upserts.duplicateKeys > duplicateKeys {
            alerts.append(
                UpsertAlert(
                    severity: .critical, kind: .duplicateKeys, value: Double(upserts.duplicateKeys),
                    threshold: Double(duplicateKeys),
                    message:
                        "\(upserts.duplicateKeys) upserts met a duplicate key, more than \(duplicateKeys): look for a"
                        + " second unique constraint on the table"))
        }
        if let errorRate, upserts.operations > 0 {
            let rate = Double(upserts.failures) / Double(upserts.operations)
            if rate > errorRate {
                let codes = upserts.errors.sorted { $0.value > $1.value }
                    .map { "\($0.value) x \($0.key)" }.joined(separator: ", ")
                alerts.append(
                    UpsertAlert(
                        severity: .critical, kind: .errorRate, value: rate, threshold: errorRate,
                        message: "\(percent(rate)) of \(upserts.operations) upserts failed, more than"
                            + " \(percent(errorRate)): \(codes)"))
            }
        }
        return alerts
    }

    private func warnings(_ window: UpsertMetrics.Window, _ pool: PostgresClient.Statistics?) -> [UpsertAlert] {
        var alerts: [UpsertAlert] = []
        if let latency, window.upserts.duration.count > 0 {
            let p95 = Double(window.upserts.duration.percentile(0.95)) / 1e6
            let limit = latency / .milliseconds(1)
            if p95 > limit {
                alerts.append(
                    UpsertAlert(
                        severity: .warning, kind: .latency, value: p95, threshold: limit,
                        message:
                            "the 95th percentile of upserts is up to \(rounded(p95)) ms, above \(rounded(limit)) ms"))
            }
        }
        if let throughput, let baseline, window.length > .zero, window.throughput < throughput * baseline {
            alerts.append(
                UpsertAlert(
                    severity: .warning, kind: .throughput, value: window.throughput, threshold: throughput * baseline,
                    message: "\(rounded(window.throughput)) upserts a second, below \(percent(throughput)) of the usual"
                        + " \(rounded(baseline))"))
        }
        if let poolSaturation, let pool, pool.maximum > 0 {
            let part = Double(pool.inUse) / Double(pool.maximum)
            if part > poolSaturation {
                alerts.append(
                    UpsertAlert(
                        severity: .warning, kind: .poolSaturation, value: part, threshold: poolSaturation,
                        message: "\(pool.inUse) of \(pool.maximum) connections are in use, more than"
                            + " \(percent(poolSaturation)); \(pool.waiting) callers wait"))
            }
        }
        return alerts
    }
}

private func rounded(_ value: Double) -> String {
    let tenths = (value * 10).rounded() / 10
    return tenths == tenths.rounded() && abs(tenths) < 1e15 ? "\(Int(tenths))" : "\(tenths)"
}

private func percent(_ part: Double) -> String { rounded(part * 100) + " %" }
