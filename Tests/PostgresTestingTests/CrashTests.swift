import Glibc
import PostgresTesting
import TestTurns
import Testing

/// A process of its own is killed by SIGKILL, in the middle of its start and afterwards, and must leave nothing.
@Suite(.inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct CrashTests {
    @Test func aKilledProcessLeavesNeitherServerNorFolder() async throws {
        let temporary = try TemporaryFolder()
        defer { temporary.remove() }
        let fixture = try Fixture(temporaryFolder: temporary.path)
        #expect(try await fixture.nextLine() == "starting")
        let words = try await fixture.nextLine().split(separator: " ").map(String.init)
        try #require(words.count == 3 && words[0] == "server")
        let postmaster = try #require(Int32(words[1]))
        #expect(isRunning(postmaster))
        #expect(words[2].hasPrefix(temporary.path))
        #expect(!temporary.isEmpty)
        fixture.kill()
        #expect(await eventually { !isRunning(postmaster) && temporary.isEmpty })
    }

    @Test(arguments: [0, 20, 150, 400, 700, 1000])
    func aProcessKilledInTheMiddleOfItsStartLeavesNothing(_ milliseconds: Int) async throws {
        let temporary = try TemporaryFolder()
        defer { temporary.remove() }
        let fixture = try Fixture(temporaryFolder: temporary.path)
        #expect(try await fixture.nextLine() == "starting")
        // Where in the start this falls is not known, and need not be: nothing may be left at any point.
        try await Task.sleep(for: .milliseconds(milliseconds))
        fixture.kill()
        #expect(await eventually { temporary.isEmpty && processes(mentioning: temporary.path).isEmpty })
    }
}

/// Its own `TMPDIR` for the fixture, so that what is left there is the fixture's.
private struct TemporaryFolder {
    let path: String

    init() throws {
        var template = Array("/tmp/crash.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw NotInTime() }
        path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // The server's user must get through when we are root.
        chmod(path, 0o755)
    }

    var isEmpty: Bool { entries(of: path).isEmpty }

    func remove() { rmdir(path) }
}

private func entries(of path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// The processes whose command line holds this text: supervisor, `initdb`, `postgres`.
private func processes(mentioning text: String) -> [Int32] {
    entries(of: "/proc").compactMap { Int32($0) }.filter { processID in
        guard let file = fopen("/proc/\(processID)/cmdline", "re") else { return false }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self).contains(text)
    }
}

private final class Fixture {
    private let child: ChildProcess
    private let output: Int32
    private var isKilled = false

    init(temporaryFolder: String) throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw NotInTime() }
        defer { close(ends[1]) }
        output = ends[0]
        let environment = ChildProcess.environment.filter { !$0.hasPrefix("TMPDIR=") } + ["TMPDIR=\(temporaryFolder)"]
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        child = try ChildProcess(
            Self.path, [], environment: environment, standardInput: null, standardOutput: ends[1], standardError: null)
    }

    deinit {
        kill()
        close(output)
    }

    func kill() {
        guard !isKilled else { return }
        isKilled = true
        Glibc.kill(child.processID, SIGKILL)
        var status: Int32 = 0
        waitpid(child.processID, &status, 0)
    }

    func nextLine() async throws -> String {
        let deadline = ContinuousClock.now + .seconds(60)
        var line: [UInt8] = []
        while ContinuousClock.now < deadline {
            var wait = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&wait, 1, 0) > 0 else {
                try await Task.sleep(for: .milliseconds(5))
                continue
            }
            var byte: UInt8 = 0
            guard read(output, &byte, 1) == 1 else { break }
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
        throw NotInTime()
    }

    /// The build puts it beside the program that runs the tests.
    private static var path: String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        let program = String(decoding: buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let folder = program[..<(program.lastIndex(of: "/") ?? program.startIndex)]
        return folder + "/postgres-testing-crash-fixture"
    }
}
