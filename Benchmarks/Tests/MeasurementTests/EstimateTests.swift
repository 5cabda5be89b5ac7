import Measurement
import Testing

@Suite struct Estimates {
    @Test(
        arguments: [
            ([], 0), ([3], 3), ([4, 1], 2.5), ([9, 1, 5], 5), ([1, 1, 1, 100], 1), ([4, 2, 8, 6], 5),
        ] as [([Double], Double)])
    func aMedianIsTheMiddle(values: [Double], expected: Double) {
        #expect(median(values) == expected)
    }

    @Test func variationIsRelativeToTheMean() {
        #expect(coefficientOfVariation([]) == 0)
        #expect(coefficientOfVariation([7]) == 0)
        #expect(coefficientOfVariation([5, 5, 5]) == 0)
        #expect(abs(coefficientOfVariation([9, 11]) - 0.1414) < 0.0001)
        #expect(abs(coefficientOfVariation([90, 110]) - coefficientOfVariation([9, 11])) < 1e-12)
    }

    @Test func aRatioIsTakenRoundByRound() throws {
        // The second round ran on a machine ten times slower, which says nothing about the arms.
        let ratio = try #require(Ratio([1, 10, 1], over: [2, 20, 2]))
        #expect(ratio == Ratio([0.5, 0.5, 0.5], over: [1, 1, 1]))
        #expect(ratio.median == 0.5)
        #expect(ratio.low == 0.5)
        #expect(ratio.high == 0.5)
    }

    @Test func theIntervalHoldsTheMedianAndIgnoresOneWildRound() throws {
        let numerators = (0..<30).map { 1.0 + Double($0 % 5) / 100 } + [50]
        let ratio = try #require(Ratio(numerators, over: Array(repeating: 1, count: numerators.count)))
        #expect(ratio.low <= ratio.median && ratio.median <= ratio.high)
        #expect(ratio.low >= 1)
        #expect(ratio.high <= 1.04)
        #expect(ratio.low < ratio.high)
    }

    @Test func theIntervalOfTheSameRoundsIsTheSame() {
        let numerators = [1.0, 2, 3, 4, 5, 6, 7]
        let denominators = [2.0, 2, 2, 2, 2, 2, 2]
        #expect(Ratio(numerators, over: denominators) == Ratio(numerators, over: denominators))
    }

    @Test func thereIsNoRatioOfNothing() {
        #expect(Ratio([], over: []) == nil)
        #expect(Ratio([1], over: [0]) == nil)
    }

    @Test func theGeneratorIsTheReferenceOne() {
        var generator = SplitMix64(seed: 1_234_567)
        #expect(
            (0..<3).map { _ in generator.next() } == [
                6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
            ])
    }
}
