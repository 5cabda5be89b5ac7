import Foundation
import FoundationXML
import Measurement
import Reporting
import Testing

@Suite struct Pages {
    private var document: Document {
        var document = Document("Upserts & <others>")
        document.add(.section("Targets"))
        document.add(.verdicts([Verdict(true, "fast"), Verdict(false, "small"), Verdict(nil, "cheap")]))
        document.add(.facts([Fact("CPU", "two \"cores\"")]))
        document.add(.paragraph("1 < 2"))
        var table = TextTable(["arm", "ops/s"])
        table.add(["naive", "12"])
        document.add(.table(table))
        document.add(
            .figure(Figure("Empty", caption: "none", x: .init("x"), y: .init("y"), series: [])))
        document.add(
            .figure(
                Figure("Line", caption: "a & b", x: .init("x"), y: .init("y"), series: [.init("s", [.init(1, 2)])])))
        return document
    }

    @Test func theTerminalGetsEverythingButFigures() {
        #expect(
            document.text == """
                Upserts & <others>

                == Targets

                met      fast
                NOT MET  small
                not run  cheap

                CPU: two "cores"

                1 < 2

                arm    ops/s
                -----  -----
                naive     12
                """)
    }

    @Test func thePageIsWellFormedAndEscaped() throws {
        let html = Page(document, drawings: [1: "<svg><path d=\"M0 0\"/></svg>"]).html
        let body = try #require(html.range(of: "<main>"))
        let end = try #require(html.range(of: "</main>"))
        // Everything of the body is XML, too, but for <br>, of which there is none here.
        let xml = Data(html[body.lowerBound..<end.upperBound].utf8)
        let reader = TagReader()
        let parser = XMLParser(data: xml)
        parser.delegate = reader
        #expect(parser.parse(), "\(parser.parserError.map { "\($0)" } ?? "")")
        #expect(reader.text.contains("Upserts & <others>"))
        #expect(reader.text.contains("two \"cores\""))
        #expect(reader.tags.filter { $0 == "svg" }.count == 1)
        #expect(reader.tags.filter { $0 == "td" }.count == 2)
        // The figure without a drawing is left out, and the drawing is with its own caption.
        #expect(!reader.text.contains("Empty"))
        #expect(reader.text.contains("a & b"))
    }

    @Test func thePageNeedsNoNetwork() {
        let html = Page(document, drawings: [:]).html
        for mark in ["http:", "https:", "@import", "src=", "<script", "<link", "url("] {
            #expect(!html.contains(mark), "\(mark)")
        }
        #expect(html.contains("prefers-color-scheme: dark"))
        #expect(html.contains("@media print"))
        #expect(html.contains("width=device-width"))
    }
}

private final class TagReader: NSObject, XMLParserDelegate {
    var tags: [String] = []
    var text = ""

    func parser(
        _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
        attributes: [String: String]
    ) { tags.append(name) }

    func parser(_ parser: XMLParser, foundCharacters characters: String) { text += characters }
}
