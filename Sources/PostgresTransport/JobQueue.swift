/// Jobs in the order they came. Only the loop's own thread touches it, so it needs no lock.
struct JobQueue {
    private var jobs: [UnownedJob] = []
    private var head = 0

    var isEmpty: Bool { head == jobs.count }

    mutating func append(_ job: UnownedJob) { jobs.append(job) }

    /// Takes everything out of `other`, which keeps its capacity.
    mutating func append(contentsOf other: inout [UnownedJob]) {
        guard !other.isEmpty else { return }
        if isEmpty, head == 0 {
            swap(&jobs, &other)
        } else {
            jobs.append(contentsOf: other)
            other.removeAll(keepingCapacity: true)
        }
    }

    mutating func popFirst() -> UnownedJob? {
        guard head < jobs.count else { return nil }
        let job = jobs[head]
        head += 1
        if head == jobs.count {
            jobs.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024, head * 2 > jobs.count {
            // Two jobs that keep enqueueing each other never leave the queue empty.
            jobs.removeFirst(head)
            head = 0
        }
        return job
    }
}
