import Testing

@testable import Postgres

/// `PostgresConfiguration(url:)`, and what `sslmode` is when nothing was said.
struct ConnectionURLTests {
    private static func configuration(
        host: String = "localhost", port: Int = 5432, user: String = "app", password: String? = nil,
        database: String? = nil, _ change: (inout PostgresConfiguration) -> Void = { _ in }
    ) -> PostgresConfiguration {
        var configuration = PostgresConfiguration(
            host: host, port: port, user: user, password: password, database: database)
        change(&configuration)
        return configuration
    }

    private func refusal(of url: String) -> PostgresError? {
        do throws(PostgresError) {
            _ = try PostgresConfiguration(url: url)
            return nil
        } catch {
            return error
        }
    }

    // MARK: What a URL says

    static let readable: [(url: String, expected: PostgresConfiguration)] = [
        ("postgresql://app@localhost/shop", configuration(database: "shop")),
        ("postgres://app@localhost/shop", configuration(database: "shop")),
        ("postgresql://app@localhost", configuration()),
        ("postgresql://app@localhost/", configuration()),
        ("postgresql://app@", configuration()),
        ("postgresql://app@/shop", configuration(database: "shop")),
        ("postgresql://app@db.example:6432", configuration(host: "db.example", port: 6432)),
        ("postgresql://app@db.example:/shop", configuration(host: "db.example", database: "shop")),
        ("postgresql://app@127.0.0.1:1", configuration(host: "127.0.0.1", port: 1)),
        ("postgresql://app@127.0.0.1:65535", configuration(host: "127.0.0.1", port: 65535)),
        ("postgresql://app:secret@localhost/shop", configuration(password: "secret", database: "shop")),
        ("postgresql://app:@localhost", configuration(password: "")),
        ("postgresql://app:a:b@localhost", configuration(password: "a:b")),
        // Percent encoding, in each part; the plus sign is itself.
        (
            "postgresql://a%40b:p%3A%2F%3F%25@localhost/s%20p",
            configuration(user: "a@b", password: "p:/?%", database: "s p")
        ),
        ("postgresql://app:%C3%A4%f0%9f%90%98+@localhost", configuration(password: "ä🐘+")),
        ("postgresql://app:ä🐘@localhost", configuration(password: "ä🐘")),
        ("postgresql://app@localhost/a/b", configuration(database: "a/b")),
        // An unencoded @ in a password stays out of the host's name.
        ("postgresql://app:p@ss@localhost/shop", configuration(password: "p@ss", database: "shop")),
        // IPv6.
        ("postgresql://app@[::1]/shop", configuration(host: "::1", database: "shop")),
        ("postgresql://app@[2001:db8::7]:6432/shop", configuration(host: "2001:db8::7", port: 6432, database: "shop")),
        // Folders of Unix sockets.
        (
            "postgresql://app@%2Fvar%2Frun%2Fpostgresql/shop",
            configuration(host: "/var/run/postgresql", database: "shop")
        ),
        (
            "postgresql://app@%2Frun:5433/shop",
            configuration(host: "/run", port: 5433, database: "shop")
        ),
        (
            "postgresql:///shop?host=/var/run/postgresql&user=app",
            configuration(host: "/var/run/postgresql", database: "shop")
        ),
        // Keywords.
        ("postgresql://?user=app", configuration()),
        ("postgresql://?user=app&host=db.example&port=6432", configuration(host: "db.example", port: 6432)),
        ("postgresql://?user=app&password=a%26b&dbname=shop", configuration(password: "a&b", database: "shop")),
        ("postgresql://?user=app&password=a=b", configuration(password: "a=b")),
        ("postgresql://app@localhost?sslmode=disable", configuration { $0.sslmode = .disable }),
        ("postgresql://app@localhost?sslmode=prefer", configuration { $0.sslmode = .prefer }),
        ("postgresql://app@localhost?sslmode=require", configuration { $0.sslmode = .require }),
        ("postgresql://app@localhost?sslmode=verify-full", configuration { $0.sslmode = .verifyFull }),
        ("postgresql://app@localhost?sslrootcert=/etc/ca.pem", configuration { $0.sslrootcert = "/etc/ca.pem" }),
        ("postgresql://app@localhost?application_name=night%20run", configuration { $0.applicationName = "night run" }),
        ("postgresql://app@localhost?connect_timeout=7", configuration { $0.connectTimeout = .seconds(7) }),
        ("postgresql://app@localhost?connect_timeout=0", configuration { $0.connectTimeout = nil }),
        // The keyword is read last.
        ("postgresql://app@localhost/shop?dbname=other&user=two", configuration(user: "two", database: "other")),
    ]

    @Test(arguments: readable.indices)
    func aURLIsReadPartByPart(_ index: Int) throws {
        let (url, expected) = Self.readable[index]
        #expect(try PostgresConfiguration(url: url) == expected, "\(url)")
        #expect(try PostgresConfiguration(url: url).password == expected.password, "\(url)")
    }

    // MARK: What is refused

    static let refused: [(url: String, reason: String)] = [
        ("", "must begin with postgresql://"),
        ("localhost", "must begin with postgresql://"),
        ("mysql://app@localhost/shop", "must begin with postgresql://"),
        ("postgresql:/app@localhost", "must begin with postgresql://"),
        ("postgresql://", "names no user"),
        ("postgresql://localhost/shop", "names no user"),
        ("postgresql://:secret@localhost", "names no user"),
        ("postgresql://app@one,two/shop", "more than one host"),
        ("postgresql://app@[::1/shop", "lacks its ]"),
        ("postgresql://app@[::1]5432/shop", "text after ]"),
        ("postgresql://app@localhost:0", "port is not a number from 1 to 65535"),
        ("postgresql://app@localhost:65536", "port is not a number from 1 to 65535"),
        ("postgresql://app@localhost:-1", "port is not a number from 1 to 65535"),
        ("postgresql://app@localhost:99999999999999999999", "port is not a number from 1 to 65535"),
        ("postgresql://app@localhost:postgres", "port is not a number from 1 to 65535"),
        ("postgresql://app@localhost?port=x", "port is not a number from 1 to 65535"),
        ("postgresql://app@localhost?sslmode=verify-ca", "sslmode must be"),
        ("postgresql://app@localhost?sslmode=", "sslmode must be"),
        ("postgresql://app@localhost?connect_timeout=soon", "connect_timeout must be"),
        ("postgresql://app@localhost?connect_timeout=-1", "connect_timeout must be"),
        ("postgresql://app@localhost?connect_timeout=86401", "connect_timeout must be"),
        ("postgresql://app@localhost?host=", "host is empty"),
        ("postgresql://app@localhost?sslMode=require", "unknown keyword \"sslMode\""),
        ("postgresql://app@localhost?keepalives=1", "unknown keyword \"keepalives\""),
        ("postgresql://app@localhost?=x", "unknown keyword \"\""),
        ("postgresql://app@localhost?sslmode", "a keyword without =value"),
        ("postgresql://app@localhost?sslmode=require&", "a keyword without =value"),
        ("postgresql://app%@localhost", "user holds a % that is not followed by two"),
        ("postgresql://app@localhost/%2", "dbname holds a % that is not followed by two"),
        ("postgresql://app@%zz", "host holds a % that is not followed by two"),
        ("postgresql://app@localhost?dbname=%0", "the keyword dbname holds a % that is not followed by two"),
        ("postgresql://a%00b@localhost", "user contains a NUL"),
        ("postgresql://app:%00@localhost", "password contains a NUL"),
        ("postgresql://app@local%00host", "host contains a NUL"),
        ("postgresql://app@localhost/%00", "dbname contains a NUL"),
        ("postgresql://app@localhost?application_name=%00", "the keyword application_name contains a NUL"),
        ("postgresql://app@[::1\u{0}]", "host contains a NUL"),
        ("postgresql://app:%ff@localhost", "password is not valid UTF-8"),
        ("postgresql://app@localhost/%ed%a0%80", "dbname is not valid UTF-8"),
        ("postgresql://app@localhost/%c0%80", "dbname is not valid UTF-8"),
    ]

    @Test(arguments: refused.indices)
    func aURLThatCannotBeReadIsATypedErrorThatSaysWhere(_ index: Int) {
        let (url, reason) = Self.refused[index]
        let error = refusal(of: url)
        #expect(error?.code == .invalidConfiguration, "\(url)")
        #expect(error?.outcome == .notSent, "\(url)")
        #expect(error?.message.contains(reason) == true, "\(url): \(error?.message ?? "no error")")
    }

    // MARK: Secrets

    /// `hunter2` is the password, or a part of it, in each.
    @Test(arguments: [
        "mysql://app:hunter2@localhost/shop",
        "postgresql://app:hunter2@localhost:port/shop",
        "postgresql://app:hunter2@localhost/shop?keepalives=1",
        "postgresql://app:hunter2@one,two/shop",
        "postgresql://app:hunter2%00@localhost",
        "postgresql://app:hunter2%@localhost",
        "postgresql://app:hunter2%ff@localhost",
        "postgresql://:hunter2@localhost",
        "postgresql://app@localhost?password=hunter2%zz",
        "postgresql://app@localhost?password=hunter2&sslmode=no",
        // Characters that should have been percent-encoded.
        "postgresql://app:hunter2/x@localhost/shop",
        "postgresql://app:x/hunter2@localhost/shop",
        "postgresql://app:x?hunter2@localhost/shop",
        "postgresql://app:1?hunter2=x@localhost/shop",
        "postgresql://app:1?hunter2=%@localhost/shop",
        "postgresql://app:[hunter2@localhost:x",
    ])
    func anErrorNeverShowsThePassword(_ url: String) throws {
        let error = try #require(refusal(of: url))
        #expect(!error.debugDescription.contains("hunter2"), "\(error)")
    }

    @Test func aConfigurationNeverShowsItsPassword() throws {
        var configuration = try PostgresConfiguration(url: "postgresql://app:hunter2@localhost:6432/shop")
        configuration.parameters = ["search_path": "hunter2"]
        var dumped = ""
        dump(configuration, to: &dumped)
        #expect(configuration.description == "postgresql://app@localhost:6432/shop")
        for text in [
            "\(configuration)", String(reflecting: configuration), dumped, "\(Optional(configuration) as Any)",
            "\([configuration])",
        ] {
            #expect(!text.contains("hunter2"))
            #expect(text.contains("app"))
        }
    }

    // MARK: The defaults of sslmode

    @Test(
        arguments: [
            ("/var/run/postgresql", nil, nil, .disable),
            ("/var/run/postgresql", "/etc/ca.pem", nil, .disable),
            // A Unix socket has no TLS, whatever was said.
            ("/var/run/postgresql", nil, .require, .disable),
            ("localhost", nil, nil, .prefer),
            ("127.0.0.1", nil, nil, .prefer),
            ("127.8.9.10", nil, nil, .prefer),
            ("::1", nil, nil, .prefer),
            ("localhost", "/etc/ca.pem", nil, .verifyFull),
            ("db.example", nil, nil, .require),
            ("10.0.0.1", nil, nil, .require),
            ("127.evil.example", nil, nil, .require),
            ("localhost.example", nil, nil, .require),
            ("2001:db8::7", nil, nil, .require),
            ("db.example", "/etc/ca.pem", nil, .verifyFull),
            ("db.example", nil, .disable, .disable),
            ("db.example", nil, .prefer, .prefer),
            ("db.example", "/etc/ca.pem", .require, .require),
            ("localhost", nil, .verifyFull, .verifyFull),
        ] as [(String, String?, PostgresConfiguration.SSLMode?, PostgresConfiguration.SSLMode)])
    func sslmodeDependsOnTheHostUnlessItIsGiven(
        host: String, root: String?, given: PostgresConfiguration.SSLMode?, expected: PostgresConfiguration.SSLMode
    ) {
        let configuration = PostgresConfiguration(host: host, user: "app", sslmode: given, sslrootcert: root)
        #expect(configuration.effectiveSSLMode == expected)
    }
}
