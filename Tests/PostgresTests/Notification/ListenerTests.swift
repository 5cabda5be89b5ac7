import Testing

@testable import Postgres

/// A listener's buffer, the registry of a connection, and the pauses between attempts.
struct ListenerBufferTests {
    private func notification(_ payload: Int, _ channel: String = "c") -> PostgresNotification {
        PostgresNotification(channel: channel, payload: "\(payload)", backendProcessID: 1)
    }

    @Test func `what was kept is given out in order, and then the loss is told`() {
        let listener = Listener(channels: ["c"], limit: 3)
        for number in 0..<5 { _ = listener.add(notification(number)) }
        #expect(listener.error?.code == .notificationsLost)
        #expect((0..<3).map { _ in listener.takeFirst()?.payload } == ["0", "1", "2"])
        #expect(listener.takeFirst() == nil)
        #expect(listener.hasSomething)
        // Nothing comes behind a loss: a gap in the middle could not be seen.
        _ = listener.add(notification(5))
        #expect(listener.takeFirst() == nil)
    }

    @Test func `a listener that is never quite done keeps no more than it has to`() {
        let listener = Listener(channels: ["c"], limit: 10)
        _ = listener.add(notification(0))
        for number in 1..<5000 {
            _ = listener.add(notification(number))
            #expect(listener.takeFirst()?.payload == "\(number - 1)")
        }
        #expect(listener.error == nil)
        #expect(listener.takeFirst()?.payload == "4999")
        #expect(!listener.hasSomething)
    }

    @Test(arguments: [0, -1, Int.min])
    func `a bound of nothing keeps one`(_ limit: Int) {
        let listener = Listener(channels: ["c"], limit: limit)
        _ = listener.add(notification(0))
        #expect(listener.error == nil)
        _ = listener.add(notification(1))
        #expect(listener.error?.code == .notificationsLost)
    }

    @Test func `a channel that is named twice is one`() {
        let listener = Listener(channels: ["b", "\u{E9}", "b", "a", "e\u{301}", "a", "b"], limit: 10)
        #expect(listener.channels.map { Array($0.utf8) } == ["b", "\u{E9}", "a", "e\u{301}"].map { Array($0.utf8) })
        var listeners = Listeners()
        listeners.add(listener)
        #expect(listeners.listeners(to: "b").count == 1)
    }

    @Test func `channels are told apart by their bytes`() {
        var listeners = Listeners()
        let composed = Listener(channels: ["\u{E9}", "both"], limit: 1)
        let decomposed = Listener(channels: ["e\u{301}", "both"], limit: 1)
        listeners.add(composed)
        listeners.add(decomposed)
        #expect(listeners.listeners(to: "\u{E9}").map { $0 === composed } == [true])
        #expect(listeners.listeners(to: "both").count == 2)
        listeners.remove(composed)
        #expect(!listeners.contains("\u{E9}"))
        #expect(listeners.contains("e\u{301}") && listeners.contains("both"))
        listeners.remove(decomposed)
        listeners.remove(decomposed)
        #expect(listeners.isEmpty)
    }

    @Test(
        arguments: [
            (1, .zero), (2, .milliseconds(100)), (3, .milliseconds(200)), (6, .milliseconds(1600)),
            (7, .seconds(2)), (8, .seconds(2)), (1000, .seconds(2)), (Int.max, .seconds(2)),
        ] as [(Int, Duration)])
    func `pauses double up to their bound, and are a random part of it`(_ attempt: Int, _ bound: Duration) {
        let backoff = PostgresListener.Backoff(initial: .milliseconds(100), maximum: .seconds(2))
        #expect(backoff.bound(before: attempt) == bound)
        for _ in 0..<100 {
            let pause = backoff.pause(before: attempt)
            #expect(pause >= .zero && pause <= bound)
        }
    }

    @Test(arguments: [(Duration.zero, Duration.zero), (.seconds(-1), .seconds(1)), (.seconds(9), .seconds(1))])
    func `a strange bound is no trap`(_ initial: Duration, _ maximum: Duration) {
        let backoff = PostgresListener.Backoff(initial: initial, maximum: maximum)
        for attempt in [0, 1, 2, 3, 70] {
            #expect(backoff.bound(before: attempt) >= .zero)
            #expect(backoff.bound(before: attempt) <= maximum)
        }
    }
}
