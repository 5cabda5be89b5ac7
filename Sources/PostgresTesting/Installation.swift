import Glibc

/// The programs of one installed PostgreSQL.
struct Installation: Sendable, Hashable {
    /// Holds `initdb` and `postgres`.
    let binFolder: String

    var postgres: String { binFolder + "/postgres" }

    /// Debian keeps `psql` with the server; elsewhere it may be in another package and folder.
    var psql: String {
        let beside = binFolder + "/psql"
        return File.isExecutable(beside) ? beside : program("psql") ?? beside
    }

    struct NotFound: Error {
        var searched: [String]
    }

    /// The given folder, or `POSTGRES_BIN`, and nothing else when one is named; otherwise `PATH`, then Debian's
    /// folders from the newest major version down, then what `pg_config` says.
    static func find(in folder: String?) throws(NotFound) -> Installation {
        var searched: [String] = []
        func holdsServer(_ folder: String, _ origin: String) -> Bool {
            searched.append(origin)
            return File.isExecutable(folder + "/initdb") && File.isExecutable(folder + "/postgres")
        }
        if let folder {
            if holdsServer(folder, folder) { return Installation(binFolder: folder) }
            throw NotFound(searched: searched)
        }
        if let folder = environmentVariable("POSTGRES_BIN") {
            if holdsServer(folder, "\(folder) (POSTGRES_BIN)") { return Installation(binFolder: folder) }
            throw NotFound(searched: searched)
        }
        for folder in searchFolders where holdsServer(folder, "\(folder) (PATH)") {
            return Installation(binFolder: folder)
        }
        for version in debianVersions {
            let folder = "/usr/lib/postgresql/\(version)/bin"
            if holdsServer(folder, folder) { return Installation(binFolder: folder) }
        }
        if debianVersions.isEmpty { searched.append("/usr/lib/postgresql/*/bin") }
        searched.append("pg_config --bindir")
        if let pgConfig = program("pg_config"),
            let result = try? ChildProcess.run(
                pgConfig, ["--bindir"], environment: ChildProcess.environment, deadline: .now + .seconds(10)),
            let folder = result.output.split(separator: "\n").first.map(String.init), holdsServer(folder, folder)
        {
            return Installation(binFolder: folder)
        }
        throw NotFound(searched: searched)
    }

    /// What `postgres --version` says, as `15` in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    var majorVersion: Int? {
        let result = try? ChildProcess.run(
            postgres, ["--version"], environment: ChildProcess.environment, deadline: .now + .seconds(10))
        let word = result?.output.split(separator: " ").first { $0.first?.isNumber == true }
        return word.flatMap { Int($0.prefix { $0.isNumber }) }
    }

    private static var debianVersions: [Int] {
        guard let folder = opendir("/usr/lib/postgresql") else { return [] }
        defer { closedir(folder) }
        var versions: [Int] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let version = Int(name) { versions.append(version) }
        }
        return versions.sorted(by: >)
    }
}

private var searchFolders: [String] {
    var seen: Set<String> = []
    return ChildProcess.searchPath.split(separator: ":").map(String.init).filter { seen.insert($0).inserted }
}

/// The program of this name in `PATH`.
func program(_ name: String) -> String? {
    searchFolders.map { "\($0)/\(name)" }.first(where: File.isExecutable)
}
