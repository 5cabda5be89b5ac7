import Foundation

/// Columns of text: the first aligned left, the others right unless told otherwise.
package struct TextTable: CustomStringConvertible {
    /// The columns that are aligned left.
    package let leading: Set<Int>
    /// The first is the header.
    package private(set) var rows: [[String]]

    package init(_ header: [String], leading: Set<Int> = [0]) {
        self.leading = leading
        rows = [header]
    }

    package mutating func add(_ row: [String]) { rows.append(row) }

    package var description: String {
        let widths = (0..<(rows.map(\.count).max() ?? 0)).map { column in
            rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        var lines = rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if column > 0 { line += "  " }
                line += leading.contains(column) ? cell + padding : padding + cell
            }
            while line.last == " " { line.removeLast() }
            return line
        }
        lines.insert(widths.map { String(repeating: "-", count: $0) }.joined(separator: "  "), at: 1)
        return lines.joined(separator: "\n")
    }
}

extension Double {
    /// With a fixed number of decimals.
    package func formatted(_ decimals: Int) -> String { isFinite ? String(format: "%.*f", decimals, self) : "-" }
}
