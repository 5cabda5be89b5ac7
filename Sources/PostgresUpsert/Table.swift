public import Postgres

/// The declaration of a table: its name, its columns, and how a row is made of their values.
///
/// A mistake in it (two columns of one name, `init:` taking other types than the columns have) is an error of every statement
/// made from it, thrown before anything is sent.
public final class Table<Row>: Sendable {
    let layout: TableLayout<Row>
    /// The upsert without modifiers, its texts made once.
    @usableFromInline let upsert: UpsertDefinition<Row>
    private let read: (@Sendable (PostgresRow) throws(PostgresError) -> Row)?

    /// The table's name, without its schema.
    public var name: String { layout.name }
    /// The columns in the order of the declaration.
    public var columns: [Column<Row>] { layout.columns }
    /// What is wrong with the declaration; nil when nothing is.
    public var error: PostgresError? { layout.failure }

    /// A table that rows are written to, and read from.
    ///
    /// - Parameters:
    ///   - name: the table's name, without quotes; a dot in it is part of the name.
    ///   - schema: its schema; nil leaves the choice to `search_path`.
    ///   - make: takes the columns' values, in the order of `columns`; usually `Self.init(...)`.
    public init<each Value: PostgresDecodable>(
        _ name: String, schema: String? = nil, init make: @escaping @Sendable (repeat each Value) -> Row,
        @ColumnBuilder<Row> columns: () -> [Column<Row>]
    ) {
        let columns = columns()
        var parameters: [(ObjectIdentifier, String)] = []
        for type in repeat (each Value).self { parameters.append((ObjectIdentifier(type), "\(type)")) }
        let layout = TableLayout(schema: schema, name: name, columns: columns, parameters: parameters)
        self.layout = layout
        upsert = UpsertDefinition(layout: layout, shape: UpsertShape())
        // Not `map(\.name)`: a key path literal in a function generic over a pack crashes at run time (Swift 6.3).
        let names = columns.map { $0.name }
        read = { (row: PostgresRow) throws(PostgresError) -> Row in
            if let failure = layout.failure { throw failure }
            var index = 0
            func next<Column: PostgresDecodable>(_: Column.Type) throws(PostgresError) -> Column {
                defer { index += 1 }
                return try row.decode(names[index], as: Column.self)
            }
            return make(repeat try next((each Value).self))
        }
    }

    /// A table that rows are only written to, or whose rows read themselves by an `init(row:)` of their own.
    public init(_ name: String, schema: String? = nil, @ColumnBuilder<Row> columns: () -> [Column<Row>]) {
        let layout = TableLayout(schema: schema, name: name, columns: columns(), parameters: nil)
        self.layout = layout
        upsert = UpsertDefinition(layout: layout, shape: UpsertShape())
        read = nil
    }

    var makesRows: Bool { read != nil }

    func decode(_ row: PostgresRow) throws(PostgresError) -> Row {
        guard let read else {
            throw PostgresError(
                code: .unsupported, message: "the declaration of table \"\(name)\" does not say how to make a row",
                outcome: .succeeded, hint: "give the declaration its `init:`, or the type an init(row:)")
        }
        return try read(row)
    }
}

/// What is known of a table: checked names, columns found by key path.
final class TableLayout<Row>: Sendable {
    let schema: String?
    let name: String
    let columns: [Column<Row>]
    let quotedColumns: [String]
    let failure: PostgresError?
    /// `"schema"."name"`
    let quotedName: String
    /// How the stored row is called in DO UPDATE, where the proposed one is called EXCLUDED.
    let existing: String
    let memory = FactsMemory()
    /// The columns of which a row may have no value.
    let fieldColumns: [Int]
    /// Whether every column that may be sent has a type with an array over it.
    let canBeArrays: Bool

    /// - Parameter parameters: types and their names that `init:` takes; nil when there is none.
    init(schema: String?, name: String, columns: [Column<Row>], parameters: [(ObjectIdentifier, String)]?) {
        self.schema = schema
        self.name = name
        self.columns = columns
        quotedColumns = columns.map { quoted($0.name) }
        canBeArrays = columns.allSatisfy { $0.options.contains(.generated) || ArrayElement($0).arrayOID != 0 }
        fieldColumns = columns.indices.filter { columns[$0].isAbsent != nil }
        quotedName = (schema.map { quoted($0) + "." } ?? "") + quoted(name)
        existing = name.utf8.elementsEqual("excluded".utf8) ? "\"existing\"" : quoted(name)
        failure =
            Self.check(schema: schema, name: name, columns: columns)
            ?? parameters.flatMap { Self.check(parameters: $0, columns: columns, table: name) }
    }

    private static func check(schema: String?, name: String, columns: [Column<Row>]) -> PostgresError? {
        for identifier in [schema, name].compactMap({ $0 }) + columns.map({ $0.name }) {
            if let error = checkIdentifier(identifier) {
                return error.with(message: "table \"\(name)\": \(error.message)")
            }
        }
        if columns.count(where: { $0.isAbsent != nil }) > 64 {
            return .upsert("table \"\(name)\" has more than 64 columns of type UpsertField")
        }
        if columns.isEmpty { return .upsert("table \"\(name)\" is declared without columns") }
        for (index, column) in columns.enumerated() {
            if columns[..<index].contains(where: { $0.name.utf8.elementsEqual(column.name.utf8) }) {
                return .upsert("table \"\(name)\" has two columns named \"\(column.name)\"")
            }
        }
        return nil
    }

    private static func check(
        parameters: [(ObjectIdentifier, String)], columns: [Column<Row>], table: String
    ) -> PostgresError? {
        for (index, (column, parameter)) in zip(columns, parameters).enumerated()
        where column.valueType != parameter.0 {
            return .upsert(
                "table \"\(table)\": value \(index + 1) of init is \(parameter.1), but column \"\(column.name)\" is"
                    + " \(column.valueTypeName)", hint: "list the columns in the order of init's parameters")
        }
        if parameters.count != columns.count {
            return .upsert(
                "table \"\(table)\": init takes \(parameters.count) values, but there are \(columns.count) columns")
        }
        return nil
    }

    /// Which column a property is; nil when none.
    func index(of path: PartialKeyPath<Row>) -> Int? {
        // Comparing key paths is slow; a property of the same type at the same place is the same property.
        if let offset = MemoryLayout<Row>.offset(of: path) {
            let type = ObjectIdentifier(Swift.type(of: path).valueType)
            return columns.firstIndex { $0.offset == offset && $0.valueType == type }
        }
        return columns.firstIndex { $0.path == path }
    }

    func notAColumn(_ path: PartialKeyPath<Row>) -> PostgresError {
        .upsert("\(path) is not a column of table \"\(name)\"", hint: "add it to the declaration of the table")
    }
}
