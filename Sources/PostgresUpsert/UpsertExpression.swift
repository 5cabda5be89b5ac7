public import Postgres

/// A SQL expression over the stored row and the row proposed for insertion, of a column's type.
///
/// ```swift
/// Upsert(rows).set(\.hits) { $0.existing.hits + $0.excluded.hits }
/// // DO UPDATE SET "hits" = "page_stats"."hits" + EXCLUDED."hits"
/// ```
public struct UpsertExpression<Value>: Sendable {
    let fragment: UpsertFragment

    init(_ fragment: UpsertFragment) { self.fragment = fragment }

    /// A constant, sent as a parameter.
    public static func value(_ value: Value) -> Self where Value: PostgresEncodable {
        Self(UpsertFragment(value: value))
    }

    /// SQL of your own: `.sql("\($0.existing.hits) * 2 + length(\($0.excluded.path))")`.
    public static func sql(_ fragment: UpsertFragment) -> Self { Self(fragment) }

    /// `now()`: the time when the transaction began.
    public static var now: Self { Self(UpsertFragment(text: "now()")) }

    /// `DEFAULT`: the column's default; alone only, not inside another expression.
    public static var `default`: Self { Self(UpsertFragment(text: "DEFAULT")) }

    /// `GREATEST(...)`: the largest of those that are not NULL.
    public static func greatest(_ first: Self, _ others: Self...) -> Self {
        Self(.call("GREATEST", [first.fragment] + others.map(\.fragment)))
    }

    /// `LEAST(...)`: the smallest of those that are not NULL.
    public static func least(_ first: Self, _ others: Self...) -> Self {
        Self(.call("LEAST", [first.fragment] + others.map(\.fragment)))
    }

    /// `COALESCE(...)`: the first that is not NULL.
    public static func coalesce(_ first: Self, _ others: Self...) -> Self {
        Self(.call("COALESCE", [first.fragment] + others.map(\.fragment)))
    }

    /// `left || right` on jsonb: the keys of both objects, those of `other` where both have one.
    ///
    /// SQL: `"t"."settings" || EXCLUDED."settings"`
    public func merging(_ other: Self) -> Self { Self(.infix(fragment, "||", other.fragment)) }

    /// `left || right` on arrays and text: `other` behind this.
    ///
    /// SQL: `"t"."tags" || EXCLUDED."tags"`
    public func appending(_ other: Self) -> Self { Self(.infix(fragment, "||", other.fragment)) }
}

/// A Swift type whose column PostgreSQL can calculate with.
public protocol UpsertArithmetic {}

extension UpsertExpression where Value: UpsertArithmetic {
    public static func + (left: Self, right: Self) -> Self { Self(.infix(left.fragment, "+", right.fragment)) }
    public static func - (left: Self, right: Self) -> Self { Self(.infix(left.fragment, "-", right.fragment)) }
    public static func * (left: Self, right: Self) -> Self { Self(.infix(left.fragment, "*", right.fragment)) }
    public static func / (left: Self, right: Self) -> Self { Self(.infix(left.fragment, "/", right.fragment)) }
}

/// Lets `$0.existing.hits + 1` send 1 as a parameter.
extension UpsertExpression: ExpressibleByIntegerLiteral
where Value: PostgresEncodable & ExpressibleByIntegerLiteral {
    public init(integerLiteral value: Value.IntegerLiteralType) { self = .value(Value(integerLiteral: value)) }
}

extension UpsertExpression {
    public static func > (left: Self, right: Self) -> UpsertExpression<Bool> {
        UpsertExpression<Bool>(.infix(left.fragment, ">", right.fragment))
    }
    public static func >= (left: Self, right: Self) -> UpsertExpression<Bool> {
        UpsertExpression<Bool>(.infix(left.fragment, ">=", right.fragment))
    }
    public static func < (left: Self, right: Self) -> UpsertExpression<Bool> {
        UpsertExpression<Bool>(.infix(left.fragment, "<", right.fragment))
    }
    public static func <= (left: Self, right: Self) -> UpsertExpression<Bool> {
        UpsertExpression<Bool>(.infix(left.fragment, "<=", right.fragment))
    }
    /// `IS NOT DISTINCT FROM`: unlike SQL's `=`, true for two NULLs.
    public static func == (left: Self, right: Self) -> UpsertExpression<Bool> {
        UpsertExpression<Bool>(.infix(left.fragment, "IS NOT DISTINCT FROM", right.fragment))
    }
    /// `IS DISTINCT FROM`: unlike SQL's `<>`, true for NULL and a value.
    public static func != (left: Self, right: Self) -> UpsertExpression<Bool> {
        UpsertExpression<Bool>(.infix(left.fragment, "IS DISTINCT FROM", right.fragment))
    }
    /// `IS NULL`
    public var isNull: UpsertExpression<Bool> {
        var test = UpsertFragment(text: "")
        test.append(operand: fragment)
        test.append(text: " IS NULL")
        test.isCompound = true
        return UpsertExpression<Bool>(test)
    }
}

extension UpsertExpression where Value == Bool {
    public static func && (left: Self, right: Self) -> Self { Self(.infix(left.fragment, "AND", right.fragment)) }
    public static func || (left: Self, right: Self) -> Self { Self(.infix(left.fragment, "OR", right.fragment)) }
    public static prefix func ! (operand: Self) -> Self {
        var negation = UpsertFragment.call("NOT ", [operand.fragment])
        negation.isCompound = true
        return Self(negation)
    }
}

/// The two rows of a conflict, as `set` and `where` see them.
public struct UpsertConflict<Row: PostgresTable>: Sendable {
    /// The stored row.
    public var existing: UpsertSide<Row> { UpsertSide(name: Row.table.layout.existing, isExcluded: false) }
    /// The row proposed for insertion, after BEFORE INSERT triggers: `EXCLUDED`.
    public var excluded: UpsertSide<Row> { UpsertSide(name: "EXCLUDED", isExcluded: true) }
}

/// The columns of one of the two rows in conflict.
@dynamicMemberLookup
public struct UpsertSide<Row: PostgresTable>: Sendable {
    let name: String
    let isExcluded: Bool

    /// The column that holds a property.
    public subscript<Value>(dynamicMember path: any KeyPath<Row, Value> & Sendable) -> UpsertExpression<Value> {
        let layout = Row.table.layout
        guard let index = layout.index(of: path) else {
            return UpsertExpression(UpsertFragment(failure: layout.notAColumn(path)))
        }
        var fragment = UpsertFragment(text: "\(name).\(layout.quotedColumns[index])")
        if isExcluded { fragment.excludedColumns = [index] }
        return UpsertExpression(fragment)
    }
}

extension Int: UpsertArithmetic {}
extension Int16: UpsertArithmetic {}
extension Int32: UpsertArithmetic {}
extension Int64: UpsertArithmetic {}
extension Float: UpsertArithmetic {}
extension Double: UpsertArithmetic {}
extension Optional: UpsertArithmetic where Wrapped: UpsertArithmetic {}
