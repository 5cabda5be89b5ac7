import Glibc

/// A point in time on the monotonic clock, after which an operation gives up.
package struct Deadline: Sendable, Hashable, Comparable {
    /// Nanoseconds of CLOCK_MONOTONIC.
    package let nanoseconds: UInt64

    package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Waits as long as it takes.
    package static let never = Deadline(nanoseconds: .max)

    package static var now: Deadline {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Deadline(
            nanoseconds: UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000
                &+ UInt64(truncatingIfNeeded: time.tv_nsec))
    }

    /// A time that is too long to be counted never passes; a negative one has passed.
    package init(after duration: Duration) {
        let now = Deadline.now.nanoseconds
        let (seconds, attoseconds) = duration.components
        guard seconds >= 0, attoseconds >= 0 else {
            nanoseconds = now
            return
        }
        let (whole, tooLong) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        let (span, tooLongStill) = whole.addingReportingOverflow(UInt64(attoseconds / 1_000_000_000))
        let (sum, overflow) = now.addingReportingOverflow(span)
        nanoseconds = tooLong || tooLongStill || overflow ? .max : sum
    }

    package var isNever: Bool { nanoseconds == .max }

    /// What is left, at least zero; nil if the deadline never passes.
    package var remaining: Duration? {
        isNever ? nil : .nanoseconds(remainingNanoseconds)
    }

    package var hasPassed: Bool { !isNever && Deadline.now.nanoseconds >= nanoseconds }

    /// What is left, at least zero, at most `Int64.max`.
    var remainingNanoseconds: Int64 {
        let now = Deadline.now.nanoseconds
        guard nanoseconds > now else { return 0 }
        return Int64(clamping: nanoseconds &- now)
    }

    package static func < (left: Deadline, right: Deadline) -> Bool { left.nanoseconds < right.nanoseconds }
}
