public import Postgres

/// A piece of SQL inside an upsert, written as a literal. As in `PostgresQuery`, every `\(value)` becomes a parameter, and
/// nothing but a literal gets into the text without a label.
///
/// ```swift
/// .sql("\($0.existing.hits) * 2 + \(7)")      // "page_stats"."hits" * 2 + $3
/// ```
public struct UpsertFragment: Sendable, ExpressibleByStringInterpolation {
    /// A value of the shape, not of a row: encoded once, sent with every execution.
    struct Parameter: Sendable, Hashable {
        var type: PostgresType
        var format: PostgresFormat
        var bytes: [UInt8]?
    }

    enum Piece: Sendable, Hashable {
        case text(String)
        case parameter(Parameter)
    }

    var pieces: [Piece] = []
    /// Several operands: needs parentheses inside another expression.
    var isCompound = false
    /// The columns of the row proposed for insertion that it names by their properties.
    var excludedColumns: Set<Int> = []
    var failure: PostgresError?

    init(text: String) { pieces = [.text(text)] }

    init(failure: PostgresError) { self.failure = failure }

    init<Value: PostgresEncodable>(value: Value) { append(value) }

    public init(stringLiteral value: StaticString) {
        pieces = [.text(value.description)]
        isCompound = true
    }

    public init(stringInterpolation: StringInterpolation) {
        self = stringInterpolation.fragment
        isCompound = true
    }

    public struct StringInterpolation: StringInterpolationProtocol {
        var fragment = UpsertFragment(text: "")

        public init(literalCapacity: Int, interpolationCount: Int) {}

        public mutating func appendLiteral(_ literal: StaticString) { fragment.append(text: literal.description) }

        /// A column of one of the two rows, or any other expression.
        public mutating func appendInterpolation<Value>(_ expression: UpsertExpression<Value>) {
            fragment.append(operand: expression.fragment)
        }

        /// A parameter.
        public mutating func appendInterpolation<Value: PostgresEncodable>(_ value: Value) { fragment.append(value) }

        /// A parameter that may be NULL.
        public mutating func appendInterpolation<Value: PostgresEncodable>(_ value: Value?) { fragment.append(value) }

        /// A name, quoted.
        public mutating func appendInterpolation(identifier name: String) {
            if let error = checkIdentifier(name) { fragment.fail(error) }
            fragment.append(text: quoted(name))
        }

        /// SQL text as it is. Never pass anything that came from outside the program.
        public mutating func appendInterpolation(unsafeSQL sql: String) { fragment.append(text: sql) }
    }
}

extension UpsertFragment {
    mutating func fail(_ error: PostgresError) { if failure == nil { failure = error } }

    mutating func append(text: String) {
        if case .text(let last)? = pieces.last {
            pieces[pieces.count - 1] = .text(last + text)
        } else {
            pieces.append(.text(text))
        }
    }

    mutating func append<Value: PostgresEncodable>(_ value: Value) {
        var encoder = PostgresEncoder(capacity: 64)
        do { try encoder.writeCell(value) } catch { return fail(error) }
        // A cell: four bytes of length, or of -1 for NULL, and the value.
        let bytes: [UInt8]? = encoder.withUnsafeBytes { cell in cell[0] == 0xFF ? nil : Array(cell[4...]) }
        pieces.append(.parameter(Parameter(type: Value.postgresType, format: Value.postgresFormat, bytes: bytes)))
    }

    mutating func append(_ other: UpsertFragment) {
        for piece in other.pieces {
            if case .text(let text) = piece { append(text: text) } else { pieces.append(piece) }
        }
        excludedColumns.formUnion(other.excludedColumns)
        if let error = other.failure { fail(error) }
    }

    /// Appends it in parentheses, where it needs them.
    mutating func append(operand other: UpsertFragment) {
        guard other.isCompound else { return append(other) }
        append(text: "(")
        append(other)
        append(text: ")")
    }

    /// `left symbol right`
    static func infix(_ left: UpsertFragment, _ symbol: String, _ right: UpsertFragment) -> UpsertFragment {
        var fragment = UpsertFragment(text: "")
        fragment.append(operand: left)
        fragment.append(text: " \(symbol) ")
        fragment.append(operand: right)
        fragment.isCompound = true
        return fragment
    }

    /// `name(argument, ...)`
    static func call(_ name: String, _ arguments: [UpsertFragment]) -> UpsertFragment {
        var fragment = UpsertFragment(text: name + "(")
        for (index, argument) in arguments.enumerated() {
            if index > 0 { fragment.append(text: ", ") }
            fragment.append(argument)
        }
        fragment.append(text: ")")
        return fragment
    }
}
