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
        case .timedOut(let limit, let waited, let cause):
            self.init(timedOut: limit, Duration.nanoseconds(Int64(clamping: waited)), cause, numbers, options)
        case .cannotConnect(let error):
            self = error.with(outcome: .notSent)
        }
    }

    private init(
        timedOut limit: PoolStateMachine.TimeLimit, _ waited: Duration, _ cause: PostgresError?, _ numbers: String,
        _ options: PostgresClient.Options
    ) {
        let time: String
        let hint: String
        switch limit {
        case .acquireTimeout:
            time = "within the acquireTimeout of \(options.acquireTimeout ?? .zero)"
            hint = "raise maximumConnections or acquireTimeout, or hold connections for a shorter time"
        case .callersDeadline:
            time = "by the deadline that the caller set (withPostgresTimeout), after \(waited)"
            hint = "raise maximumConnections, hold connections for a shorter time, or set a later deadline"
        }
        if let cause {
            self.init(
                code: .timedOut,
                message: "no connection \(time), the last attempt failed (\(cause.message)): \(numbers)",
                underlying: cause)
        } else {
            self.init(code: .timedOut, message: "no connection became free \(time): \(numbers)", hint: hint)
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
