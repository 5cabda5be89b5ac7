/// Foreign bytes made fit for an error message: bounded, valid, and without a control character that could move a
/// terminal's cursor or begin a new log line.
///
/// Bidirectional controls are escaped too: they reorder the text around them.
package func escapedForDisplay(_ bytes: some Sequence<UInt8>, limit: Int) -> String {
    var kept: [UInt8] = []
    var isCut = false
    for byte in bytes {
        if kept.count >= limit {
            isCut = true
            break
        }
        kept.append(byte)
    }
    var text = ""
    // Repair is right here and only here: this text is read by people, never by code.
    for scalar in String(decoding: kept, as: UTF8.self).unicodeScalars {
        switch scalar.value {
        case 0x0A: text += "\\n"
        case 0x0D: text += "\\r"
        case 0x09: text += "\\t"
        case 0x5C: text += "\\\\"
        case 0..<0x20, 0x7F..<0xA0, 0x061C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069, 0xFEFF:
            text += "\\u{\(String(scalar.value, radix: 16))}"
        default: text.unicodeScalars.append(scalar)
        }
    }
    return isCut ? text + "..." : text
}
