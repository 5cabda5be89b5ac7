import Foundation

/// An error that the compiler reports.
struct CompilerError: Equatable {
    /// Without its folder; empty when the error is not about a file.
    var file: String
    var line: Int
    var message: String

    /// - Parameter line: `folder/File.swift:12:5: error: ...`, or an error without a place; nil when it is no error.
    init?(_ line: Substring) {
        guard let mark = line.range(of: "error: ") else { return nil }
        let place = line[..<mark.lowerBound].split(separator: ":")
        file = place.first.map { String($0.split(separator: "/").last ?? $0) } ?? ""
        self.line = place.count > 1 ? Int(place[1]) ?? 0 : 0
        message = String(line[mark.upperBound...])
    }
}

/// Compiles snippets against the modules that the running test was built with.
enum Compiler {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent()

    static let path = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        .map { "\($0)/swiftc" }.first { FileManager.default.isExecutableFile(atPath: $0) }

    /// Where the build has put this test, and the modules beside it: so it is the right one for every build folder and sanitizer.
    private static let products = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

    static func snippet(_ name: String) -> URL { folder.appending(path: "Snippets/\(name).swift") }

    private static func arguments(_ name: String) -> [String] {
        // As far as SIL: some errors, as of values that are consumed, are found behind the type check.
        var arguments = [
            "-emit-sil", "-o", "/dev/null", "-whole-module-optimization", "-module-name", "Snippets",
            "-swift-version", "6", "-diagnostic-style", "llvm",
            "-module-cache-path", products.appending(path: "ModuleCache").path,
            "-I", products.appending(path: "Modules").path,
        ]
        let sources = folder.deletingLastPathComponent().deletingLastPathComponent().appending(path: "Sources")
        for module in ["CPostgresSystem", "CPostgresOpenSSL"] {
            arguments += ["-I", sources.appending(path: module).path]
        }
        return arguments + [snippet("Tables").path, snippet(name).path]
    }

    /// The errors of a snippet that is compiled together with `Tables.swift`.
    static func errors(in name: String) async throws -> [CompilerError] {
        guard let path else { return [] }
        let report = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).txt")
        try Data().write(to: report)
        defer { try? FileManager.default.removeItem(at: report) }
        let output = try FileHandle(forWritingTo: report)
        let process = Process()
        process.executableURL = URL(filePath: path)
        process.arguments = arguments(name)
        process.standardOutput = output
        process.standardError = output
        let status = try await withCheckedThrowingContinuation { continuation in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
        try output.close()
        let text = try String(contentsOf: report, encoding: .utf8)
        let errors = text.split(separator: "\n").compactMap { CompilerError($0) }
        // A compiler that crashed.
        if status != 0, errors.isEmpty { return [CompilerError("error: status \(status): \(text)")].compactMap(\.self) }
        return errors
    }
}
