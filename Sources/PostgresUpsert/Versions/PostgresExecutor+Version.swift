public import Postgres

extension PostgresExecutor {
    /// Inserts a row, or overwrites the stored one if that has the version of the given row.
    ///
    /// SQL: that of the upsert; if the version is stale, also `SELECT ... FROM "documents" WHERE "id" = $1`, without
    /// the rows of tables that inherit from it.
    ///
    /// - Returns: the version that is stored now.
    /// - Throws: `staleVersion` with an ``UpsertStaleVersion`` that holds the stored row; `notWritten` if that has the version of the
    ///   given row, and a condition of the upsert's own is false for it, or a trigger suppressed the update.
    @discardableResult
    public func upsert<Row, Version>(
        _ upsert: VersionedUpsert<Row, Version>
    ) async throws(PostgresError) -> Version {
        guard let row = upsert.row else {
            throw .upsert("the upsert of table \"\(Row.table.name)\" has no row", hint: "Document.save(document)")
        }
        if let stored = try await self.upsert(upsert.upsert(row)).first ?? nil { return stored }
        let current = try await query(try upsert.current(of: row)).first()
        let version = row[keyPath: upsert.version]
        if let current, current[keyPath: upsert.version] == version {
            throw PostgresError(
                code: .notWritten,
                message:
                    "table \"\(Row.table.name)\": the stored row has the version of this one, \(version), and was not"
                    + " overwritten", outcome: .rejected,
                hint: "a where(...) of the upsert is false for it, or a trigger suppressed the update")
        }
        let found =
            current.map { "is version \($0[keyPath: upsert.version])" } ?? "has gone, or a trigger suppresses this one"
        throw PostgresError(
            code: .staleVersion,
            message: "table \"\(Row.table.name)\": the stored row \(found); this one is of version \(version)",
            outcome: .rejected, hint: "make the change again, on the row as it is now",
            underlying: UpsertStaleVersion(current: current))
    }

    /// The same, again and again: where the version is stale, `resolve` makes the change anew on the row as it is now.
    ///
    /// ```swift
    /// try await db.upsert(Document.save(mine), retry: .upTo(10), within: .seconds(5)) { current, mine in
    ///     var merged = current
    ///     merged.body += mine.body
    ///     return merged
    /// }
    /// ```
    /// Pauses are random up to a bound that doubles with each attempt (full jitter). Behind a pause the row is read again, so that only
    /// what is written between that and the attempt makes it stale once more. In a transaction stricter than READ COMMITTED
    /// a stale version stays stale: retry the transaction there.
    ///
    /// - Parameters:
    ///   - retry: how often it is tried, the first time included, and the pauses.
    ///   - limit: no further attempt begins after this time.
    ///   - resolve: gets the stored row, as it is behind the pause, and the one that could not be written; not called if the row was
    ///     deleted meanwhile, which is then inserted again. The version of what it returns does not matter:
    ///     it is set to that of the stored row.
    /// - Returns: the version that is stored now.
    /// - Throws: `staleVersion` of the last attempt; what `resolve` throws.
    @discardableResult
    public func upsert<Row, Version>(
        _ upsert: VersionedUpsert<Row, Version>, retry: PostgresTransaction.Retry, within limit: Duration? = nil,
        resolve: (_ current: Row, _ mine: Row) async throws -> Row
    ) async throws -> Version {
        let deadline = limit.map { ContinuousClock.now + $0 }
        var upsert = upsert
        var attempt = 1
        while true {
            do throws(PostgresError) {
                return try await self.upsert(upsert)
            } catch {
                guard error.code == .staleVersion, let pause = retry.pause(behindAttempt: attempt),
                    let mine = upsert.row, (error.underlying as? UpsertStaleVersion<Row>)?.current != nil
                else { throw error }
                attempt += 1
                if let deadline, ContinuousClock.now + pause >= deadline { throw error }
                try await Task.sleep(for: pause)
                // What was read before it is stale again, if the key is written more often than that.
                guard let current = try await query(try upsert.current(of: mine)).first() else { continue }
                var resolved = try await resolve(current, mine)
                resolved[keyPath: upsert.version] = current[keyPath: upsert.version]
                upsert = upsert(resolved)
            }
        }
    }
}

extension VersionedUpsert {
    /// The stored row of a key: `SELECT "id", "body", "version" FROM "documents" WHERE "id" = $1`, but for inherited rows.
    func current(of row: Row) throws(PostgresError) -> PostgresQuery.Typed<Row> {
        let layout = upsert.definition.layout
        let key = try upsert.definition.shape.resolve(layout).conflictKey ?? []
        guard !key.isEmpty else {
            throw PostgresError(
                code: .staleVersion,
                message: "table \"\(layout.name)\": the stored row is of another version than the one given",
                outcome: .rejected,
                hint: "name the columns of the constraint or index, for the stored row to be found")
        }
        let columns = key.map { layout.columns[$0] }
        var conditions = columns.enumerated().map { number, column in
            let parameter = "$\(number + 1)" + (column.comparedType.map { "::" + $0 } ?? "")
            let isEqual = "\(quoted(column.name)) = \(parameter)"
            // A NULL conflicts where the index says NULLS NOT DISTINCT. `IS NOT DISTINCT FROM` would not use the index.
            guard type(of: column.path).valueType is any ExpressibleByNilLiteral.Type else { return isEqual }
            return "(\(isEqual) OR (\(quoted(column.name)) IS NULL AND \(parameter) IS NULL))"
        }
        if case .columns(_, let predicate?) = upsert.definition.shape.target {
            // Of a partial index; it holds no parameters, which the server could not match.
            let texts = predicate.pieces.map { piece in if case .text(let text) = piece { text } else { "NULL" } }
            conditions.append("(\(texts.joined()))")
        }
        let selected = "SELECT \(layout.quotedColumns.joined(separator: ", ")) FROM \(layout.quotedName) WHERE "
        let text = TextCache.shared.text(
            "SELECT s.* FROM \(layout.own) CROSS JOIN LATERAL (\(selected)"
                + (conditions + [layout.isOwn]).joined(separator: " AND ") + ") AS s")
        return withUnsafePointer(to: row) { row in
            PostgresQuery(text, parameterCount: columns.count) { encoder in
                for column in columns { column.appendParameter(row, &encoder) }
            }
        }.as(Row.self)
    }
}
