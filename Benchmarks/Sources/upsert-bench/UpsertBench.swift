import ArgumentParser

// Synchronous: the work runs in a detached task while the main thread waits (see `runToEnd`).
@main
struct UpsertBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upsert-bench",
        abstract: "Measures the atomic upsert against SELECT-then-INSERT-or-UPDATE, and this client against libpq.",
        subcommands: [
            RunCommand.self, SpeedCommand.self, EngineCommand.self, ProtocolCommand.self, WorkloadCommand.self,
            ServeCommand.self,
        ],
        defaultSubcommand: RunCommand.self)
}
