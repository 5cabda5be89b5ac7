import PostgresTransport
import Testing

@Suite struct DeadlineTests {
    @Test func neverNeverPasses() {
        #expect(!Deadline.never.hasPassed)
        #expect(Deadline.never.remaining == nil)
    }

    @Test(arguments: [Duration.zero, .seconds(-1), .nanoseconds(-1), .seconds(Int64.min)])
    func whatIsNotAheadHasPassed(_ duration: Duration) {
        let deadline = Deadline(after: duration)
        #expect(deadline.hasPassed)
        #expect(deadline.remaining == .zero)
    }

    @Test(arguments: [Duration.seconds(Int64.max), .seconds(20_000_000_000)])
    func aTimeTooLongToCountNeverPasses(_ duration: Duration) {
        #expect(Deadline(after: duration) == .never)
    }

    @Test func remainingIsAtMostWhatWasAsked() throws {
        let remaining = try #require(Deadline(after: .seconds(100)).remaining)
        #expect(remaining <= .seconds(100))
        #expect(remaining > .seconds(90))
    }
}
