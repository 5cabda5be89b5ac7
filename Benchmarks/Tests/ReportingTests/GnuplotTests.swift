import Reporting
import Testing

@Suite struct Drawings {
    private func figure(_ points: [Figure.Point], isLogarithmic: Bool = true) -> Figure {
        Figure(
            "Rows", caption: "", x: .init("rows", isLogarithmic: isLogarithmic, ticks: [("10", 10), ("1,000", 1000)]),
            y: .init("rows/s"), series: [.init("it's {un}nest", points)])
    }

    @Test func theScriptHoldsDataAxesAndIntervals() {
        let script = Gnuplot.script(figure([.init(10, 5, low: 4, high: 7), .init(1000, 6)]))
        #expect(script.contains("$series0 << END\n10.0 5.0 4.0 7.0\n1000.0 6.0 6.0 6.0\nEND\n"))
        #expect(script.contains("set logscale x 10"))
        #expect(!script.contains("set logscale y"))
        #expect(script.contains("set xtics ('10' 10.0, '1,000' 1000.0)"))
        #expect(script.contains("set xrange [8.6"))
        #expect(script.contains("using 1:2:3:4 with yerrorlines"))
        // Neither a quote nor gnuplot's own marks get through.
        #expect(script.contains("title 'it''s  un nest'"))
        #expect(Gnuplot.script(figure([.init(10, 5)])).contains("using 1:2 with linespoints"))
    }

    @Test func whatCannotBeDrawnIsLeftOut() throws {
        #expect(figure([.init(0, 1), .init(.nan, 1), .init(1, .infinity)]).drawable.isEmpty)
        #expect(figure([.init(0, 1)], isLogarithmic: false).drawable.count == 1)
        #expect(try Gnuplot.draw(figure([]), number: 1) == nil)
    }

    @Test func anElementIsPutIntoThePagesColoursWithNamesOfItsOwn() throws {
        let svg = """
            <?xml version="1.0"?>
            <!DOCTYPE svg>
            <svg viewBox="0 0 1 1"><defs><circle id='gpDot' r='0.5'/></defs><use xlink:href='#gpDot'/>
            <path stroke='black' d='M0 0'/><text fill="rgb(0,0,0)">rows</text></svg>
            """
        let element = try #require(Gnuplot.inline(svg, 3))
        #expect(element.hasPrefix("<svg"))
        #expect(element.hasSuffix("</svg>"))
        #expect(element.contains("id='figure3-gpDot'"))
        #expect(element.contains("xlink:href='#figure3-gpDot'"))
        #expect(element.contains("stroke='currentColor'"))
        #expect(element.contains("fill=\"currentColor\""))
        #expect(Gnuplot.inline("gnuplot: error", 1) == nil)
    }

    @Test(.enabled(if: Gnuplot.path != nil, "gnuplot is not installed"))
    func gnuplotDraws() throws {
        let element = try #require(
            try Gnuplot.draw(figure([.init(10, 5, low: 4, high: 7), .init(1000, 6)]), number: 7))
        #expect(element.contains("figure7-"))
        #expect(element.contains("rows/s"))
        #expect(!element.contains("'black'"))
        let file = try #require(try Gnuplot.file(figure([.init(10, 5), .init(1000, 6)])))
        #expect(file.hasPrefix("<?xml"))
        #expect(file.contains("xmlns"))
        #expect(try Gnuplot.file(figure([])) == nil)
    }
}
