// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "postgres-swift",
    products: [
        .library(name: "Postgres", targets: ["Postgres"]),
        .library(name: "PostgresUpsert", targets: ["PostgresUpsert"]),
        .library(name: "PostgresTesting", targets: ["PostgresTesting"]),
    ],
    targets: [
        // System interfaces: epoll and sockets; OpenSSL (Debian: libssl-dev). Header-only, no logic.
        .systemLibrary(name: "CPostgresSystem"),
        .systemLibrary(name: "CPostgresOpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),

        // Bytes in, events out; no socket, clock or lock.
        .target(
            name: "PostgresProtocol", dependencies: ["CPostgresOpenSSL", "CPostgresSystem"],
            exclude: ["Authentication/generate-saslprep-tables.py"]),
        // Sockets, the event loop and TLS; no word of PostgreSQL.
        .target(name: "PostgresTransport", dependencies: ["CPostgresOpenSSL", "CPostgresSystem"]),
        // Connections, queries, rows, codecs.
        .target(name: "Postgres", dependencies: ["PostgresProtocol", "PostgresTransport"]),
        // Typed INSERT ... ON CONFLICT over the public API of Postgres only (and the transport's lock in debug builds).
        .target(name: "PostgresUpsert", dependencies: ["Postgres", "PostgresTransport"]),
        // A private throwaway server, a scripted mock server and a proxy that makes faults, for tests.
        .target(
            name: "PostgresTesting",
            dependencies: ["PostgresProtocol", "PostgresTransport", "CPostgresOpenSSL", "CPostgresSystem"]),

        .testTarget(name: "PostgresProtocolTests", dependencies: ["PostgresProtocol", "PostgresTesting"]),
        .testTarget(
            name: "PostgresTransportTests",
            dependencies: ["PostgresTransport", "CPostgresOpenSSL", "CPostgresSystem", "TestTurns"]),
        .testTarget(
            name: "PostgresTests",
            dependencies: ["Postgres", "PostgresProtocol", "PostgresTransport", "PostgresTesting", "TestTurns"]),
        .testTarget(name: "PostgresUpsertTests", dependencies: ["PostgresUpsert", "Postgres"]),
        .testTarget(
            name: "PostgresTestingTests",
            dependencies: ["PostgresTesting", "PostgresProtocol", "postgres-testing-crash-fixture", "TestTurns"]),
        // Gives snippets to the compiler that must not compile; they are no sources of the package.
        .testTarget(
            name: "DoesNotCompileTests", dependencies: ["Postgres", "PostgresUpsert"], exclude: ["Snippets"]),
        // How many tests with time limits run at once; not a product.
        .target(name: "TestTurns", dependencies: ["PostgresTransport"], path: "Tests/TestTurns"),
        // A process that the tests of PostgresTesting kill; not a product.
        .executableTarget(
            name: "postgres-testing-crash-fixture", dependencies: ["PostgresTesting"],
            path: "Tests/Fixtures/postgres-testing-crash-fixture"),
        .testTarget(
            name: "PostgresIntegrationTests",
            dependencies: ["Postgres", "PostgresUpsert", "PostgresTesting", "TestTurns"],
            path: "IntegrationTests/PostgresIntegrationTests"),
    ],
    swiftLanguageModes: [.v6]
)

// One loop sets the language for every Swift target.
for target in package.targets where target.type != .system {
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
            .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
            .enableUpcomingFeature("InferIsolatedConformances"),
            .treatAllWarnings(as: .error),
        ]
}
