import Foundation
import Measurement
import Reporting

/// What a run is made on and with.
enum Environment {
    static func facts(_ server: BenchmarkServer, _ repetitions: Repetitions) -> [Fact] {
        var facts = [
            Fact("Time", Date().formatted(.iso8601)),
            Fact("Processor", processor),
            Fact("Memory", "\(ProcessInfo.processInfo.physicalMemory >> 20) MiB"),
            Fact("System", "\(system), Linux \(kernel)"),
            Fact("Load before", load),
            Fact("Compiler", compiler),
            Fact("Server", "PostgreSQL \(server.version), \(server.isPrivate ? "private, on this machine" : "yours")"),
            Fact("libpq", "\(LibPQ.version), which \(LibPQ.sending)"),
            Fact(
                "Repetitions",
                "at most \(repetitions.repetitions) of up to \(repetitions.iterations) iterations, arms interleaved"),
        ]
        facts.append(settings(server, of: "the server"))
        return facts
    }

    static func settings(_ server: BenchmarkServer, of name: String) -> Fact {
        Fact("Settings of \(name)", server.settings.map { "\($0.name) = \($0.value)" }.joined(separator: ", "))
    }

    private static var processor: String {
        let count = ProcessInfo.processInfo.activeProcessorCount
        let model = field("/proc/cpuinfo", "model name") ?? "unknown"
        return "\(model), \(count) in use"
    }

    private static var system: String {
        field("/etc/os-release", "PRETTY_NAME", separator: "=")?.trimmingCharacters(
            in: CharacterSet(charactersIn: "\""))
            ?? "unknown system"
    }

    private static var kernel: String { line("/proc/sys/kernel/osrelease") ?? "of unknown version" }

    private static var load: String {
        line("/proc/loadavg").map { $0.split(separator: " ").prefix(3).joined(separator: " ") } ?? "unknown"
    }

    private static var compiler: String {
        #if compiler(>=6.4)
            "Swift 6.4 or later"
        #elseif compiler(>=6.3)
            "Swift 6.3"
        #else
            "Swift 6.2"
        #endif
    }

    private static func line(_ path: String) -> String? {
        (try? String(contentsOfFile: path, encoding: .utf8))?.split(separator: "\n").first.map(String.init)
    }

    private static func field(_ path: String, _ name: String, separator: Character = ":") -> String? {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: separator, maxSplits: 1)
            if parts.count == 2, parts[0].trimmingCharacters(in: .whitespaces) == name {
                return parts[1].trimmingCharacters(in: .whitespaces)
            }
        }
        return nil
    }
}
