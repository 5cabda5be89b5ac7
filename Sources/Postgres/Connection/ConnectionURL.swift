extension PostgresConfiguration {
    /// Reads `postgresql://user:password@host:port/dbname?keyword=value&...` (manual, "Connection URIs").
    ///
    /// Keywords: `host`, `port`, `user`, `password`, `dbname`, `sslmode`, `sslrootcert`, `application_name`, `connect_timeout`
    /// (seconds; 0 waits without bound). An unknown one is an error. A folder of Unix sockets is a `host` that begins with `/`,
    /// percent-encoded in the authority (`postgresql://app@%2Fvar%2Frun%2Fpostgresql/shop`) or as a keyword.
    ///
    /// - Throws: `invalidConfiguration`, saying where; never with the password in it.
    public init(url: String) throws(PostgresError) {
        var parser = URLParser(url)
        self = try parser.parse()
    }
}

private struct URLParser {
    private let text: Substring
    private var result = PostgresConfiguration(user: "")

    init(_ url: String) { text = url[...] }

    mutating func parse() throws(PostgresError) -> PostgresConfiguration {
        guard let scheme = ["postgresql://", "postgres://"].first(where: { text.hasPrefix($0) }) else {
            throw refuse("it must begin with postgresql:// or postgres://")
        }
        var rest = text.dropFirst(scheme.count)
        var query: Substring = ""
        if let mark = rest.firstIndex(of: "?") {
            query = rest[rest.index(after: mark)...]
            rest = rest[..<mark]
        }
        var authority = rest
        if let slash = rest.firstIndex(of: "/") {
            authority = rest[..<slash]
            let name = try decode(rest[rest.index(after: slash)...], "dbname")
            if !name.isEmpty { result.database = name }
        }
        try parse(authority: authority)
        if !query.isEmpty {
            for pair in query.split(separator: "&", omittingEmptySubsequences: false) { try parse(pair: pair) }
        }
        if result.user.isEmpty { throw refuse("it names no user") }
        try result.check()
        return result
    }

    private mutating func parse(authority: Substring) throws(PostgresError) {
        var hostPart = authority
        // The last @: a password may hold one by mistake, and must not end up in the host's name, and so in an error.
        if let at = authority.lastIndex(of: "@") {
            let userPart = authority[..<at]
            hostPart = authority[authority.index(after: at)...]
            if let colon = userPart.firstIndex(of: ":") {
                result.user = try decode(userPart[..<colon], "user")
                result.password = try decode(userPart[userPart.index(after: colon)...], "password")
            } else {
                result.user = try decode(userPart, "user")
            }
        }
        guard !hostPart.contains(",") else { throw refuse("more than one host is not supported yet") }
        if hostPart.hasPrefix("[") {
            guard let end = hostPart.firstIndex(of: "]") else { throw refuse("an IPv6 address lacks its ]") }
            result.host = String(hostPart[hostPart.index(after: hostPart.startIndex)..<end])
            let after = hostPart[hostPart.index(after: end)...]
            if after.hasPrefix(":") {
                try set(port: after.dropFirst())
            } else if !after.isEmpty {
                throw refuse("text after ]")
            }
            return
        }
        if let colon = hostPart.lastIndex(of: ":") {
            try set(port: hostPart[hostPart.index(after: colon)...])
            hostPart = hostPart[..<colon]
        }
        if !hostPart.isEmpty { result.host = try decode(hostPart, "host") }
    }

    private mutating func set(port: Substring) throws(PostgresError) {
        if port.isEmpty { return }
        guard let number = Int(port), number >= 1, number <= 65535 else {
            throw refuse("the port is not a number from 1 to 65535")
        }
        result.port = number
    }

    private mutating func parse(pair: Substring) throws(PostgresError) {
        guard let equals = pair.firstIndex(of: "=") else { throw refuse("a keyword without =value") }
        let keyword = try decode(pair[..<equals], "keyword")
        let value = try decode(pair[pair.index(after: equals)...], nameable("the keyword \(keyword)"))
        switch keyword {
        case "host": result.host = value
        case "port": try set(port: value[...])
        case "user": result.user = value
        case "password": result.password = value
        case "dbname": result.database = value
        case "sslmode":
            guard let mode = PostgresConfiguration.SSLMode(rawValue: value) else {
                throw refuse("sslmode must be disable, prefer, require or verify-full")
            }
            result.sslmode = mode
        case "sslrootcert": result.sslrootcert = value
        case "application_name": result.applicationName = value
        case "connect_timeout":
            guard let seconds = Int(value), seconds >= 0, seconds <= 86_400 else {
                throw refuse("connect_timeout must be a number of seconds from 0 to 86400")
            }
            result.connectTimeout = seconds == 0 ? nil : .seconds(seconds)
        default: throw refuse("unknown \(nameable("keyword \"\(keyword)\""))")
        }
    }

    /// A ? in a password that was not written as %3F makes a keyword of the rest, up to the = if there is one.
    private func nameable(_ keyword: String) -> String {
        let query = text.drop { $0 != "?" }
        return query.contains("@") ? "keyword (not shown: it may be part of a password; write its ? as %3F)" : keyword
    }

    /// Percent decoding, to valid UTF-8 without NUL.
    private func decode(_ text: Substring, _ what: String) throws(PostgresError) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(URLParser.hexDigit),
                let low = rest.popFirst().flatMap(URLParser.hexDigit)
            else {
                throw refuse("\(what) holds a % that is not followed by two hexadecimal digits")
            }
            bytes.append(high << 4 | low)
        }
        guard let string = String(validating: bytes, as: UTF8.self) else { throw refuse("\(what) is not valid UTF-8") }
        if bytes.contains(0) { throw refuse("\(what) contains a NUL character") }
        return string
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    // The URL is not repeated in the message: it may hold a password.
    private func refuse(_ what: String) -> PostgresError {
        PostgresError(
            code: .invalidConfiguration, message: "cannot read the connection URL: \(what)",
            hint: "postgresql://user:password@host:port/dbname?keyword=value")
    }
}
