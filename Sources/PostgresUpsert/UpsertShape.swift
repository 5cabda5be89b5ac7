import Postgres

/// All of an upsert but its rows. Columns are numbers in the table's declaration.
struct UpsertShape: Sendable {
    enum Target: Sendable {
        /// The columns declared as primary key.
        case primaryKey
        case columns([Int], predicate: UpsertFragment?)
        /// `columns` is what the user says that the constraint consists of; empty when unknown.
        case constraint(String, columns: [Int])
        /// Index expressions, and the predicate of a partial index.
        case index(UpsertFragment, predicate: UpsertFragment?)
        /// Any unique or exclusion constraint: DO NOTHING only.
        case any
        /// DO NOTHING only: `ExclusionUpsert` has no other action.
        case exclusion(String)
    }

    enum Action: Sendable {
        case nothing
        case update
        /// The stored row is answered, and left alone.
        case select
    }

    var target = Target.primaryKey
    var action = Action.update
    /// The modifiers that leave stored rows alone, in the order in which they were called.
    var restraints: [String] = []
    var only: [Int]?
    var except: [Int] = []
    var assignments: [(column: Int, fragment: UpsertFragment)] = []
    var touched: [Int] = []
    var filter: UpsertFragment?
    var onlyIfChanged = false
    /// Whether updated-at columns stay as they are in rows that do not change otherwise.
    var touchesOnlyChanged = false
    /// Whether an upsert without anything to update does nothing; otherwise it is an error.
    var mayDoNothing = false
    /// Whether an UPDATE is tried first.
    var updatesFirst = false
    /// What becomes of a row whose conflict key holds NULL.
    var nullKeys = NullKeys.sent
    var overriding: UpsertOverriding?
    var wantsOutcomes = false
    var returning: [Int] = []
    /// Whether the columns returned are also wanted as they were before.
    var wantsOldRow = false
    /// The first mistake made in building it, thrown when it is run.
    var failure: PostgresError?

    mutating func fail(_ error: PostgresError) { if failure == nil { failure = error } }

    var returnsRows: Bool { wantsOutcomes || !returning.isEmpty }
    /// How many columns of the table come back.
    var returnedCount: Int { wantsOldRow ? returning.count * 2 : returning.count }
    /// Whether it matters how inserted rows are told from updated ones.
    var needsEvidence: Bool { wantsOutcomes && (action == .update || wantsOldRow) }
    /// Whether a row may be neither inserted nor updated, if that is done to it.
    func mayLeaveRowsOut(_ action: Action) -> Bool { action == .nothing || filter != nil || onlyIfChanged }
}

/// The parts of a shape, resolved against the table: what is sent, what is the key, what is overwritten.
struct ResolvedUpsert: Sendable {
    enum Assignment: Sendable {
        /// `EXCLUDED."column"`
        case excluded
        case now
        case fragment(UpsertFragment)
    }

    var action: UpsertShape.Action
    /// The columns of a parameter each.
    var sent: [Int] = []
    /// The columns that get `now()` on insert.
    var stamped: [Int] = []
    /// The columns by which rows conflict; nil when only the server knows.
    var conflictKey: [Int]?
    /// The columns that rows are sorted by: the conflict key, or the primary key where that is unknown.
    var sortKey: [Int] = []
    var assignments: [(column: Int, value: Assignment)] = []

    /// Whether nothing but times is overwritten.
    var onlyTouches: Bool { assignments.allSatisfy { if case .now = $0.value { true } else { false } } }
}

extension UpsertShape {
    /// The columns by which rows conflict; nil when only the server knows.
    func conflictKey<Row>(_ layout: TableLayout<Row>) -> [Int]? {
        let key: [Int] =
            switch target {
            case .primaryKey: layout.columns.indices.filter { layout.columns[$0].options.contains(.primaryKey) }
            case .columns(let key, _), .constraint(_, let key): key
            case .index, .exclusion, .any: []
            }
        return key.isEmpty ? nil : key
    }

    /// - Parameter absent: the columns without a value, as in `UpsertForm`.
    func resolve<Row>(_ layout: TableLayout<Row>, absent: UInt64 = 0) throws(PostgresError) -> ResolvedUpsert {
        if let failure = layout.failure ?? failure { throw failure }
        let columns = layout.columns
        let primaryKey = columns.indices.filter { columns[$0].options.contains(.primaryKey) }
        let lacking = layout.fieldColumns.enumerated().filter { absent & 1 << UInt64($0.offset) != 0 }.map(\.element)
        var resolved = ResolvedUpsert(action: action)
        resolved.conflictKey = conflictKey(layout)

        switch target {
        case .primaryKey:
            guard !primaryKey.isEmpty || action == .nothing else {
                throw .upsert(
                    "table \"\(layout.name)\" has no column declared as .primaryKey",
                    hint: "declare it, or say what rows conflict by: .onConflict(\\.column)")
            }
        case .columns(let key, _):
            guard !key.isEmpty else {
                throw .upsert(
                    "table \"\(layout.name)\": onConflict() without columns",
                    hint: "name the columns, or use .onAnyConflict().doNothing()")
            }
        case .constraint(let name, _):
            if let error = checkIdentifier(name) { throw error }
        case .index: break
        case .exclusion(let name):
            if let error = checkIdentifier(name) { throw error }
        case .any:
            guard action == .nothing else {
                throw .upsert(
                    "table \"\(layout.name)\": an update needs to know by what rows conflict",
                    hint: "use .onConflict(\\.column), or .doNothing()")
            }
        }

        try checkContradictions(layout)
        let conflictKey = resolved.conflictKey ?? []
        let stamps = columns.indices.filter {
            touched.contains($0) || columns[$0].options.contains(.updatedAt) || columns[$0].options.contains(.createdAt)
        }
        for index in columns.indices {
            let options = columns[index].options
            if options.contains(.generated) || lacking.contains(index) { continue }
            if stamps.contains(index) {
                resolved.stamped.append(index)
            } else if !options.contains(.identity) || conflictKey.contains(index) || overriding != nil {
                resolved.sent.append(index)
            }
        }
        for index in conflictKey where !resolved.sent.contains(index) {
            throw .upsert(
                "table \"\(layout.name)\": rows cannot conflict by column \"\(columns[index].name)\", which is never sent"
            )
        }
        if nullKeys != .sent, resolved.conflictKey == nil {
            throw .upsert(
                "table \"\(layout.name)\": rejectingNullKeys() needs to know the key columns",
                hint: "name them: .onConflict(\\.column), or .onConstraint(\"name\", \\.column)")
        }
        try checkSelect(layout, conflictKey: resolved.conflictKey)
        try checkUpdateFirst(layout, conflictKey: resolved.conflictKey)
        guard !resolved.sent.isEmpty else {
            throw .upsert("table \"\(layout.name)\" has no column whose value is sent")
        }
        // A column that rows may lack is no column of a key that all of them are sorted by.
        let sendable = primaryKey.filter { !layout.fieldColumns.contains($0) }
        resolved.sortKey = resolved.conflictKey ?? (sendable.allSatisfy(resolved.sent.contains) ? sendable : [])
        if action == .update {
            resolved.assignments = try assignments(layout, resolved: resolved, primaryKey: primaryKey, lacking: lacking)
            if !lacking.isEmpty, onlyIfChanged || touchesOnlyChanged, resolved.onlyTouches {
                // Of a row without values there is nothing to compare: it changes nothing.
                resolved.assignments = []
            }
            if resolved.assignments.isEmpty { resolved.action = .nothing }
            try checkExcluded(layout, resolved)
        }
        return resolved
    }

    /// What is said of overwriting would be silently ignored where stored rows are left alone, or the other way round.
    private func checkContradictions<Row>(_ layout: TableLayout<Row>) throws(PostgresError) {
        if let restraint = restraints.first {
            let updates: [(String, Bool)] = [
                ("update(only:)", only != nil), ("update(except:)", !except.isEmpty),
                ("set(...)", !assignments.isEmpty),
                ("where(...)", filter != nil), ("ifChanged()", onlyIfChanged),
                ("touchOnlyChanged()", touchesOnlyChanged),
            ]
            let others = restraints.dropFirst() + updates.filter(\.1).map(\.0)
            guard others.isEmpty else {
                throw .upsert(
                    "table \"\(layout.name)\": \(restraint) leaves stored rows as they are, and contradicts"
                        + " \(others.joined(separator: ", "))",
                    hint: "leave out one or the other; what a kept declaration says already cannot be taken back")
            }
        } else if touchesOnlyChanged {
            let isSet = layout.columns.indices.contains { index in
                (touched.contains(index) || layout.columns[index].options.contains(.updatedAt))
                    && !except.contains(index) && !assignments.contains { $0.column == index }
            }
            guard isSet else {
                throw .upsert(
                    "table \"\(layout.name)\": touchOnlyChanged() has no updated-at column that is set to now()",
                    hint: "declare one as .updatedAt, or name it: .touch(\\.column)")
            }
        }
    }

    mutating func restrain(_ action: Action, _ modifier: String) {
        self.action = action
        if !restraints.contains(modifier) { restraints.append(modifier) }
    }

    private func checkSelect<Row>(_ layout: TableLayout<Row>, conflictKey: [Int]?) throws(PostgresError) {
        guard action == .select else { return }
        guard conflictKey != nil else {
            throw .upsert(
                "table \"\(layout.name)\": doSelect() needs to know the key columns",
                hint: "name them: .onConflict(\\.column), or .onConstraint(\"name\", \\.column)")
        }
        guard returnsRows, !wantsOldRow else {
            throw .upsert(
                "table \"\(layout.name)\": doSelect() answers rows as they are stored",
                hint: "ask for them: returning(...), returningRow() or outcomes()")
        }
    }

    private func checkUpdateFirst<Row>(_ layout: TableLayout<Row>, conflictKey: [Int]?) throws(PostgresError) {
        guard updatesFirst else { return }
        let reason: String? =
            switch target {
            case .columns(_, let predicate?) where !predicate.pieces.isEmpty: "a partial index"
            case _ where conflictKey == nil: "a key that only the server knows"
            case _ where action != .update: "an upsert that does not update"
            case _ where wantsOldRow: "old columns"
            default: nil
            }
        if let reason {
            throw .upsert("table \"\(layout.name)\": updateFirst() does not go with \(reason)")
        }
    }

    /// The UPDATE of updateFirst() sees what was sent, where ON CONFLICT proposes a row with its defaults.
    private func checkExcluded<Row>(_ layout: TableLayout<Row>, _ resolved: ResolvedUpsert) throws(PostgresError) {
        guard updatesFirst, resolved.action == .update else { return }
        var used = filter?.excludedColumns ?? []
        for assignment in resolved.assignments {
            if case .fragment(let fragment) = assignment.value { used.formUnion(fragment.excludedColumns) }
        }
        guard let missing = used.sorted().first(where: { !(resolved.sent + resolved.stamped).contains($0) }) else {
            return
        }
        throw .upsert(
            "table \"\(layout.name)\": updateFirst() does not go with `excluded` of column"
                + " \"\(layout.columns[missing].name)\", which is not sent",
            hint: "leave updateFirst() out, or send the column")
    }

    private func assignments<Row>(
        _ layout: TableLayout<Row>, resolved: ResolvedUpsert, primaryKey: [Int], lacking: [Int]
    ) throws(PostgresError) -> [(column: Int, value: ResolvedUpsert.Assignment)] {
        let columns = layout.columns
        let key = primaryKey + (resolved.conflictKey ?? [])
        func reasonToKeep(_ index: Int) -> String? {
            let options = columns[index].options
            if key.contains(index) { return "is part of the key" }
            if options.contains(.identity) { return "is an identity column" }
            if options.contains(.generated) { return "is a generated column" }
            if options.contains(.createdAt) { return "is the time of creation" }
            return nil
        }
        for index in self.assignments.map(\.column) + (only ?? []) + touched {
            if let reason = reasonToKeep(index) {
                throw .upsert(
                    "table \"\(layout.name)\": column \"\(columns[index].name)\" \(reason), and is never overwritten")
            }
        }
        var result: [(column: Int, value: ResolvedUpsert.Assignment)] = []
        for index in columns.indices where reasonToKeep(index) == nil && !lacking.contains(index) {
            if let own = self.assignments.last(where: { $0.column == index }) {
                result.append((index, .fragment(own.fragment)))
            } else if except.contains(index) {
                continue
            } else if touched.contains(index) || columns[index].options.contains(.updatedAt) {
                result.append((index, .now))
            } else if only?.contains(index) ?? true {
                result.append((index, .excluded))
            }
        }
        guard !result.isEmpty || !lacking.isEmpty || mayDoNothing else {
            throw .upsert(
                "table \"\(layout.name)\": the upsert has nothing to update",
                hint: "use .doNothing() to leave rows alone, or .orDoNothing() where it depends on the columns")
        }
        return result
    }
}
