extension PostgresEphemeralServer {
    /// How a client reaches the server.
    public enum Address: Sendable, CaseIterable {
        /// `127.0.0.1` and the server's port.
        case tcp
        /// The Unix socket in the server's folder.
        case unixSocket
    }

    /// A connection URL for this server.
    ///
    /// - Parameters:
    ///   - user: nil for the superuser.
    ///   - host: the host name or address of a TCP connection, for example `localhost`.
    ///   - parameters: further keywords such as `sslmode`, in this order.
    public func connectionURL(
        user: String? = nil, password: String? = nil, database: String = "postgres", over address: Address = .tcp,
        host: String = "127.0.0.1", parameters: KeyValuePairs<String, String> = [:]
    ) -> String {
        var url = "postgresql://" + percentEncoded(user ?? superuser)
        if let password { url += ":" + percentEncoded(password) }
        var query = parameters.map { "\(percentEncoded($0.key))=\(percentEncoded($0.value))" }
        switch address {
        case .tcp: url += "@\(host):\(port)/"
        case .unixSocket:
            url += "@/"
            query = ["host=\(percentEncoded(socketFolder))", "port=\(port)"] + query
        }
        url += percentEncoded(database)
        return query.isEmpty ? url : url + "?" + query.joined(separator: "&")
    }
}

/// Every byte but the unreserved ones of RFC 3986.
private func percentEncoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".unicodeScalars)
    var encoded = String.UnicodeScalarView()
    for byte in text.utf8 {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            encoded.append(Unicode.Scalar(byte))
        default:
            encoded.append(contentsOf: ["%", digits[Int(byte >> 4)], digits[Int(byte & 0xf)]])
        }
    }
    return String(encoded)
}
