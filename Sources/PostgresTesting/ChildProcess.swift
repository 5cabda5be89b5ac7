import CPostgresSystem
import Glibc

/// A program started with `posix_spawn`: nothing but the three standard descriptors is inherited, so that no child
/// can keep one of our sockets open.
package struct ChildProcess {
    package let processID: Int32

    package struct SpawnFailure: Error {
        package let program: String
        package let errorNumber: Int32
    }

    /// - Parameter newSession: whether the child leaves our session, so that the terminal's Ctrl-C does not reach it.
    package init(
        _ program: String, _ arguments: [String], environment: [String], standardInput: Int32, standardOutput: Int32,
        standardError: Int32, newSession: Bool = false
    ) throws(SpawnFailure) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // Copies above 2, since a process that was started without standard descriptors may have given us those numbers,
        // and one dup2 would overwrite the source of the next.
        let sources = [standardInput, standardOutput, standardError].map { fcntl($0, F_DUPFD_CLOEXEC, 3) }
        defer { for source in sources where source >= 0 { close(source) } }
        for (source, target) in zip(sources, Int32(0)...) {
            guard source >= 0 else { throw SpawnFailure(program: program, errorNumber: errno) }
            posix_spawn_file_actions_adddup2(&actions, source, target)
        }
        posix_spawn_file_actions_addclosefrom_np(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A shell cannot trap a signal that was ignored when it began, and a blocked signal stays blocked in every
        // descendant: the child starts with neither.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        var flags = Int16(truncatingIfNeeded: POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
        if newSession { flags |= postgres_POSIX_SPAWN_SETSID }
        posix_spawnattr_setflags(&attributes, flags)

        var processID: pid_t = 0
        let error = withCStrings([program] + arguments) { argumentPointers in
            withCStrings(environment) { environmentPointers in
                posix_spawn(&processID, program, &actions, &attributes, argumentPointers, environmentPointers)
            }
        }
        guard error == 0 else { throw SpawnFailure(program: program, errorNumber: error) }
        self.processID = processID
    }

    /// Waits for the end. Nil when `deadline` passes first; the child is then killed and reaped.
    package func wait(until deadline: ContinuousClock.Instant) -> Int32? {
        var status: Int32 = 0
        while true {
            let result = waitpid(processID, &status, WNOHANG)
            if result == processID { return exitStatus(status) }
            if result < 0, errno != EINTR { return nil }
            if ContinuousClock.now >= deadline {
                kill(processID, SIGKILL)
                while waitpid(processID, &status, 0) < 0, errno == EINTR {}
                return nil
            }
            usleep(2000)
        }
    }

    /// The result of a program that ran to its end.
    struct Output {
        var status: Int32
        var output: String
        var errors: String
    }

    /// Runs a program to its end. Input and outputs are memory files, so no pipe can fill up and block either side.
    static func run(
        _ program: String, _ arguments: [String], environment: [String], input: String = "",
        deadline: ContinuousClock.Instant
    ) throws(SpawnFailure) -> Output? {
        let inputFile = memfd_create("input", postgres_MFD_CLOEXEC)
        let outputFile = memfd_create("output", postgres_MFD_CLOEXEC)
        let errorFile = memfd_create("errors", postgres_MFD_CLOEXEC)
        defer {
            for file in [inputFile, outputFile, errorFile] where file >= 0 { close(file) }
        }
        guard inputFile >= 0, outputFile >= 0, errorFile >= 0, File.write(Array(input.utf8), to: inputFile) else {
            throw SpawnFailure(program: program, errorNumber: errno)
        }
        lseek(inputFile, 0, Int32(SEEK_SET))
        let child = try ChildProcess(
            program, arguments, environment: environment, standardInput: inputFile, standardOutput: outputFile,
            standardError: errorFile)
        guard let status = child.wait(until: deadline) else { return nil }
        lseek(outputFile, 0, Int32(SEEK_SET))
        lseek(errorFile, 0, Int32(SEEK_SET))
        return Output(
            status: status, output: File.readString(from: outputFile), errors: File.readString(from: errorFile))
    }

    /// The environment of every program started here: small and fixed, so that a `PGHOST` or a locale of the caller
    /// changes nothing.
    package static var environment: [String] {
        var environment = ["LC_ALL=C", "TZ=UTC", "PATH=\(searchPath)"]
        for name in ["HOME", "TMPDIR", "LD_LIBRARY_PATH"] {
            if let value = environmentVariable(name) { environment.append("\(name)=\(value)") }
        }
        return environment
    }

    static var searchPath: String {
        (environmentVariable("PATH").map { $0 + ":" } ?? "") + "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    }
}

func environmentVariable(_ name: String) -> String? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return String(cString: value)
}

/// As a shell's `$?`: 128 and the signal's number when a signal ended the process.
private func exitStatus(_ status: Int32) -> Int32 {
    let signal = status & 0x7f
    return signal == 0 ? (status >> 8) & 0xff : 128 + signal
}

/// A null-terminated array of C strings, alive for the duration of `body`.
private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return body(&pointers)
}
