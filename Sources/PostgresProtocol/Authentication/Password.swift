/// A secret that no description, mirror or debugger dump shows.
package struct Password: Sendable {
    package let text: String

    package init(_ text: String) { self.text = text }
}

extension Password: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "********" }
    package var debugDescription: String { "********" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension Password {
    /// The answer to AuthenticationMD5Password: `md5` and the digest, in hexadecimal, of (digest of password and user
    /// name, in hexadecimal) and salt.
    func md5Response(user: String, salt: [UInt8]) throws(Crypto.Failure) -> String {
        let inner = Password.hexadecimal(try Crypto.md5(Array(text.utf8) + Array(user.utf8)))
        return "md5" + Password.hexadecimal(try Crypto.md5(Array(inner.utf8) + salt))
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }
}
