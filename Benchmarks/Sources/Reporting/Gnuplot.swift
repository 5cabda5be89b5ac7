import Foundation

/// Figures drawn by gnuplot, as SVG to be put into a page.
package enum Gnuplot {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    /// Where the program is; nil if it is not in PATH.
    package static var path: String? {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        return folders.map { "\($0)/gnuplot" }.first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    // Middle tones, which can be told apart on white and on black, and with each a shape, for whoever sees no colours.
    static let colors = [
        "#3b82c4", "#d9822b", "#2a9d6f", "#c2528b", "#8b6fc9", "#7a8794", "#b8860b", "#d1495b", "#0f9bb0", "#6b9a2f",
        "#a0603c", "#d674c8",
    ]
    private static let shapes = [7, 5, 9, 13, 11, 4, 6, 8, 15, 12, 10, 3]

    /// The script for one figure. Black is replaced by the page's own colour afterwards.
    package static func script(_ figure: Figure) -> String {
        let series = figure.drawable
        var lines = [
            // Its own units, no size: the page scales it. Few units a line, so that the letters are large on a phone.
            "set terminal svg size 560,\(340 + 20 * ((series.count + 1) / 2)) dynamic font 'sans-serif,13'",
            "set key below maxcols 2 samplen 2 reverse Left",
            "set border 3",
            "set tics nomirror",
            "set grid ytics linecolor rgb '#888888' linewidth 0.4 dashtype 2",
            "set xlabel \(quoted(figure.x.label)) offset 0,0.4",
            "set ylabel \(quoted(figure.y.label))",
            "set bars 0.5",
            "set encoding utf8",
        ]
        for (name, axis) in [("x", figure.x), ("y", figure.y)] {
            if axis.isLogarithmic { lines.append("set logscale \(name) 10") }
            if axis.ticks.isEmpty {
                lines.append("set format \(name) '%.0s%c'")
            } else {
                let ticks = axis.ticks.map { "\(quoted($0.label)) \($0.at)" }.joined(separator: ", ")
                lines.append("set \(name)tics (\(ticks))")
            }
        }
        if !figure.y.isLogarithmic { lines.append("set yrange [0:*]") }
        // A little room on both sides, or the outermost labels are left out.
        let places = series.flatMap(\.points).map(\.x)
        if let first = places.min(), let last = places.max() {
            let room = figure.x.isLogarithmic ? 1.15 : max(last - first, 1) * 0.03
            lines.append(
                figure.x.isLogarithmic
                    ? "set xrange [\(first / room):\(last * room)]" : "set xrange [\(first - room):\(last + room)]")
        }
        for (index, series) in series.enumerated() {
            lines.append("$series\(index) << END")
            lines += series.points.map { "\($0.x) \($0.y) \($0.low) \($0.high)" }
            lines.append("END")
        }
        let plots = series.enumerated().map { index, series in
            let isPrecise = series.points.allSatisfy { $0.low == $0.y && $0.high == $0.y }
            let shape = shapes[index % shapes.count]
            return
                "$series\(index) using 1:2\(isPrecise ? "" : ":3:4") with \(isPrecise ? "linespoints" : "yerrorlines")"
                + " linecolor rgb '\(colors[index % colors.count])' linewidth 1.6 pointtype \(shape) pointsize 0.5"
                + " title \(quoted(series.name))"
        }
        lines.append("plot " + plots.joined(separator: ", "))
        return lines.joined(separator: "\n") + "\n"
    }

    /// - Parameter number: of the figure within its page.
    /// - Returns: an `<svg>` element whose identifiers are its own within the page; nil if there is nothing to draw.
    package static func draw(_ figure: Figure, number: Int) throws -> String? {
        guard let svg = try file(figure) else { return nil }
        guard let element = inline(svg, number) else {
            throw Failure(description: "gnuplot, \(figure.title): that is no SVG")
        }
        return element
    }

    /// - Returns: an SVG file of its own; nil if there is nothing to draw.
    package static func file(_ figure: Figure) throws -> String? {
        if figure.drawable.isEmpty { return nil }
        guard let path else { throw Failure(description: "There is no gnuplot in PATH.") }
        let process = Process()
        process.executableURL = URL(filePath: path)
        let input = Pipe()
        let output = Pipe()
        let errors = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        // A script is a few kilobytes, less than a pipe holds, and gnuplot reads it whole before it draws.
        try input.fileHandleForWriting.write(contentsOf: Data(script(figure).utf8))
        try input.fileHandleForWriting.close()
        let svg = try output.fileHandleForReading.readToEnd() ?? Data()
        let complaint = try errors.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure(description: "gnuplot, \(figure.title): \(String(decoding: complaint, as: UTF8.self))")
        }
        return String(decoding: svg, as: UTF8.self)
    }

    /// The element alone, in the page's colours, with identifiers that no other figure has.
    package static func inline(_ svg: String, _ number: Int) -> String? {
        guard let start = svg.range(of: "<svg"), let end = svg.range(of: "</svg>", options: .backwards) else {
            return nil
        }
        var element = String(svg[start.lowerBound..<end.upperBound])
        // An element of a page needs no namespaces.
        for declaration in [
            "xmlns=\"http://www.w3.org/2000/svg\"", "xmlns:xlink=\"http://www.w3.org/1999/xlink\"",
            "<title>Gnuplot</title>",
        ] { element = element.replacingOccurrences(of: declaration, with: "") }
        for attribute in ["id=\"", "id='", "xlink:href='#", "xlink:href=\"#", "url(#"] {
            element = element.replacingOccurrences(of: attribute, with: "\(attribute)figure\(number)-")
        }
        for black in ["rgb(  0,   0,   0)", "rgb(0,0,0)", "#000000", "\"black\"", "'black'"] {
            let quote = black.first.flatMap { "\"'".contains($0) ? String($0) : nil } ?? ""
            element = element.replacingOccurrences(of: black, with: "\(quote)currentColor\(quote)")
        }
        return element
    }

    private static func quoted(_ text: String) -> String {
        // In single quotes gnuplot reads nothing but the quote itself; its enhanced text has marks of its own.
        let plain = text.map { "{}^_@&~\\".contains($0) ? " " : $0 }
        return "'" + String(plain).replacingOccurrences(of: "'", with: "''").replacingOccurrences(of: "\n", with: " ")
            + "'"
    }
}
