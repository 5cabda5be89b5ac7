import Postgres
import PostgresTesting
import PostgresUpsert
import Synchronization
import Testing

/// Writes versions of its own keys, in one form after the other, until it is told to end; connects again whenever it has to.
struct CrashWriter: Sendable {
    /// What the writers and whoever disturbs them share.
    final class Scene: Sendable {
        let configuration: PostgresConfiguration
        let isOver = Atomic(false)
        let acknowledged = Atomic(0)
        /// The server process of each writer that is connected.
        let processes = Mutex<[Int64: Int32]>([:])

        init(_ configuration: PostgresConfiguration) { self.configuration = configuration }
    }

    private enum Form: CaseIterable {
        case single, batch, isolatedPipeline, atomicPipeline
    }

    private static let keys = Int64(0)..<20

    let number: Int64
    let scene: Scene

    func run(seed: UInt64) async -> [CrashEntry] {
        var generator = SplitMix(state: seed)
        var entries: [CrashEntry] = []
        var version = Int64(0)
        while !scene.isOver.load(ordering: .relaxed) {
            guard let db = await connect() else { continue }
            scene.processes.withLock { $0[number] = db.backendProcessID }
            while !scene.isOver.load(ordering: .relaxed) {
                let new = await write(db, &version, &generator)
                entries += new
                scene.acknowledged.add(new.count { $0.outcome == nil }, ordering: .relaxed)
                if new.contains(where: { $0.outcome != nil }) { break }
            }
            scene.processes.withLock { _ = $0.removeValue(forKey: number) }
            db.close()
        }
        return entries
    }

    /// Nil after a failure, which has to be one of a server that is down or on its way up.
    private func connect() async -> PostgresConnection? {
        do throws(PostgresError) {
            return try await PostgresConnection.connect(scene.configuration)
        } catch {
            let isExpected = [
                .cannotConnect, .connectionLost, .cannotConnectNow, .adminShutdown, .crashShutdown, .timedOut,
            ].contains(error.code)
            if !isExpected { Issue.record("connecting: \(error)") }
            try? await Task.sleep(for: .milliseconds(20))
            return nil
        }
    }

    private func write(
        _ db: PostgresConnection, _ version: inout Int64, _ generator: inout SplitMix
    ) async -> [CrashEntry] {
        version += 1
        switch Form.allCases.randomElement(using: &generator) ?? .single {
        case .single:
            let key = Int64.random(in: Self.keys, using: &generator)
            let new = row(key, version)
            return [
                await entry(version, key..<(key + 1)) { () async throws(PostgresError) in try await db.upsert(new) }
            ]
        case .batch:
            let rows = Self.keys.map { row($0, version) }
            return [await entry(version, Self.keys) { () async throws(PostgresError) in try await db.upsert(rows) }]
        case .isolatedPipeline:
            var pipeline = PostgresPipeline(.isolated)
            let first = version
            let keys = (0..<10).map { _ in Int64.random(in: Self.keys, using: &generator) }
            for (index, key) in keys.enumerated() { pipeline.add(Upsert(row(key, first + Int64(index))).query) }
            version += Int64(keys.count) - 1
            let errors = await self.errors(db, pipeline)
            return zip(keys, errors).enumerated().map { index, item in
                CrashEntry(
                    writer: number, version: first + Int64(index), keys: item.0..<(item.0 + 1),
                    outcome: item.1?.outcome)
            }
        case .atomicPipeline:
            var pipeline = PostgresPipeline(.atomic)
            for key in Self.keys { pipeline.add(Upsert(row(key, version)).query) }
            let outcomes = await errors(db, pipeline).map { $0?.outcome }
            // One transaction, so what is known of it is what is known of each statement, and of one in doubt all are.
            let outcome = outcomes.contains(.unknown) ? .unknown : outcomes.first { $0 != nil } ?? nil
            if Set(outcomes).contains(nil), outcome != nil {
                Issue.record("one transaction, but its statements were told \(outcomes)")
            }
            return [CrashEntry(writer: number, version: version, keys: Self.keys, outcome: outcome)]
        }
    }

    private func row(_ key: Int64, _ version: Int64) -> CrashRow {
        CrashRow(writer: number, key: key, version: version)
    }

    private func entry(
        _ version: Int64, _ keys: Range<Int64>, _ upsert: () async throws(PostgresError) -> Int
    ) async -> CrashEntry {
        var outcome: PostgresError.Outcome?
        do throws(PostgresError) {
            let count = try await upsert()
            #expect(count == keys.count)
        } catch {
            expectOfServerThatEnds(error)
            outcome = error.outcome
        }
        return CrashEntry(writer: number, version: version, keys: keys, outcome: outcome)
    }

    private func errors(_ db: PostgresConnection, _ pipeline: PostgresPipeline) async -> [PostgresError?] {
        do throws(PostgresError) {
            let errors = try await db.run(pipeline).errors
            for error in errors { if let error { expectOfServerThatEnds(error) } }
            return errors
        } catch {
            expectOfServerThatEnds(error)
            #expect(error.outcome == .notSent)
            return Array(repeating: error, count: pipeline.count)
        }
    }

    private func expectOfServerThatEnds(_ error: PostgresError) {
        let codes: [PostgresError.Code] = [.connectionLost, .adminShutdown, .crashShutdown, .connectionClosed]
        let isExpected =
            codes.contains(error.code) || (error.outcome == .aborted && error.code == .inFailedSqlTransaction)
        if !isExpected { Issue.record("writing: \(error)") }
    }
}
