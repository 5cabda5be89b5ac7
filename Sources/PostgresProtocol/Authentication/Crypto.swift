import CPostgresOpenSSL

/// The digests and secrets that authentication needs, all of them OpenSSL's.
enum Crypto {
    /// OpenSSL refused: out of memory, or an algorithm its configuration forbids (MD5 in FIPS mode).
    struct Failure: Error, Equatable {
        let operation: String
    }

    static let sha256Size = 32

    static func sha256(_ message: [UInt8]) throws(Failure) -> [UInt8] {
        try digest("SHA2-256", size: sha256Size, message)
    }

    static func md5(_ message: [UInt8]) throws(Failure) -> [UInt8] { try digest("MD5", size: 16, message) }

    static func hmacSHA256(key: [UInt8], _ message: [UInt8]) throws(Failure) -> [UInt8] {
        var code = [UInt8](repeating: 0, count: sha256Size)
        // A null key would mean "the key of the call before".
        let keyBytes = key.isEmpty ? [0] : key
        guard let length = Int32(exactly: key.count),
            HMAC(EVP_sha256(), keyBytes, length, message, message.count, &code, nil) != nil
        else { throw Failure(operation: "HMAC-SHA-256") }
        return code
    }

    /// Takes about a millisecond for each thousand iterations: never on an event loop.
    static func pbkdf2SHA256(password: [UInt8], salt: [UInt8], iterations: Int) throws(Failure) -> [UInt8] {
        var key = [UInt8](repeating: 0, count: sha256Size)
        guard let rounds = Int32(exactly: iterations), let passwordCount = Int32(exactly: password.count),
            let saltCount = Int32(exactly: salt.count)
        else { throw Failure(operation: "PBKDF2") }
        let done = password.withUnsafeBytes { bytes in
            PKCS5_PBKDF2_HMAC(
                bytes.baseAddress?.assumingMemoryBound(to: CChar.self), passwordCount, salt, saltCount, rounds,
                EVP_sha256(), Int32(sha256Size), &key)
        }
        guard done == 1 else { throw Failure(operation: "PBKDF2") }
        return key
    }

    /// Unpredictable bytes.
    static func randomBytes(_ count: Int) throws(Failure) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard let length = Int32(exactly: count), RAND_bytes(&bytes, length) == 1 else {
            throw Failure(operation: "random numbers")
        }
        return bytes
    }

    /// Compares in a time that does not tell where the first difference is.
    static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
    }

    private static func digest(_ name: String, size: Int, _ message: [UInt8]) throws(Failure) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: size)
        var written = 0
        guard EVP_Q_digest(nil, name, nil, message, message.count, &digest, &written) == 1, written == size else {
            throw Failure(operation: name == "MD5" ? "MD5" : "SHA-256")
        }
        return digest
    }
}
