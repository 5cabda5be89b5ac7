import ArgumentParser
import CLibPQArms
import Glibc
import Postgres

/// A statement's parameter as it is given on the command line: `int8:42`.
enum StatementParameter: ExpressibleByArgument, Sendable {
    case int4(Int32)
    case int8(Int64)
    case float8(Double)
    case bool(Bool)
    case text(String)

    init?(argument: String) {
        let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let value = String(parts[1])
        let parameter: Self? =
            switch parts[0] {
            case "int4": Int32(value).map(Self.int4)
            case "int8": Int64(value).map(Self.int8)
            case "float8": Double(value).map(Self.float8)
            case "bool": Bool(value).map(Self.bool)
            case "text": .text(value)
            default: nil
            }
        guard let parameter else { return nil }
        self = parameter
    }

    /// As libpq sends it.
    var text: String {
        switch self {
        case .int4(let value): "\(value)"
        case .int8(let value): "\(value)"
        case .float8(let value): "\(value)"
        case .bool(let value): "\(value)"
        case .text(let value): value
        }
    }

    var type: PostgresType {
        switch self {
        case .int4: Int32.postgresType
        case .int8: Int64.postgresType
        case .float8: Double.postgresType
        case .bool: Bool.postgresType
        case .text: String.postgresType
        }
    }

    func append(to encoder: inout PostgresEncoder) {
        switch self {
        case .int4(let value): encoder.appendParameter(value)
        case .int8(let value): encoder.appendParameter(value)
        case .float8(let value): encoder.appendParameter(value)
        case .bool(let value): encoder.appendParameter(value)
        case .text(let value): encoder.appendParameter(value)
        }
    }
}

/// A statement that is sent in every way.
struct ProtocolStatement: Sendable {
    let sql: String
    let parameters: [StatementParameter]
    /// `SELECT $1::int4`, whose result is known.
    let isDefault: Bool
    private let text: PostgresQuery.Text

    static let defaultSQL = "SELECT $1::int4"

    /// - Parameter parameters: none for the default statement, which gets its own.
    init(_ sql: String, _ parameters: [StatementParameter]) {
        self.sql = sql
        isDefault = sql == Self.defaultSQL && parameters.isEmpty
        self.parameters = isDefault ? [.int4(1)] : parameters
        text = PostgresQuery.Text(unsafeSQL: sql)
    }

    /// Made anew for each time, as a program does.
    var query: PostgresQuery {
        PostgresQuery(text, parameterCount: parameters.count) { encoder in
            for parameter in parameters { parameter.append(to: &encoder) }
        }
    }

    /// With its values written into it, as the simple protocol has no parameters. Nil if they cannot be: only numbers and truth
    /// values are, and the text must hold nothing in which a `$1` is no parameter.
    var simpleSQL: String? {
        if parameters.isEmpty { return sql }
        if sql.contains(where: { "'\"".contains($0) }) || sql.contains("$$") || sql.contains("--") { return nil }
        var result = sql
        // From the last: `$1` begins `$10`, too.
        for (index, parameter) in parameters.enumerated().reversed() {
            if case .text = parameter { return nil }
            result = result.replacing("$\(index + 1)", with: parameter.text)
        }
        return result
    }
}

extension LibPQ {
    /// A statement with its parameters as C strings.
    final class Statement {
        private var strings: [UnsafeMutablePointer<CChar>] = []
        private let values: UnsafeMutablePointer<UnsafePointer<CChar>?>
        private let types: UnsafeMutablePointer<UInt32>
        private var statement: libpq_statement

        init(_ statement: ProtocolStatement, binaryResults: Bool) throws(Failure) {
            let count = statement.parameters.count
            values = .allocate(capacity: max(count, 1))
            types = .allocate(capacity: max(count, 1))
            var copies: [UnsafeMutablePointer<CChar>] = []
            for text in [statement.sql, statement.simpleSQL ?? ""] + statement.parameters.map(\.text) {
                guard let copy = strdup(text) else { throw Failure(description: "libpq: out of memory") }
                copies.append(copy)
            }
            strings = copies
            for (index, parameter) in statement.parameters.enumerated() {
                (values + index).initialize(to: UnsafePointer(copies[index + 2]))
                (types + index).initialize(to: parameter.type.oid)
            }
            self.statement = libpq_statement(
                sql: copies[0], simple_sql: copies[1], parameters: Int32(clamping: count), values: values, types: types,
                binary_results: binaryResults)
        }

        deinit {
            for string in strings { free(string) }
            values.deallocate()
            types.deallocate()
        }

        func withPointer<Result>(_ body: (UnsafePointer<libpq_statement>) -> Result) -> Result {
            withExtendedLifetime(self) { withUnsafePointer(to: statement, body) }
        }
    }

    func prepare(_ statement: Statement) throws(Failure) {
        try call { arm in statement.withPointer { libpq_arm_prepare_statement(arm, $0) } }
    }

    func run(_ statement: Statement, _ mode: libpq_mode, _ count: Int) throws(Failure) -> Tally {
        var tally = Tally(operations: count)
        let calls = LibPQ.sendCalls
        var times = [UInt64](repeating: 0, count: count)
        try call { arm in
            times.withUnsafeMutableBufferPointer { times in
                statement.withPointer { libpq_arm_statement(arm, $0, mode, Int32(clamping: count), times.baseAddress) }
            }
        }
        tally.latencies = times
        tally.sendCalls = LibPQ.sendCalls - calls
        return tally
    }

    func pipeline(_ statement: Statement, _ count: Int, syncEach: Bool, _ tally: inout Tally) throws(Failure) {
        let calls = LibPQ.sendCalls
        try call { arm in
            statement.withPointer { libpq_arm_statement_pipeline(arm, $0, Int32(clamping: count), syncEach) }
        }
        tally.sendCalls = (tally.sendCalls ?? 0) + LibPQ.sendCalls - calls
    }

    func openLoop(
        _ statement: Statement, start: UInt64, interval: UInt64, count: Int
    ) throws(Failure) -> (responses: [UInt64], services: [UInt64]) {
        var responses = [UInt64](repeating: 0, count: count)
        var services = responses
        try call { arm in
            responses.withUnsafeMutableBufferPointer { responses in
                services.withUnsafeMutableBufferPointer { services in
                    statement.withPointer {
                        libpq_arm_open_loop(
                            arm, $0, start, interval, Int32(clamping: count), responses.baseAddress,
                            services.baseAddress)
                    }
                }
            }
        }
        return (responses, services)
    }

    func readTextRows(_ sql: String, _ count: Int) throws(Failure) {
        var checksum = 0.0
        try call { libpq_arm_read_text_rows($0, sql, Int32(clamping: count), &checksum) }
    }
}
