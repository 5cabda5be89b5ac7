import Glibc
import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Reaching a server that trusts, and not reaching one.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct ConnectTests {
    @Test(arguments: PostgresEphemeralServer.Address.allCases)
    func aTrustedUserConnects(_ address: PostgresEphemeralServer.Address) async throws {
        let db = try await connect(over: address)
        #expect(try await db.query("SELECT current_user::text", as: String.self).one() == "postgres")
        #expect(db.parameter("server_version")?.isEmpty == false)
        #expect(db.parameter("client_encoding") == "UTF8")
        #expect(try await db.query("SELECT pg_backend_pid()", as: Int32.self).one() == db.backendProcessID)
        db.close()
        #expect(db.isClosed)
    }

    @Test func anUnknownDatabaseIs3D000() async throws {
        let error = await failure { try await connect { $0.database = "no such database" } }
        #expect(error?.code == .invalidCatalogName)
        #expect(error?.outcome == .notSent)
        #expect(error?.server?.severity == "FATAL")
    }

    @Test func aRefusedPortIsATypedError() async throws {
        let listener = try Listener()
        let port = listener.port
        listener.close()
        let configuration = PostgresConfiguration(host: "127.0.0.1", port: port, user: "postgres")
        let error = await failure { try await PostgresConnection.connect(configuration) }
        #expect(error?.code == .cannotConnect)
        #expect(error?.outcome == .notSent)
        #expect(error?.message.contains("127.0.0.1") == true)
    }

    @Test func aListenerThatTakesNobodyIsLeftAtTheTimeout() async throws {
        let listener = try Listener()
        defer { listener.close() }
        listener.fill()
        var configuration = PostgresConfiguration(host: "127.0.0.1", port: listener.port, user: "postgres")
        configuration.connectTimeout = .milliseconds(500)
        let begin = ContinuousClock.now
        let error = await failure { try await PostgresConnection.connect(configuration) }
        let elapsed = ContinuousClock.now - begin
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .notSent)
        #expect(elapsed >= .milliseconds(450))
        #expect(elapsed < .seconds(30))
    }

    @Test func theBlockingConnectIsLeftAtTheTimeoutToo() async throws {
        let listener = try Listener()
        defer { listener.close() }
        listener.fill()
        let url = "postgresql://postgres@127.0.0.1:\(listener.port)/postgres?connect_timeout=1"
        let error = await failure { try await onThread { try PostgresBlockingConnection.connect(url).close() } }
        #expect(error?.code == .timedOut)
    }

    @Test func aHostNameThatDoesNotExistIsATypedError() async throws {
        var configuration = PostgresConfiguration(host: "no-such-host.invalid", user: "postgres")
        configuration.connectTimeout = .seconds(20)
        let error = await failure { try await PostgresConnection.connect(configuration) }
        // Where no name server answers at all, the deadline is what ends it.
        #expect(error?.code == .cannotConnect || error?.code == .timedOut)
        #expect(error?.message.contains("no-such-host.invalid") == true)
    }

    @Test func parametersOfTheSessionAreSetFromItsStart() async throws {
        let db = try await connect {
            $0.applicationName = "Ännchen's tests"
            $0.parameters = ["search_path": "pg_catalog, \"a b\"", "statement_timeout": "12345"]
        }
        // The server keeps ASCII of an application's name.
        let name = try await db.query("SHOW application_name", as: String.self).one()
        #expect(name.hasSuffix("nnchen's tests"))
        #expect(try await db.query("SHOW search_path", as: String.self).one() == "pg_catalog, \"a b\"")
        #expect(try await db.query("SHOW statement_timeout", as: String.self).one() == "12345ms")
        #expect(try await db.query("SHOW DateStyle", as: String.self).one().hasPrefix("ISO"))
    }

    @Test(arguments: ["German", "SQL, DMY", "SQL, MDY", "Postgres"])
    func timesInAnotherDateStyleSaySo(_ style: String) async throws {
        let db = try await connect()
        try await db.execute("SET DateStyle = \(unsafeSQL: style)")
        // Text, because what the columns are is not known before the first execution.
        let row = try await db.query("SELECT now() AS zoned, localtimestamp AS local").one()
        let name = style.prefix { $0 != "," }
        for error in [
            await failure { try row["zoned"] as PostgresTimestamp },
            await failure { try row["local"] as PostgresLocalTimestamp },
        ] {
            #expect(error?.code == .cannotDecode)
            #expect(error?.message.contains("the session's DateStyle is \(name), not ISO") == true)
            #expect(error?.hint?.contains("SET DateStyle = 'ISO'") == true)
        }
        // In binary form no style matters.
        _ = try await db.query("SELECT now()", as: PostgresTimestamp.self).one()
    }

    @Test func aParameterThatIsSetAtEachStartCannotBeSetInAnotherCase() async throws {
        let error = await failure { try await connect { $0.parameters = ["datestyle": "German"] } }
        #expect(error?.code == .invalidConfiguration)
        #expect(error?.message.contains("datestyle") == true)
    }

    @Test func aRefusedParameterIsTheServersError() async throws {
        let error = await failure { try await connect { $0.parameters = ["no_such_parameter": "1"] } }
        #expect(error?.sqlState == "42704")
        #expect(error?.outcome == .notSent)
    }

    @Test func aCancelledTaskStopsConnectingAtOnce() async throws {
        let listener = try Listener()
        defer { listener.close() }
        listener.fill()
        var configuration = PostgresConfiguration(host: "127.0.0.1", port: listener.port, user: "postgres")
        configuration.connectTimeout = .seconds(60)
        let task = Task { [configuration] in await failure { try await PostgresConnection.connect(configuration) } }
        try await Task.sleep(for: .milliseconds(100))
        let begin = ContinuousClock.now
        task.cancel()
        let error = await task.value
        #expect(ContinuousClock.now - begin < .seconds(10))
        #expect(error?.code == .cancelled)
        #expect(error?.outcome == .notSent)
    }

    @Test func aTaskCancelledDuringStartUpStopsToo() async throws {
        // Takes the connection into its queue, and never says a word.
        let listener = try Listener(backlog: 16)
        defer { listener.close() }
        var configuration = PostgresConfiguration(host: "127.0.0.1", port: listener.port, user: "postgres")
        configuration.connectTimeout = .seconds(60)
        let task = Task { [configuration] in await failure { try await PostgresConnection.connect(configuration) } }
        await eventually("connected") { openSockets(toPort: listener.port) == 1 }
        task.cancel()
        let error = await task.value
        #expect(error?.code == .cancelled)
        #expect(openSockets(toPort: listener.port) == 0)
    }
}

/// A socket that listens on a port of its own and accepts nobody.
final class Listener: Sendable {
    let port: Int
    private let descriptor: Int32
    private let backlog: Int32
    private let clients: [Int32]

    struct Failure: Error {
        let reason: Int32
    }

    init(backlog: Int32 = 0) throws {
        self.backlog = backlog
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        clients = (0..<4).map { _ in socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 && listen(descriptor, backlog) == 0
                    && getsockname(descriptor, $0, &size) == 0
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        guard isBound else { throw Failure(reason: errno) }
    }

    /// Takes the room in the queue, so that the system answers no further connection.
    func fill() {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        address.sin_port = in_port_t(truncatingIfNeeded: port).bigEndian
        for client in clients {
            _ = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(client, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
    }

    func close() {
        for client in clients { Glibc.close(client) }
        Glibc.close(descriptor)
    }
}
