import Foundation
import Testing

/// The Swift of the README and of the guides is the code that the integration tests compile and run.
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

    /// The guides of PostgresUpsert, and the tests of them.
    private static let guides = "Sources/PostgresUpsert/PostgresUpsert.docc"
    private static let guideTests = "IntegrationTests/PostgresIntegrationTests/Guides"

    private func names(in folder: String, endingWith end: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: Self.root.appending(path: folder).path)
            .filter { $0.hasSuffix(end) }.map { String($0.dropLast(end.count)) }.sorted()
    }

    @Test func everySwiftBlockOfTheReadmeIsRunByATest() throws {
        try compare("README.md", "IntegrationTests/PostgresIntegrationTests/ReadmeTests.swift", marker: "README")
    }

    @Test func everySwiftBlockOfAGuideIsRunByATest() throws {
        let tested = try names(in: Self.guideTests, endingWith: "GuideTests.swift")
        try #require(!tested.isEmpty)
        for name in try names(in: Self.guides, endingWith: ".md") {
            let document = "\(Self.guides)/\(name).md"
            if tested.contains(name) {
                try compare(document, "\(Self.guideTests)/\(name)GuideTests.swift", marker: "GUIDE")
            } else {
                #expect(try parts(of: lines(of: document), from: "```swift", to: "```").isEmpty, "\(name) has no test")
            }
        }
    }

    private func compare(_ document: String, _ testFile: String, marker: String) throws {
        let test = try lines(of: testFile)
        let regions = parts(of: test, from: "// \(marker): ", to: "// \(marker) end")
        let blocks = parts(of: try lines(of: document), from: "```swift", to: "```")
        try #require(!blocks.isEmpty, "\(document)")
        var shown: [String] = []
        for block in blocks {
            // A file has its imports at the top, a block may begin with some.
            let code = block.components(separatedBy: "\n")
            for line in code where line.hasPrefix("import ") {
                #expect(test.contains(line), "\(line)")
            }
            let body = code.drop { $0.hasPrefix("import ") || $0.isEmpty }.joined(separator: "\n")
            #expect(regions.contains(body), "not in \(testFile):\n\(body)")
            shown.append(body)
        }
        for region in regions { #expect(shown.contains(region), "not in \(document):\n\(region)") }
    }

    @Test func everyGuideIsLinkedAndItsLinksLeadSomewhere() throws {
        let readme = try lines(of: "README.md").joined(separator: "\n")
        let overview = try lines(of: "\(Self.guides)/PostgresUpsert.md").joined(separator: "\n")
        for name in try names(in: Self.guides, endingWith: ".md") {
            #expect(readme.contains("](\(Self.guides)/\(name).md)"), "\(name) is not in README.md")
            if name != "PostgresUpsert" { #expect(overview.contains("](\(name).md)"), "\(name) is in no overview") }
            let text = try lines(of: "\(Self.guides)/\(name).md").joined(separator: "\n")
            for path in text.matches(of: /\]\((?!https?:)([^)#]+)\)/).map({ "\($0.1)" }) {
                let target = Self.root.appending(path: "\(Self.guides)/\(path)").path
                #expect(FileManager.default.fileExists(atPath: target), "\(name): \(path)")
            }
            for path in text.matches(of: /`((?:Sources|Tests|IntegrationTests|Benchmarks)\/[\w.+\/-]+)`/).map({
                "\($0.1)"
            }) {
                let target = Self.root.appending(path: path).path
                #expect(FileManager.default.fileExists(atPath: target), "\(name): \(path)")
            }
        }
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

    /// Suites are given by their name or their file, test functions by their name.
    @Test func everyTestThatUpsertMDNamesExists() throws {
        let named = try lines(of: "Tests/UPSERT.md").filter { $0.hasPrefix("|") }.flatMap { line in
            // In the last column; the one before it may hold code.
            line.dropLast().split(separator: "|").last?.matches(of: /`([\w\/]+)`/).map { "\($0.1)" } ?? []
        }
        try #require(named.count > 80)
        var declared: Set<String> = []
        for folder in ["Tests", "IntegrationTests"] {
            let files = FileManager.default.enumerator(atPath: Self.root.appending(path: folder).path)
            while let file = files?.nextObject() as? String {
                guard file.hasSuffix("Tests.swift") else { continue }
                let source = try lines(of: "\(folder)/\(file)").joined(separator: "\n")
                let suites = source.matches(of: /\bstruct (\w+)/).map { "\($0.1)" }
                declared.formUnion(suites + source.matches(of: /\bfunc (\w+)/).map { "\($0.1)" })
                // `Writer/UpsertWriterTests`
                let path = file.dropLast(".swift".count).split(separator: "/").suffix(2).joined(separator: "/")
                declared.insert(path)
            }
        }
        for name in named { #expect(declared.contains(name), "Tests/UPSERT.md names \(name)") }
    }
}
