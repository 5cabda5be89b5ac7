import Foundation
import Testing

/// The README's Swift is the code that the integration tests compile and run.
struct ReadmeBlockTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func lines(of path: String) throws -> [String] {
        try String(contentsOf: Self.root.appending(path: path), encoding: .utf8).components(separatedBy: "\n")
    }

    /// What stands between a line with `start` and the next with `end`, one element each, without its indentation.
    private func parts(of lines: [String], from start: String, to end: String) -> [String] {
        var parts: [String] = []
        var current: [String]?
        for line in lines {
            let trimmed = line.trimmingCharacters(in: .whitespaces)
            if let part = current {
                if trimmed == end {
                    parts.append(unindented(part))
                    current = nil
                } else {
                    current = part + [line]
                }
            } else if trimmed.hasPrefix(start) {
                current = []
            }
        }
        if let part = current { parts.append(unindented(part)) }
        return parts
    }

    private func unindented(_ lines: [String]) -> String {
        let indents = lines.filter { !$0.isEmpty }.map { $0.prefix { $0 == " " }.count }
        return lines.map { String($0.dropFirst(indents.min() ?? 0)) }.joined(separator: "\n")
    }

    @Test func everySwiftBlockOfTheReadmeIsRunByATest() throws {
        let test = try lines(of: "IntegrationTests/PostgresIntegrationTests/ReadmeTests.swift")
        let regions = parts(of: test, from: "// README: ", to: "// README end")
        let blocks = parts(of: try lines(of: "README.md"), from: "```swift", to: "```")
        try #require(!blocks.isEmpty)
        var shown: [String] = []
        for block in blocks {
            // A file has its imports at the top, a block may begin with some.
            let code = block.components(separatedBy: "\n")
            for line in code where line.hasPrefix("import ") {
                #expect(test.contains(line), "\(line)")
            }
            let body = code.drop { $0.hasPrefix("import ") || $0.isEmpty }.joined(separator: "\n")
            #expect(regions.contains(body), "not in ReadmeTests.swift:\n\(body)")
            shown.append(body)
        }
        for region in regions { #expect(shown.contains(region), "not in README.md:\n\(region)") }
    }

    @Test(arguments: ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
    func everyPathThatADocumentNamesExists(_ document: String) throws {
        let text = try lines(of: document).joined(separator: "\n")
        let inline = text.matches(of: /`((?:Sources|Tests|IntegrationTests|Benchmarks)\/[\w.+\/-]+)`/).map { "\($0.1)" }
        let links = text.matches(of: /\]\((?!https?:)([^)#]+)\)/).map { "\($0.1)" }
        for path in inline + links {
            #expect(FileManager.default.fileExists(atPath: Self.root.appending(path: path).path), "\(path)")
        }
    }
}
