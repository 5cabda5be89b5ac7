/// The middle value; the mean of the two middle ones when there are as many above as below; 0 of nothing.
package func median(_ values: some Sequence<Double>) -> Double {
    let sorted = values.sorted()
    guard let last = sorted.indices.last else { return 0 }
    return (sorted[last / 2] + sorted[(last + 1) / 2]) / 2
}

/// Standard deviation over mean: how far repetitions are apart. 0 for fewer than two.
package func coefficientOfVariation(_ values: [Double]) -> Double {
    guard values.count > 1 else { return 0 }
    let mean = values.reduce(0, +) / Double(values.count)
    let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return mean == 0 ? 0 : (squares / Double(values.count - 1)).squareRoot() / mean
}

/// A median with a 95 % interval by bootstrap: the percentiles of the medians of resampled values.
package struct Estimate: Sendable, Equatable, Encodable {
    package var median: Double
    package var low: Double
    package var high: Double

    /// Nil without values, or when one of them is no number.
    package init?(_ values: [Double], resamples: Int = 2000) {
        if values.isEmpty || !values.allSatisfy(\.isFinite) { return nil }
        // Seeded: the same figures always give the same interval.
        var generator = SplitMix64(seed: 1)
        let medians = (0..<resamples).map { _ in
            Measurement.median(values.indices.map { _ in values[Int.random(in: values.indices, using: &generator)] })
        }.sorted()
        median = Measurement.median(values)
        low = medians.isEmpty ? median : medians[Int(Double(medians.count - 1) * 0.025)]
        high = medians.isEmpty ? median : medians[Int((Double(medians.count - 1) * 0.975).rounded(.up))]
    }
}

/// How two arms compare: the median of their ratios, round by round, so that what slows the machine down for a while slows
/// both.
package typealias Ratio = Estimate

extension Ratio {
    /// Nil without rounds, or when a denominator is zero.
    package init?(_ numerators: [Double], over denominators: [Double], resamples: Int = 2000) {
        self.init(zip(numerators, denominators).map { $0 / $1 }, resamples: resamples)
    }

    /// "1.52 (1.49-1.55)"
    package var text: String { text(2) }

    package func text(_ decimals: Int) -> String {
        "\(median.formatted(decimals)) (\(low.formatted(decimals))-\(high.formatted(decimals)))"
    }
}

/// Sebastiano Vigna's generator: enough to draw rounds and to shuffle keys, the same on every machine.
package struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
