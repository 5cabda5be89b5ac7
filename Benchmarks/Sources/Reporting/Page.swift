import Measurement

/// A document as one HTML file that needs nothing else: no network, no script, no font.
package struct Page {
    private let document: Document
    private let drawings: [Int: String]

    /// - Parameter drawings: SVG elements of the document's figures, by their number.
    package init(_ document: Document, drawings: [Int: String]) {
        self.document = document
        self.drawings = drawings
    }

    package var html: String {
        var body = "<h1>\(escaped(document.title))</h1>\n"
        var figures = 0
        for block in document.blocks {
            switch block {
            case .section(let name): body += "<h2>\(escaped(name))</h2>\n"
            case .paragraph(let text): body += "<p>\(escaped(text))</p>\n"
            case .table(let table): body += Self.html(table)
            case .verdicts(let verdicts): body += Self.html(verdicts)
            case .facts(let facts): body += Self.html(facts)
            case .figure(let figure):
                if let drawing = drawings[figures] { body += Self.html(figure, drawing) }
                figures += 1
            }
        }
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>\(escaped(document.title))</title>
            <style>
            \(Self.style)
            </style>
            </head>
            <body>
            <main>
            \(body)</main>
            </body>
            </html>

            """
    }

    private static func html(_ table: TextTable) -> String {
        func row(_ cells: [String], _ tag: String) -> String {
            let cells = cells.enumerated().map { column, cell in
                let scope = tag == "th" ? " scope=\"col\"" : ""
                let leading = table.leading.contains(column) ? " class=\"leading\"" : ""
                return "<\(tag)\(scope)\(leading)>\(escaped(cell))</\(tag)>"
            }
            return "<tr>\(cells.joined())</tr>\n"
        }
        let header = table.rows.first.map { "<thead>\(row($0, "th"))</thead>\n" } ?? ""
        let rows = table.rows.dropFirst().map { row($0, "td") }.joined()
        // A table wider than a phone moves in its own frame.
        return
            "<div class=\"wide\" role=\"region\" tabindex=\"0\"><table>\n\(header)<tbody>\(rows)</tbody></table></div>\n"
    }

    private static func html(_ verdicts: [Verdict]) -> String {
        let items = verdicts.map { verdict in
            let kind = verdict.isMet.map { $0 ? "met" : "missed" } ?? "open"
            return "<li class=\"\(kind)\"><strong>\(escaped(verdict.word))</strong> \(escaped(verdict.text))</li>\n"
        }
        return "<ul class=\"verdicts\">\n\(items.joined())</ul>\n"
    }

    private static func html(_ facts: [Fact]) -> String {
        let items = facts.map { "<dt>\(escaped($0.name))</dt><dd>\(escaped($0.value))</dd>\n" }
        return "<dl>\n\(items.joined())</dl>\n"
    }

    private static func html(_ figure: Figure, _ drawing: String) -> String {
        """
        <figure>
        <h3>\(escaped(figure.title))</h3>
        \(drawing)
        <figcaption>\(escaped(figure.caption))</figcaption>
        </figure>

        """
    }

    private static let style = """
        :root { --ink: #1b1f24; --paper: #ffffff; --quiet: #5d6670; --line: #d5dae0; --good: #1a7f4b; --bad: #c0362c; }
        @media (prefers-color-scheme: dark) {
          :root { --ink: #e4e7ea; --paper: #14171a; --quiet: #9aa4ae; --line: #343b42; --good: #4cc38a; --bad: #ff7b6e; }
        }
        * { box-sizing: border-box; }
        body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
        main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
        h1 { font-size: 1.6rem; line-height: 1.2; }
        h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); }
        h3 { font-size: 1rem; margin: 0 0 .3rem; }
        p, figcaption { max-width: 46rem; }
        figure { margin: 1.2rem 0 2rem; max-width: 44rem; color: var(--ink); }
        figure svg { width: 100%; height: auto; display: block; }
        figcaption { color: var(--quiet); font-size: .9rem; }
        .wide { overflow-x: auto; margin: .8rem 0; }
        table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
        th, td { padding: .2rem .55rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
        th { color: var(--quiet); font-weight: 600; vertical-align: bottom; }
        .leading { text-align: left; }
        .verdicts { list-style: none; padding: 0; }
        .verdicts li { margin: .25rem 0; padding-left: 5.4rem; text-indent: -5.4rem; }
        .verdicts strong { display: inline-block; width: 5.4rem; text-indent: 0; }
        .met strong { color: var(--good); }
        .missed strong { color: var(--bad); }
        .open strong { color: var(--quiet); }
        dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .9rem; }
        dt { color: var(--quiet); }
        dd { margin: 0; overflow-wrap: anywhere; }
        @media (max-width: 34rem) {
          dl { grid-template-columns: 1fr; }
          dd { margin-bottom: .4rem; }
        }
        @media print {
          :root { --ink: #000; --paper: #fff; --quiet: #444; --line: #bbb; --good: #000; --bad: #000; }
          @page { margin: 14mm; }
          body { font-size: 10pt; }
          main { max-width: none; padding: 0; }
          .wide { overflow: visible; }
          table { font-size: 7pt; }
          th, td { padding: .1rem .3rem; white-space: normal; }
          figure, tr, li { break-inside: avoid; }
          h2, h3 { break-after: avoid; }
          figure { max-width: 150mm; }
        }
        """
}

/// Text of a page.
private func escaped(_ text: String) -> String {
    var result = ""
    for character in text.unicodeScalars {
        switch character {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        case "\"": result += "&quot;"
        case "\n": result += "<br>"
        default: result.unicodeScalars.append(character)
        }
    }
    return result
}
