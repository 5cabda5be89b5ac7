// Manual, "Asynchronous Operations": the parameters a server reports, at the start and whenever they change.

package struct ServerParameters: Sendable, Equatable {
    /// Servers report about fifteen; a broken one must not fill our memory with names.
    package static let maximumCount = 256

    package private(set) var values: [String: String] = [:]

    package init() {}

    package subscript(name: String) -> String? { values[name] }

    /// - Throws: ``ProtocolError/clientEncoding(_:)`` once text is no longer UTF-8, as every decoder counts on it.
    package mutating func record(_ status: ParameterStatus) throws(ProtocolError) {
        if status.name == "client_encoding" {
            switch status.value.uppercased() {
            case "UTF8", "UTF-8", "UNICODE": break
            default: throw .clientEncoding(status.value)
            }
        }
        if values.count >= ServerParameters.maximumCount, values[status.name] == nil {
            throw .tooManyParameters(limit: ServerParameters.maximumCount)
        }
        values[status.name] = status.value
    }
}

/// What is known of a session once it is ready.
package struct ServerSession: Sendable, Equatable {
    package var parameters = ServerParameters()
    /// Nil if the server sent none: queries cannot be cancelled then.
    package var backendKey: BackendKeyData?
    package var transactionStatus = TransactionStatus.idle
    package var version: ProtocolVersion
}
