import Glibc
import PostgresTesting

// Starts a server, says where it is, and waits to be killed. The test may also kill it before the second line.
func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    guard write(1, bytes, bytes.count) == bytes.count else { exit(1) }
}

say("starting")
let server = try await PostgresEphemeralServer.start()
say("server \(await server.processID ?? 0) \(server.folder)")
while true { pause() }
