import Glibc
import PostgresTransport
import Synchronization

extension PostgresEphemeralServer {
    /// Whether a PostgreSQL server is installed where `start()` looks by default. Found out once.
    public static let isAvailable = (try? Installation.find(in: nil)) != nil

    /// The major version of that server, such as 15; nil when there is none.
    public static let availableMajorVersion = (try? Installation.find(in: nil))?.majorVersion

    static func installation(_ folder: String?) throws(Failure) -> Installation {
        do { return try Installation.find(in: folder) } catch {
            throw Failure(
                .notInstalled,
                "no PostgreSQL server (initdb and postgres) in: \(error.searched.joined(separator: ", ")). "
                    + "On Debian: apt-get install postgresql")
        }
    }

    /// Nil unless we are root.
    static func serverUser(_ options: Options) throws(Failure) -> ServerUser? {
        guard geteuid() == 0 else { return nil }
        guard program("setpriv") != nil else {
            throw Failure(
                .system, "started by root, and there is no setpriv (package util-linux) to drop to another user")
        }
        let names = options.serverUser.map { [$0] } ?? ["postgres", "nobody"]
        guard let user = names.lazy.compactMap(ServerUser.init(named:)).first, user.userID != 0 else {
            throw Failure(.invalidOption, "no user \(names.joined(separator: " or ")) to run the server as")
        }
        return user
    }

    static func supervisor(
        _ options: Options, installation: Installation, user: ServerUser?
    ) throws(Failure) -> ServerSupervisor {
        var parent = options.temporaryFolder ?? environmentVariable("TMPDIR") ?? "/tmp"
        // The longest name of a Unix socket is 107 bytes; PostgreSQL adds "/pg.XXXXXX/.s.PGSQL.32767.lock".
        if !parent.hasPrefix("/") || parent.utf8.count > 107 - 31 || parent.contains("\n") { parent = "/tmp" }
        do {
            return try ServerSupervisor(
                installation: installation, user: user, parentFolder: parent,
                initdbArguments: initdbArguments(options))
        } catch {
            throw Failure(.system, error.message)
        }
    }

    private static func initdbArguments(_ options: Options) -> [String] {
        ["--auth=trust", "--no-sync", "--username=\(options.superuser)"] + options.initdbArguments
    }

    /// The first server of a process runs `initdb` in its own folder. The second makes a template, which it and every
    /// later one copy: most processes need one server only, and a copy costs a fraction of `initdb`.
    static func makeDataFolder(
        _ options: Options, _ installation: Installation, _ user: ServerUser?, in supervisor: ServerSupervisor,
        deadline: ContinuousClock.Instant
    ) throws(Failure) {
        let key = TemplateKey(installation: installation, user: user, arguments: initdbArguments(options))
        let template = try templates.withLock { (templates) throws(Failure) -> ServerSupervisor? in
            switch templates[key] {
            case nil:
                templates[key] = .wanted
                return nil
            case .made(let template) where File.exists(template.folder + "/data/PG_VERSION"):
                return template
            case .wanted, .made:
                let template = try Self.supervisor(options, installation: installation, user: user)
                try run("initdb", in: template, deadline: deadline)
                templates[key] = .made(template)
                return template
            }
        }
        if let template {
            try run("copy \(template.folder)/data", in: supervisor, deadline: deadline)
        } else {
            try run("initdb", in: supervisor, deadline: deadline)
        }
    }

    private static func run(
        _ command: String, in supervisor: ServerSupervisor, deadline: ContinuousClock.Instant
    ) throws(Failure) {
        let answer: String
        do { answer = try supervisor.send(command, deadline: deadline) } catch {
            throw Failure(.initdbFailed, error.message)
        }
        guard answer == "status 0" else {
            let log = File.read(supervisor.folder + "/initdb.log") ?? ""
            throw Failure(.initdbFailed, "the data folder could not be made (\(answer)): \(log)")
        }
    }
}

private struct TemplateKey: Hashable {
    var installation: Installation
    var user: ServerUser?
    var arguments: [String]
}

private enum Template {
    /// One server was made this way.
    case wanted
    /// A supervisor that owns an initialised data folder and no server; it ends with the process, like any other.
    case made(ServerSupervisor)
}

private let templates = Lock<[TemplateKey: Template]>([:])
