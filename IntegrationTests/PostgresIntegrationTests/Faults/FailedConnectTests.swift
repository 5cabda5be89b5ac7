import Foundation
import Glibc
import Postgres
import PostgresTesting
import TestTurns
import Testing

extension FaultTests {
    /// Connects that fail, many times at each stage: none leaves a descriptor behind. 1,000 times, 10,000 with `POSTGRES_FAULTS=all`.
    @Suite(
        .inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"),
        .timeLimit(.minutes(FaultPlan.isComplete ? 30 : 5)))
    struct FailedConnectTests {
        enum Stage: CaseIterable {
            case refused, timedOut, tlsNotOffered, tlsNotTrusted, wrongPassword, cancelled

            /// The only errors that this stage may end with.
            var codes: [PostgresError.Code] {
                switch self {
                case .refused: [.cannotConnect]
                case .timedOut: [.timedOut]
                case .tlsNotOffered, .tlsNotTrusted: [.tls]
                case .wrongPassword: [.invalidPassword]
                case .cancelled: [.cancelled]
                }
            }
        }

        /// A port of 127.0.0.1 that is taken, and that nobody listens on, or that nobody answers on.
        private final class DeafPort: Sendable {
            private let descriptor: Int32
            let number: Int

            init(isListening: Bool) throws {
                descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
                var address = sockaddr_in()
                address.sin_family = sa_family_t(AF_INET)
                address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
                var size = socklen_t(MemoryLayout<sockaddr_in>.size)
                let descriptor = descriptor
                let isBound = withUnsafeMutablePointer(to: &address) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                        bind(descriptor, pointer, size) == 0 && getsockname(descriptor, pointer, &size) == 0
                    }
                }
                number = Int(UInt16(bigEndian: address.sin_port))
                try #require(isBound)
                if isListening { try #require(listen(descriptor, 128) == 0) }
            }

            deinit { close(descriptor) }
        }

        private func openDescriptors() -> Int {
            (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count ?? 0
        }

        @Test(arguments: Stage.allCases)
        func noDescriptorIsLeftBehind(_ stage: Stage) async throws {
            let count = FaultPlan.isComplete ? 10_000 : 1000
            let faults = try await FaultServer.shared.value
            // One without a certificate; of its own, for other tests are connected to the shared one.
            let plain = stage == .tlsNotOffered ? try await PostgresEphemeralServer.start() : nil
            let proxy = try PostgresFaultProxy(to: plain ?? faults.server)
            let deaf = try DeafPort(isListening: stage == .timedOut)
            var configuration = PostgresConfiguration(
                host: "127.0.0.1", port: proxy.port, user: "plain", database: "postgres", sslmode: .disable)
            switch stage {
            case .refused: configuration.port = deaf.number
            case .timedOut:
                // First connected and without an answer; once the backlog is full, not connected.
                configuration.port = deaf.number
                configuration.connectTimeout = .milliseconds(5)
            case .tlsNotOffered: configuration.sslmode = .require
            case .tlsNotTrusted:
                configuration.sslmode = .verifyFull
                configuration.sslrootcert = try strangersCertificate(faults.server)
            case .wrongPassword:
                configuration.user = "scram"
                configuration.password = "wrong"
            // Slow enough for a cancellation to come at any moment of it.
            case .cancelled: proxy.faults.toServer.delay = .milliseconds(2)
            }

            let ports: Set = [configuration.port, proxy.port]
            let before = openDescriptors()
            // The port that nobody listens on may be one.
            let stranded = strandedSockets(toPorts: [])
            var generator = SplitMix(state: FaultPlan.seed)
            // A twelfth of a millisecond apart.
            let cancellations = (0..<count).map { _ in Int.random(in: 0..<60, using: &generator) * 83 }
            let succeeded = try await fail(configuration, stage, cancellations)
            // A cancellation may come too late, but not as a rule.
            #expect(succeeded == 0 || (stage == .cancelled && succeeded < count / 2))

            await eventually("sockets are left over") { strandedSockets(toPorts: ports) <= stranded + 16 }
            // Other tests run beside this one and have descriptors of their own; a leak would be of a thousand.
            await eventually("descriptors are left over") { openDescriptors() < before + count / 4 }
            await proxy.stop()
            try await plain?.stop()
            try await expectUsable(faults.connect())
        }

        /// Connects as often as there are numbers, 32 at a time. Cancels after that many microseconds.
        ///
        /// - Returns: how many connected after all.
        private func fail(
            _ configuration: PostgresConfiguration, _ stage: Stage, _ cancellations: [Int]
        ) async throws -> Int {
            try await withThrowingTaskGroup(of: Int.self) { group in
                for worker in 0..<32 {
                    group.addTask {
                        var succeeded = 0
                        for index in stride(from: worker, to: cancellations.count, by: 32) {
                            let attempt = Task {
                                try await PostgresConnection.connect(configuration)
                            }
                            if stage == .cancelled {
                                try await Task.sleep(for: .microseconds(cancellations[index]))
                                attempt.cancel()
                            }
                            do {
                                try await attempt.value.close()
                                succeeded += 1
                            } catch let error as PostgresError {
                                if !stage.codes.contains(error.code) || error.outcome != .notSent {
                                    Issue.record("\(stage): \(error)")
                                }
                            } catch {
                                Issue.record("\(stage): an error of another type: \(error)")
                            }
                        }
                        return succeeded
                    }
                }
                var succeeded = 0
                for try await count in group { succeeded += count }
                return succeeded
            }
        }

        /// The file of an authority that did not sign the server's certificate.
        private func strangersCertificate(_ server: PostgresEphemeralServer) throws -> String {
            let file = server.folder + "/stranger.crt"
            try PostgresTestCertificate.authority().certificatePEM.write(
                toFile: file, atomically: true, encoding: .utf8)
            return file
        }
    }
}
