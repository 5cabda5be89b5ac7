/// The type that a value is cast to on its way into a column of a declared type: that type without length, precision and fields.
///
/// An explicit cast to `varchar(20)` cuts thirty characters to twenty, and says nothing (manual, "Character Types"); the assignment
/// to the column that follows it refuses them, as for any INSERT. It rounds as the column does, and once.
///
/// - Parameter type: as it was declared: `varchar(20)[]`, `timestamp(3) with time zone`.
func castType(_ type: String) -> String {
    guard let bare = withoutParentheses(type) else { return type }
    // Dimensions follow the name; there are none inside of it, unless quoted.
    let name = bare.prefix { $0 != "[" && $0 != "\"" }
    var words = name.lowercased().split(whereSeparator: \.isWhitespace)
    var dimensions = String(bare.dropFirst(name.count))
    if words.last == "array" {
        words.removeLast()
        dimensions = "[]"
    }
    switch words.joined(separator: " ") {
    // Without a length these have that of 1.
    case "char", "character", "nchar", "national char", "national character": return "bpchar" + dimensions
    case "bit": return "\"bit\"" + dimensions
    // Here it chooses the type.
    case "float": return type
    case _ where words.first == "interval": return "interval" + dimensions
    default: return bare
    }
}

/// The type that a value is cast to where it is compared with stored ones: if the declared type rounds, that type, for the column
/// holds no more. What cuts or refuses is `castType`'s all the same: a value that is too long is stored nowhere.
func comparedType(_ type: String) -> String {
    roundingTypes.contains(baseName(type)) ? type : castType(type)
}

/// The first word of a type's name, without schema, length and dimensions.
func baseName(_ type: String) -> String {
    let name = type.lowercased()
    return String(
        (name.hasPrefix("pg_catalog.") ? name.dropFirst(11) : name[...])
            .prefix { !$0.isWhitespace && $0 != "(" && $0 != "[" })
}

/// Types whose columns round what they are given.
let roundingTypes: Set<String> = [
    "numeric", "decimal", "dec", "time", "timetz", "timestamp", "timestamptz", "interval",
]

/// Without what stands in parentheses outside of quotes; nil if they are not balanced.
private func withoutParentheses(_ type: String) -> String? {
    var bare = ""
    var depth = 0
    var quote: Character?
    for character in type {
        if let open = quote {
            if character == open { quote = nil }
        } else {
            switch character {
            case "\"", "'": quote = character
            case "(":
                depth += 1
                while bare.last?.isWhitespace == true { bare.removeLast() }
            case ")":
                depth -= 1
                if depth < 0 { return nil }
                continue
            default: break
            }
        }
        if depth == 0 { bare.append(character) }
    }
    return depth == 0 && quote == nil ? bare : nil
}
