import Foundation

/// One file of `Snippets`.
struct Snippet {
    private static let marker = "// error: "

    let name: String
    /// Lines that must not compile, and a part of the error of each.
    private(set) var expected: [Int: String] = [:]

    init(_ name: String) throws {
        self.init(name, text: try String(contentsOf: Compiler.snippet(name), encoding: .utf8))
    }

    init(_ name: String, text: String) {
        self.name = name
        for (index, line) in text.components(separatedBy: "\n").enumerated() {
            let line = line.trimmingCharacters(in: .whitespaces)
            // The first line is 1, and the comment is about the next one.
            if line.hasPrefix(Self.marker) { expected[index + 2] = String(line.dropFirst(Self.marker.count)) }
        }
    }

    /// In what these errors are not those that were announced.
    func complaints(about errors: [CompilerError]) -> [String] {
        var complaints: [String] = []
        for (line, text) in expected.sorted(by: { $0.key < $1.key }) {
            let found = errors.filter { $0.file == "\(name).swift" && $0.line == line }.map(\.message)
            if found.isEmpty {
                complaints.append("\(name).swift:\(line) compiles, instead of \"\(text)\"")
            } else if !found.contains(where: { $0.contains(text) }) {
                complaints.append("\(name).swift:\(line): not \"\(text)\", but \(found)")
            }
        }
        for error in errors where error.file != "\(name).swift" || expected[error.line] == nil {
            complaints.append("\(error.file):\(error.line): \(error.message)")
        }
        return complaints
    }
}
