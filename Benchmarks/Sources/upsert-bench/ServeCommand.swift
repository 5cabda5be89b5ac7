import ArgumentParser
import Foundation
import Postgres
import PostgresTesting

struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Runs a private server for other measuring tools until standard input ends.",
        discussion: """
            Prints PGSOCKDIR=..., PGPORT=... and URL=... lines. The server trusts the superuser "bench" and has a database \
            "bench" with the table stats.
            """)

    @Flag(help: "Wait for the disk at each commit (fsync and synchronous_commit on).")
    var durable = false

    func run() throws {
        try runToEnd { [durable] in
            var options = PostgresEphemeralServer.Options()
            options.isDurable = durable
            options.roles = [.init("bench", attributes: ["SUPERUSER", "LOGIN"])]
            options.databases = ["bench"]
            try await PostgresEphemeralServer.withServer(options) { server in
                try await server.runSQL(StatsRow.createTable.sql, database: "bench")
                print("PGSOCKDIR=\(server.socketFolder)")
                print("PGPORT=\(server.port)")
                print("URL=\(server.connectionURL(user: "bench", database: "bench", over: .unixSocket))")
                // Through a pipe, output is kept back until it is a block.
                fflush(nil)
                while readLine() != nil {}
            }
        }
    }
}
