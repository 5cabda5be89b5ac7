import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// When a reader lets the blocks of a long result gather.
@Suite(.inTurn, .timeLimit(.minutes(1))) struct BlockPauseTests {
    private static let space = 131_072

    /// In the middle of a long result.
    private func warm() -> BlockPause {
        var pause = BlockPause()
        for read in 0..<BlockPause.blocksBefore {
            #expect(!pause.isDue, "after \(read) blocks")
            pause.received(8192, of: Self.space)
        }
        #expect(pause.isDue)
        return pause
    }

    private func paused(_ pause: inout BlockPause, received count: Int, of space: Int = space) {
        #expect(pause.isDue)
        pause.paused()
        pause.received(count, of: space)
    }

    @Test func itIsDueAfterSoManyBlocksInARow() {
        _ = warm()
        var pause = BlockPause()
        for _ in 0..<100 {
            for _ in 1..<BlockPause.blocksBefore { pause.received(8192, of: Self.space) }
            pause.received(BlockPause.block - 1, of: Self.space)
            #expect(!pause.isDue)
        }
    }

    @Test func itGoesOnAsLongAsItBringsSeveral() {
        var pause = warm()
        for _ in 0..<100 { paused(&pause, received: 16_384 + 8192) }
        #expect(pause.isDue)
    }

    @Test func afterOneInVainReadsGoWithout() {
        var pause = warm()
        paused(&pause, received: 8192)
        for _ in 0..<BlockPause.afterVain {
            #expect(!pause.isDue)
            pause.received(8192, of: Self.space)
        }
        #expect(pause.isDue)
    }

    @Test(arguments: [0, 1, BlockPause.block - 1])
    func theEndOfAResultEndsIt(rest: Int) {
        var pause = warm()
        paused(&pause, received: rest)
        // Neither at once nor after the first blocks of the next result.
        for _ in 0..<BlockPause.afterVain {
            #expect(!pause.isDue)
            pause.received(8192, of: Self.space)
        }
        #expect(pause.isDue)
    }

    @Test func aResultWithoutAPauseThatEndsInASmallPieceEndsItToo() {
        var pause = warm()
        pause.received(100, of: Self.space)
        #expect(!pause.isDue)
        for _ in 0..<BlockPause.blocksBefore { pause.received(8192, of: Self.space) }
        #expect(pause.isDue)
    }

    @Test func itsLastBlockMayBeLarge() {
        var pause = warm()
        paused(&pause, received: 20_000)
        pause.resultBegins()
        #expect(!pause.isDue)
        for _ in 0..<BlockPause.blocksBefore { pause.received(8192, of: Self.space) }
        #expect(pause.isDue)
    }

    @Test(arguments: [true, false]) func eachRequestBeginsAnew(callersMayRead: Bool) async throws {
        let row = [UInt8](repeating: 120, count: 5000)
        let reply = Message.reply(columns: [Message.Column("text", type: 25)], rows: [[row]])
        try await withMock([.expect(firstExecution), .send(reply)]) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            // As a long result leaves it.
            db.core.state.withLock { _ in
                for _ in 0..<BlockPause.blocksBefore { db.core.blockPause.received(8192, of: Self.space) }
            }
            let text = try await db.query("SELECT text", as: String.self).one()
            #expect(text.utf8.count == row.count)
            #expect(db.core.state.withLock { _ in !db.core.blockPause.isDue })
        }
    }

    @Test func ofAReadThatFilledMuchThereIsMoreAtHand() {
        var pause = warm()
        paused(&pause, received: BlockPause.muchSpace, of: BlockPause.muchSpace)
        #expect(!pause.isDue)
        pause.received(8192, of: Self.space)
        #expect(pause.isDue)
        // The last piece of a buffer is filled also by little.
        paused(&pause, received: 8035, of: 8035)
        #expect(pause.isDue)
        paused(&pause, received: 20_000, of: 20_000)
        #expect(pause.isDue)
    }

    @Test func aConsumerThatIsSlowerThanTheServerNeverPauses() {
        var pause = BlockPause()
        for _ in 0..<1000 {
            pause.received(Self.space, of: Self.space)
            #expect(!pause.isDue)
        }
    }
}
