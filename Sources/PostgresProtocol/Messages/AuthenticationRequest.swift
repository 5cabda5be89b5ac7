// Manual, "Message Formats": the `R` messages, by which a server asks for a proof, answers one, or is satisfied.

package enum AuthenticationRequest: Sendable, Equatable {
    case ok
    case cleartextPassword
    case md5Password(salt: [UInt8])
    case sasl(mechanisms: [String])
    case saslContinue([UInt8])
    case saslFinal([UInt8])
    /// A method this client does not speak, by its code.
    case unsupported(code: UInt32)

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        let code = try reader.read(UInt32.self)
        switch code {
        case 0: self = .ok
        case 3: self = .cleartextPassword
        case 5: self = .md5Password(salt: Array(try reader.readBytes(4)))
        case 10:
            var mechanisms: [String] = []
            while true {
                let mechanism = try reader.readString("mechanism")
                if mechanism.isEmpty { break }
                mechanisms.append(mechanism)
            }
            self = .sasl(mechanisms: mechanisms)
        case 11: self = .saslContinue(Array(reader.readRest()))
        case 12: self = .saslFinal(Array(reader.readRest()))
        default:
            // What a method we do not know carries cannot be checked.
            _ = reader.readRest()
            self = .unsupported(code: code)
        }
    }

    /// What to call a method in an error.
    package static func methodName(code: UInt32) -> String {
        switch code {
        case 1: "Kerberos V4"
        case 2: "Kerberos V5"
        case 4: "crypt"
        case 6: "SCM credentials"
        case 7, 8: "GSSAPI"
        case 9: "SSPI"
        default: "number \(code)"
        }
    }
}
