extension PostgresError.Code {
    /// The client was shut down.
    public static let clientShutDown = Self("client.shutDown")
    /// More callers than `maximumWaiters` wait for a connection.
    public static let tooManyWaiters = Self("client.tooManyWaiters")
}

extension PostgresError {
    /// Why a caller gets no connection. The numbers are those of the moment.
    init(_ failure: PoolStateMachine.Failure, _ pool: PostgresClient.Statistics, _ options: PostgresClient.Options) {
        let numbers =
            "\(pool.inUse) in use, \(pool.idle) idle, \(pool.connecting) connecting, \(pool.cleaning) cleaning, \(pool.waiting) waiting, maximum \(pool.maximum)"
        switch failure {
        case .shutDown:
            self.init(code: .clientShutDown, message: "the client was shut down")
        case .tooManyWaiters:
            self.init(
                code: .tooManyWaiters, message: "too many callers wait for a connection: \(numbers)",
                hint: "raise maximumConnections or maximumWaiters, or hold connections for a shorter time")
        case .timedOut(let cause?):
            self.init(
                code: .timedOut,
                message:
                    "no connection within \(options.acquireTimeout ?? .zero), the last attempt failed (\(cause.message)): \(numbers)",
                underlying: cause)
        case .timedOut(nil):
            self.init(
                code: .timedOut,
                message: "no connection became free within \(options.acquireTimeout ?? .zero): \(numbers)",
                hint: "raise maximumConnections or acquireTimeout, or hold connections for a shorter time")
        case .cannotConnect(let error):
            self = error.with(outcome: .notSent)
        }
    }

    /// What a failed attempt to connect means for the attempts to come.
    var connectFailure: PoolStateMachine.ConnectFailure {
        switch code {
        case .tooManyConnections: return .full
        case .authentication, .invalidConfiguration, .invalidCatalogName: return .refused
        default: return code.rawValue.hasPrefix("28") ? .refused : .unreachable
        }
    }
}
