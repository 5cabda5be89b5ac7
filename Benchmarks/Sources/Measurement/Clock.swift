import Glibc

/// Nanoseconds of the monotonic clock. The call costs some 20 ns, a fraction of what `ContinuousClock` takes.
package func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
}

/// What work has cost this process: time on the wall, and CPU of all its threads in user and system mode.
package struct Cost: Sendable {
    package var seconds: Double
    package var cpuSeconds: Double

    package var cpuMicroseconds: Double { cpuSeconds * 1e6 }

    package init(seconds: Double = 0, cpuSeconds: Double = 0) {
        self.seconds = seconds
        self.cpuSeconds = cpuSeconds
    }

    package static func += (total: inout Self, more: Self) {
        total.seconds += more.seconds
        total.cpuSeconds += more.cpuSeconds
    }
}

/// Started when it is made.
package struct Meter {
    private let start: UInt64
    private let cpuAtStart: Double

    package init() {
        cpuAtStart = processCPUSeconds()
        start = monotonicNanoseconds()
    }

    package var cost: Cost {
        let end = monotonicNanoseconds()
        return Cost(seconds: Double(end - start) / 1e9, cpuSeconds: processCPUSeconds() - cpuAtStart)
    }
}

private func processCPUSeconds() -> Double {
    var usage = rusage()
    getrusage(RUSAGE_SELF.rawValue, &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
