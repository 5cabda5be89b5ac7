import CPostgresSystem
import Glibc
import PostgresTransport
import Synchronization

/// The small shell process that owns one server: its folder, its `initdb`, its postmaster.
///
/// We hold one end of a socket pair, it holds the other as standard input and output. It obeys one command a line and
/// answers each with one line. When our end closes, because `remove` was called, the owner went away, or this process
/// ended in whatever way, it reads end of file, stops the postmaster and removes the folder. It is the parent of the
/// postmaster, so the number it signals cannot belong to another process.
final class ServerSupervisor: Sendable {
    /// Empty but for what the commands put there; owned by the server's user.
    let folder: String

    private let processID: pid_t
    private let channel: Lock<Int32?>

    struct Failure: Error {
        var message: String
    }

    init(installation: Installation, user: ServerUser?, parentFolder: String, initdbArguments: [String]) throws(Failure)
    {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw Failure(message: "socketpair: \(lastError())") }
        defer { close(ends[1]) }
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        let arguments =
            ["-c", supervisorScript, "postgres-supervisor", installation.binFolder, user.map { "\($0.userID)" } ?? ""]
            + [user.map { "\($0.groupID)" } ?? "", parentFolder] + initdbArguments
        do {
            processID = try ChildProcess(
                "/bin/sh", arguments, environment: ChildProcess.environment, standardInput: ends[1],
                standardOutput: ends[1], standardError: null, newSession: true
            ).processID
        } catch {
            close(ends[0])
            throw Failure(message: "\(error.program): \(String(cString: strerror(error.errorNumber)))")
        }
        channel = Lock(ends[0])
        let answer: String
        do {
            answer = try Self.readLine(from: ends[0], deadline: .now + .seconds(30))
        } catch {
            close(ends[0])
            reap(processID)
            throw error
        }
        guard answer.hasPrefix("folder ") else {
            close(ends[0])
            reap(processID)
            throw Failure(message: "no temporary folder could be made in \(parentFolder) or /tmp")
        }
        folder = String(answer.dropFirst("folder ".count))
    }

    deinit {
        if let descriptor = channel.withLock({ $0.take() }) {
            close(descriptor)
            reap(processID)
        }
    }

    /// Sends one command and waits for its answer. Blocks.
    func send(_ command: String, deadline: ContinuousClock.Instant) throws(Failure) -> String {
        try channel.withLock { (descriptor) throws(Failure) in
            guard let descriptor else { throw Failure(message: "the server was removed") }
            var bytes = Array((command + "\n").utf8)[...]
            while !bytes.isEmpty {
                let count = bytes.withUnsafeBytes {
                    Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { throw Failure(message: "the supervisor process is gone: \(lastError())") }
                bytes = bytes.dropFirst(count)
            }
            return try Self.readLine(from: descriptor, deadline: deadline)
        }
    }

    /// Stops the postmaster, removes the folder and ends the supervisor. Blocks until all of it has happened.
    func remove(deadline: ContinuousClock.Instant) {
        guard let descriptor = channel.withLock({ $0.take() }) else { return }
        // End of file is the one command that the supervisor obeys whatever happened before.
        close(descriptor)
        var status: Int32 = 0
        while waitpid(processID, &status, WNOHANG) == 0 {
            guard ContinuousClock.now < deadline else { return reap(processID) }
            usleep(2000)
        }
    }

    private static func readLine(from descriptor: Int32, deadline: ContinuousClock.Instant) throws(Failure) -> String {
        var line: [UInt8] = []
        while true {
            let left = (deadline - .now) / .milliseconds(1)
            var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = poll(&wait, 1, Int32(max(0, min(left, 3_600_000))))
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else { throw Failure(message: "the supervisor process did not answer in time") }
            var byte: UInt8 = 0
            let count = read(descriptor, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count == 1 else { throw Failure(message: "the supervisor process is gone") }
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
    }
}

/// Waits for the supervisor on a thread of its own, so that no zombie is left.
private func reap(_ processID: pid_t) {
    startThread {
        var status: Int32 = 0
        while waitpid(processID, &status, 0) < 0, errno == EINTR {}
    }
}

func lastError() -> String { String(cString: strerror(errno)) }
