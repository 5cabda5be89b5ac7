package import Measurement

/// What a run has to tell, in the order in which it is read: for the terminal, and as a page.
package struct Document: Sendable {
    package enum Block: Sendable {
        case section(String)
        case paragraph(String)
        case table(TextTable)
        case verdicts([Verdict])
        case facts([Fact])
        /// On the page only.
        case figure(Figure)
    }

    package let title: String
    package private(set) var blocks: [Block] = []

    package init(_ title: String) { self.title = title }

    package mutating func add(_ block: Block) { blocks.append(block) }

    package var figures: [Figure] {
        blocks.compactMap { if case .figure(let figure) = $0 { figure } else { nil } }
    }

    /// For the terminal.
    package var text: String {
        var parts = [title]
        for block in blocks {
            switch block {
            case .section(let name): parts.append("== \(name)")
            case .paragraph(let text): parts.append(text)
            case .table(let table): parts.append("\(table)")
            case .verdicts(let verdicts): parts.append(verdicts.map(\.line).joined(separator: "\n"))
            case .facts(let facts): parts.append(facts.map { "\($0.name): \($0.value)" }.joined(separator: "\n"))
            case .figure: break
            }
        }
        return parts.joined(separator: "\n\n")
    }
}

/// Something that was asked for, and whether it is so.
package struct Verdict: Sendable, Encodable, Equatable {
    /// Nil: this run did not measure it.
    package var isMet: Bool?
    package var text: String

    package init(_ isMet: Bool?, _ text: String) {
        self.isMet = isMet
        self.text = text
    }

    package var word: String {
        switch isMet {
        case true?: "met"
        case false?: "NOT MET"
        case nil: "not run"
        }
    }

    var line: String { word + String(repeating: " ", count: max(9 - word.count, 1)) + text }
}

/// A line of what the run was made on and with.
package struct Fact: Sendable, Encodable, Equatable {
    package var name: String
    package var value: String

    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}
