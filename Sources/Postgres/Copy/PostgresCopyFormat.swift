/// How rows are written in a COPY of bytes, and its options (manual, "COPY").
///
/// ```swift
/// .text
/// .csv(delimiter: ";", header: true)
/// .csv.encoding("LATIN1")
/// ```
/// Options that the server does not take together, or not in this direction, are an error of its own.
public struct PostgresCopyFormat: Sendable, Hashable {
    enum Kind: String, Sendable {
        case text
        case csv
        case binary
    }

    /// An option's value, not yet as SQL.
    enum Value: Sendable, Hashable {
        case literal(String)
        case character(Character)
        case flag
        case columns([String])
    }

    struct Option: Sendable, Hashable {
        let name: String
        let value: Value
    }

    let kind: Kind
    var options: [Option] = []

    /// A line for each row, columns separated by tabs, `\N` for NULL, backslash escapes.
    public static let text = Self(kind: .text)
    /// Comma-separated values; NULL is nothing between commas, an empty string is `""`.
    public static let csv = Self(kind: .csv)
    /// The server's own binary format, file header and trailer included.
    public static let binary = Self(kind: .binary)

    /// Text, with other than its usual options; nil leaves an option to the server.
    ///
    /// - Parameters:
    ///   - delimiter: a character of one byte between columns; a tab.
    ///   - null: how NULL is written; `\N`.
    ///   - header: whether the first line holds column names. From PostgreSQL 15.
    public static func text(delimiter: Character? = nil, null: String? = nil, header: Bool = false) -> Self {
        var format = text
        format.add("DELIMITER", delimiter.map(Value.character))
        format.add("NULL", null.map(Value.literal))
        format.add("HEADER", header ? .flag : nil)
        return format
    }

    /// CSV, with other than its usual options; nil leaves an option to the server.
    ///
    /// - Parameters:
    ///   - delimiter: a character of one byte between columns; a comma.
    ///   - null: how NULL is written; nothing at all, without quotes.
    ///   - header: whether the first line holds column names.
    ///   - quote: a character of one byte around values; a double quote.
    ///   - escape: a character of one byte before a quote inside of a value; the quote itself.
    ///   - forceQuote: columns whose values are always quoted in what is copied out.
    ///   - forceNotNull: columns in which what looks like NULL is a string, in what is copied in.
    ///   - forceNull: columns in which what looks like NULL is NULL even in quotes, in what is copied in.
    public static func csv(
        delimiter: Character? = nil, null: String? = nil, header: Bool = false, quote: Character? = nil,
        escape: Character? = nil, forceQuote: [String] = [], forceNotNull: [String] = [], forceNull: [String] = []
    ) -> Self {
        var format = csv
        format.add("DELIMITER", delimiter.map(Value.character))
        format.add("NULL", null.map(Value.literal))
        format.add("HEADER", header ? .flag : nil)
        format.add("QUOTE", quote.map(Value.character))
        format.add("ESCAPE", escape.map(Value.character))
        format.add("FORCE_QUOTE", forceQuote.isEmpty ? nil : .columns(forceQuote))
        format.add("FORCE_NOT_NULL", forceNotNull.isEmpty ? nil : .columns(forceNotNull))
        format.add("FORCE_NULL", forceNull.isEmpty ? nil : .columns(forceNull))
        return format
    }

    /// The encoding of the bytes, by PostgreSQL's name for it; without this they are UTF-8.
    public func encoding(_ name: String) -> Self {
        var format = self
        format.add("ENCODING", .literal(name))
        return format
    }

    /// Copies rows in already frozen: only into a table that was created or truncated in the same transaction.
    public func freeze() -> Self {
        var format = self
        format.add("FREEZE", .flag)
        return format
    }

    private mutating func add(_ name: String, _ value: Value?) {
        if let value { options.append(Option(name: name, value: value)) }
    }
}
