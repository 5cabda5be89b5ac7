// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that whoever uses the library resolves none of what measuring it takes.
// The library's messages are `package`, and it is known to the compiler by the name of the folder it is in.
let folder = Context.packageDirectory.split(separator: "/").dropLast().last ?? ""
let name = (folder.hasSuffix(".git") ? folder.dropLast(4) : folder).lowercased()
let libraryName = String(
    name.enumerated().map { $1.isLetter || ($1.isNumber && $0 > 0) ? $1 : "_" })

let package = Package(
    name: "upsert-bench",
    dependencies: [
        // By name: a path's last component would be the package's identity, and a clone may be called anything.
        .package(name: "postgres-swift", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // Debian: libpq-dev.
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        // The same work done with libpq, in C.
        .target(name: "CLibPQArms", dependencies: ["CLibPQ"]),
        // Latencies, ratios with intervals, tables: no database.
        .target(
            name: "Measurement",
            dependencies: [.product(name: "Histogram", package: "hdrhistogram-swift")]),
        // What a run tells, as text and as a page with figures.
        .target(name: "Reporting", dependencies: ["Measurement"]),
        // Messages made and taken apart alone, which no public API does: as if it were a part of the library.
        .target(
            name: "MessageCosts", dependencies: [.product(name: "Postgres", package: "postgres-swift")],
            packageAccess: false, swiftSettings: [.unsafeFlags(["-package-name", libraryName])]),
        .executableTarget(
            name: "upsert-bench",
            dependencies: [
                "CLibPQArms",
                "MessageCosts",
                "Measurement",
                "Reporting",
                .product(name: "Postgres", package: "postgres-swift"),
                .product(name: "PostgresUpsert", package: "postgres-swift"),
                .product(name: "PostgresTesting", package: "postgres-swift"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .testTarget(name: "MeasurementTests", dependencies: ["Measurement", "MessageCosts"]),
        .testTarget(name: "ReportingTests", dependencies: ["Measurement", "Reporting"]),
    ],
    swiftLanguageModes: [.v6]
)

// As in the manifest of the library.
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
