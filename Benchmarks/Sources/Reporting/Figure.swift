/// Curves over common axes.
package struct Figure: Sendable {
    package struct Point: Sendable, Equatable {
        package var x: Double
        package var y: Double
        /// The interval of `y`.
        package var low: Double
        package var high: Double

        package init(_ x: Double, _ y: Double, low: Double? = nil, high: Double? = nil) {
            self.x = x
            self.y = y
            self.low = low ?? y
            self.high = high ?? y
        }
    }

    package struct Series: Sendable {
        package var name: String
        package var points: [Point]

        package init(_ name: String, _ points: [Point]) {
            self.name = name
            self.points = points
        }
    }

    package struct Axis: Sendable {
        package var label: String
        package var isLogarithmic: Bool
        /// Where labels stand; empty leaves it to gnuplot.
        package var ticks: [(label: String, at: Double)]

        package init(_ label: String, isLogarithmic: Bool = false, ticks: [(label: String, at: Double)] = []) {
            self.label = label
            self.isLogarithmic = isLogarithmic
            self.ticks = ticks
        }
    }

    package let title: String
    package let caption: String
    package let x: Axis
    package let y: Axis
    package var series: [Series]

    package init(_ title: String, caption: String, x: Axis, y: Axis, series: [Series]) {
        self.title = title
        self.caption = caption
        self.x = x
        self.y = y
        self.series = series
    }

    /// What can be drawn: points that are numbers, and above zero on a logarithmic axis.
    package var drawable: [Series] {
        series.map { series in
            Series(
                series.name,
                series.points.filter { point in
                    point.x.isFinite && point.y.isFinite && point.low.isFinite && point.high.isFinite
                        && (!x.isLogarithmic || point.x > 0) && (!y.isLogarithmic || (point.y > 0 && point.low > 0))
                })
        }.filter { !$0.points.isEmpty }
    }
}
