public import Postgres

/// What OVERRIDING says (manual, "INSERT").
public enum UpsertOverriding: String, Sendable, Hashable {
    /// The rows' values go into identity columns, those GENERATED ALWAYS too.
    case systemValue = "SYSTEM VALUE"
    /// The rows' values are ignored, and the sequence's taken.
    case userValue = "USER VALUE"
}

extension Upsert {
    func with<Result>(
        _ output: UpsertOutput<Result>, _ change: (inout UpsertShape) -> Void
    ) -> Upsert<Row, Result> {
        var shape = definition.shape
        change(&shape)
        if !definition.calls.isEmpty {
            shape.fail(
                .upsert(
                    "table \"\(definition.layout.name)\": an upsert that calls a function is what that does",
                    hint: "put modifiers on the upsert that the UpsertFunction is made of"))
        }
        return Upsert<Row, Result>(
            rows: rows,
            definition: UpsertDefinition(layout: definition.layout, shape: shape, batching: definition.batching),
            output: output)
    }

    private func with(_ change: (inout UpsertShape) -> Void) -> Self { with(output, change) }

    /// Columns by their properties; those that are none become the shape's failure.
    func indices(_ paths: [PartialKeyPath<Row>], _ shape: inout UpsertShape) -> [Int] {
        var indices: [Int] = []
        for path in paths {
            if let index = definition.layout.index(of: path) {
                indices.append(index)
            } else {
                shape.fail(definition.layout.notAColumn(path))
            }
        }
        return indices
    }
}

// Conflict target
extension Upsert {
    /// Rows conflict by these columns; a unique index over exactly them must exist. Without it: by the declared primary key.
    /// NULL in one of them never conflicts, unless the index says NULLS NOT DISTINCT. Of several conflict targets the last one counts.
    ///
    /// SQL: `ON CONFLICT ("email") WHERE deleted_at IS NULL`
    ///
    /// - Parameter predicate: that of a partial index. Write its values into the literal: the server cannot match a parameter.
    public func onConflict(_ key: PartialKeyPath<Row>..., where predicate: UpsertFragment? = nil) -> Self {
        with { $0.target = .columns(indices(key, &$0), predicate: predicate) }
    }

    /// Rows conflict by a constraint, named without quotes.
    ///
    /// SQL: `ON CONFLICT ON CONSTRAINT "page_stats_pkey"`
    ///
    /// - Parameter key: its columns, when they are known: only then can rows be sorted by them, and duplicates be found before
    ///   anything is sent.
    public func onConstraint(_ name: String, _ key: PartialKeyPath<Row>...) -> Self {
        with { $0.target = .constraint(name, columns: indices(key, &$0)) }
    }

    /// Rows conflict by an index over expressions, or with a collation or operator class.
    ///
    /// SQL: `ON CONFLICT (lower("email"))`
    public func onIndex(_ expressions: UpsertFragment, where predicate: UpsertFragment? = nil) -> Self {
        with { $0.target = .index(expressions, predicate: predicate) }
    }

    /// A NULL in a key column is an error before the upsert is sent. Without it a row whose key holds NULL never conflicts and is
    /// always inserted, unless the index says NULLS NOT DISTINCT (PostgreSQL 15 and later; see
    /// ``Postgres/PostgresExecutor/uniqueIndexes(of:)``).
    ///
    /// - Parameter unlessNotDistinct: whether such a row is sent where the index says NULLS NOT DISTINCT. Whether it does is asked of
    ///   the server when the first NULL comes, in a round trip of its own, and remembered; before the first joins a pipeline:
    ///   ``Postgres/PostgresExecutor/prepareNullKeys(of:)``.
    public func rejectingNullKeys(unlessNotDistinct: Bool = false) -> Self {
        with { $0.nullKeys = unlessNotDistinct ? .rejectedWhereDistinct : .rejected }
    }

    /// Rows conflict by any unique or exclusion constraint; together with `doNothing()` only.
    ///
    /// SQL: `ON CONFLICT DO NOTHING`
    public func onAnyConflict() -> Self { with { $0.target = .any } }
}

// Action
extension Upsert {
    /// Leaves a stored row alone. Together with what says how to overwrite one it is an error.
    ///
    /// SQL: `DO NOTHING`
    public func doNothing() -> Self { with { $0.restrain(.nothing, "doNothing()") } }

    /// Leaves a stored row alone where there is nothing to update: a table that has no columns but its key and those that the
    /// server fills. Otherwise that is an error, as it is mostly a mistake.
    ///
    /// SQL: `DO NOTHING`
    public func orDoNothing() -> Self { with { $0.mayDoNothing = true } }

    /// Gets the stored row, or creates it: a stored row is answered as it is, and neither written nor locked.
    ///
    /// ```swift
    /// let tag = try await db.upsert(Upsert(Tag(name: "new")).doSelect().returningRow()).one()
    /// ```
    /// SQL: `WITH upsert_written AS (INSERT INTO ... ON CONFLICT ("name") DO NOTHING RETURNING "id") SELECT "id" FROM
    /// upsert_written UNION ALL SELECT "id" FROM "tags" WHERE "name" = $1 AND NOT EXISTS (SELECT FROM upsert_written)`
    ///
    /// A row that another transaction inserted while the statement ran is in neither part. It is then run again, which finds it;
    /// in a pipeline, which runs once, such a row has no answer. Where it runs again behind the COMMIT of a batch of several rows and
    /// fails, the error's outcome is `succeeded`: the batch is in. The outcome of a stored row is `skipped`. Many rows are a
    /// statement each. Above READ COMMITTED such a row is a serialization failure (40001). A burnt sequence value is as for any
    /// ON CONFLICT.
    public func doSelect() -> Self { with { $0.restrain(.select, "doSelect()") } }

    /// Tries an UPDATE first, in the same statement, and inserts only what it did not find. An INSERT takes a value of each
    /// sequence before it finds the conflict, so a hot table with an int4 sequence runs out of numbers though it hardly grows; an
    /// UPDATE takes none. It stays atomic: a row that came into being meanwhile is updated by ON CONFLICT.
    ///
    /// SQL: `WITH upsert_updated AS (UPDATE "t" SET ... FROM (...) AS excluded(...) WHERE "t"."key" = excluded."key" RETURNING ...)
    /// INSERT INTO ... SELECT ... WHERE NOT EXISTS (SELECT FROM upsert_updated) ON CONFLICT ... DO UPDATE ...`
    ///
    /// BEFORE INSERT triggers do not fire for rows that are updated, and so do not show in `excluded`. Nor do defaults: `excluded` of
    /// a column that is not sent, as an identity column or one that a row lacks, is an error, before anything is sent. (In SQL of your
    /// own it is the server's, 42703.) Rows of a batch are locked
    /// in the order in which the UPDATE comes to them. Of many rows it cannot be asked what became of each. Rows of tables that
    /// inherit from it are left alone, as ON CONFLICT does; but a view shows what it shows. That it is one is learnt when the server
    /// refuses the statement, which is then made anew; before the first joins a pipeline, or in a transaction:
    /// ``Postgres/PostgresExecutor/prepareOutcomes(of:)``.
    public func updateFirst() -> Self { with { $0.updatesFirst = true } }

    /// Overwrites these columns only, those given to `set`, and updated-at columns. Of several the last one counts.
    ///
    /// SQL: `DO UPDATE SET "hits" = EXCLUDED."hits"`
    public func update(only columns: PartialKeyPath<Row>...) -> Self {
        with {
            $0.action = .update
            $0.only = indices(columns, &$0)
        }
    }

    /// Overwrites all columns but these, unless they are given to `set`. An updated-at column among them is still set on insert.
    public func update(except columns: PartialKeyPath<Row>...) -> Self {
        with {
            $0.action = .update
            $0.except += indices(columns, &$0)
        }
    }

    /// What to overwrite a column with; of several for one column the last one counts.
    ///
    /// ```swift
    /// Upsert(rows).set(\.hits) { $0.existing.hits + $0.excluded.hits }
    /// // DO UPDATE SET "hits" = "page_stats"."hits" + EXCLUDED."hits"
    /// ```
    public func set<Value>(
        _ column: any KeyPath<Row, Value> & Sendable, _ expression: (UpsertConflict<Row>) -> UpsertExpression<Value>
    ) -> Self {
        let fragment = expression(UpsertConflict()).fragment
        return with { shape in
            shape.action = .update
            for index in indices([column], &shape) { shape.assignments.append((index, fragment)) }
            if let failure = fragment.failure { shape.fail(failure) }
        }
    }

    /// Overwrites a column with a constant, sent as a parameter. On insert the row's own value is used.
    ///
    /// SQL: `DO UPDATE SET "hits" = $3`
    public func set<Value: PostgresEncodable>(_ column: any KeyPath<Row, Value> & Sendable, to value: Value) -> Self {
        set(column) { _ in .value(value) }
    }

    /// Makes it an updated-at column: never sent, `now()` on insert and on update.
    ///
    /// SQL: `INSERT INTO ... VALUES ($1, now()) ... DO UPDATE SET "fetched_at" = now()`
    public func touch(_ columns: PartialKeyPath<Row>...) -> Self {
        with { $0.touched += indices(columns, &$0) }
    }

    /// Updated-at columns are set to `now()` in rows that change otherwise, and stay as they are in others. Those are written all
    /// the same: see ``ifChanged()``, which leaves them alone. Without an updated-at column it is an error.
    ///
    /// SQL: `"fetched_at" = CASE WHEN "t"."hits" IS DISTINCT FROM EXCLUDED."hits" THEN now() ELSE "t"."fetched_at" END`
    public func touchOnlyChanged() -> Self { with { $0.touchesOnlyChanged = true } }

    /// What becomes of values for identity columns, which are then sent.
    ///
    /// SQL: `INSERT INTO "t" ("id", "n") OVERRIDING SYSTEM VALUE VALUES ($1, $2)`
    public func overriding(_ overriding: UpsertOverriding) -> Self { with { $0.overriding = overriding } }

    /// Overwrites only where this is true. A row where it is not is locked all the same.
    ///
    /// ```swift
    /// Upsert(rows).where { $0.excluded.hits > $0.existing.hits }
    /// // DO UPDATE SET ... WHERE EXCLUDED."hits" > "page_stats"."hits"
    /// ```
    public func `where`(_ condition: (UpsertConflict<Row>) -> UpsertExpression<Bool>) -> Self {
        let fragment = condition(UpsertConflict()).fragment
        return with {
            if let earlier = $0.filter {
                $0.filter = .infix(earlier, "AND", fragment)
            } else {
                $0.filter = fragment
            }
            if let failure = fragment.failure { $0.fail(failure) }
        }
    }

    /// Overwrites only rows that would change; updated-at columns do not count. An equal row is still locked, which writes to
    /// the log, but it is not rewritten.
    ///
    /// SQL: `DO UPDATE SET ... WHERE "page_stats"."hits" IS DISTINCT FROM EXCLUDED."hits"`
    public func ifChanged() -> Self { with { $0.onlyIfChanged = true } }
}
