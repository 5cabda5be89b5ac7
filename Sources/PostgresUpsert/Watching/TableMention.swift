/// Regular expressions that find a table's name in a statement: as a name, not as a part of another one.
///
/// Those of PostgreSQL (manual, "Regular Expression Details"). Texts are not parsed: a comment or a constant that holds the name is
/// found, too.
struct TableMention: Sendable, Hashable {
    /// `"page_stats"`
    let quotedName: String
    /// `page_stats`, in letters of any case; nil for a name that cannot be written without quotes.
    let plainName: String?

    /// - Parameter schema: then a name behind another schema is that of another table; nil: any schema will do.
    init(name: String, schema: String?) {
        let start = schema.map { Self.start(in: $0) } ?? Self.noName
        quotedName = start + Self.exactly(quoted(name)) + "(?!\")"
        plainName = Self.isPlain(name) ? start + Self.exactly(name) + Self.end : nil
    }

    // What cannot be a part of a name: ASCII but letters, digits, `_`, `$` and `"`; `\w` depends on the database's locale.
    private static let other = #"\x01-\x21\x23\x25-\x2d\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f"#
    private static let unqualified = "(?:^|(?<=[\(other)]))"
    private static let noName = "(?:^|(?<=[\(other).]))"
    private static let end = "(?:$|(?=[\(other).]))"

    /// At the beginning of a name that is not qualified, or behind the schema.
    private static func start(in schema: String) -> String {
        let plain = isPlain(schema) ? [exactly(schema)] : []
        let schemas = ([exactly(quoted(schema))] + plain).joined(separator: "|")
        return "(?:\(unqualified)|\(noName)(?:\(schemas))[ \\n\\t]*\\.[ \\n\\t]*)"
    }

    /// Whether the server takes it for the same name without quotes.
    private static func isPlain(_ name: String) -> Bool {
        guard let first = name.unicodeScalars.first, first != "$", !("0"..."9").contains(first) else { return false }
        return name.unicodeScalars.allSatisfy { scalar in
            ("a"..."z").contains(scalar) || ("0"..."9").contains(scalar) || scalar == "_" || scalar == "$"
                || scalar.value >= 128
        }
    }

    private static func exactly(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            let isLetter = ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
            if !isLetter, scalar != "_", scalar.value < 128 { escaped.unicodeScalars.append("\\") }
            escaped.unicodeScalars.append(scalar)
        }
        return escaped
    }
}
