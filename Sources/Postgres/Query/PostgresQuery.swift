/// SQL text with its parameters, written as a string literal. Every `\(value)` becomes a parameter; values never enter the text.
///
/// ```swift
/// let query: PostgresQuery = "SELECT name FROM users WHERE id = \(id) AND age > \(18)"
/// // SELECT name FROM users WHERE id = $1 AND age > $2
/// ```
/// `\(identifier: name)` quotes a name, `\(list: values)` makes `$1, $2, $3`, `\(query)` puts in another query as a fragment and
/// renumbers it, and `\(unsafeSQL: text)` is the only way to put in text that is not a literal.
public struct PostgresQuery: Sendable {
    // Never changed after `seal`: an encoder hands it over and forgets it.
    @usableFromInline nonisolated(unsafe) let storage: QueryStorage

    @inlinable init(storage: QueryStorage) { self.storage = storage }

    /// The number of parameters.
    public var parameterCount: Int { storage.header.parameters }

    /// The SQL text as it is sent, `$1` for the first parameter.
    public var sql: String {
        let header = storage.header
        if let sql = header.finishedSQL { return sql }
        var sql = ""
        var number = 0
        for index in 0..<header.segments {
            let segment = storage.segmentBase[index]
            switch segment.kind {
            case .literal:
                sql += String(decoding: PostgresQuery.literal(segment), as: UTF8.self)
            case .parameter:
                number += 1
                sql += "$\(number)"
            case .identifier: sql += Identifier.quoted(header.texts[Int(bitPattern: segment.address)])
            case .raw: sql += header.texts[Int(bitPattern: segment.address)]
            case .text: break
            }
        }
        return sql
    }

    /// How many bytes its parameters have.
    public var byteCount: Int { storage.sealed.pointee.bytes }

    /// Why it cannot be sent, its text apart: a value that could not be encoded, too many parameters or bytes. Nil when it can.
    public var error: PostgresError? { problem }

    /// What can be told to be wrong with it, its text apart, before anything is sent.
    var problem: PostgresError? {
        let header = storage.sealed
        if let failure = header.pointee.failure { return failure.naming(sql) }
        if header.pointee.parameters > Int(UInt16.max) {
            return PostgresError(
                code: .invalidArgument, message: "\(header.pointee.parameters) parameters; the protocol takes 65,535",
                hint: "pass an array: = ANY(\\(values)), or unnest")
        }
        if header.pointee.bytes > 0x3FFF_0000 {
            return PostgresError(
                code: .invalidArgument,
                message:
                    "the parameters have \(header.pointee.bytes) bytes; the server takes less than 1 GiB in a message")
        }
        return nil
    }

    static func literal(_ segment: QuerySegment) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: segment.address), count: Int(segment.word))
    }
}

extension PostgresQuery: ExpressibleByStringInterpolation {
    @inlinable
    public init(stringLiteral value: StaticString) {
        var encoder = PostgresEncoder(segments: 1, bytes: 0)
        encoder.appendLiteral(value)
        storage = encoder.seal()
    }

    @inlinable
    public init(stringInterpolation: StringInterpolation) {
        storage = stringInterpolation.encoder.seal()
    }

    /// What an interpolated literal may hold; see ``PostgresQuery``.
    public struct StringInterpolation: StringInterpolationProtocol {
        @usableFromInline var encoder: PostgresEncoder

        @inlinable
        public init(literalCapacity: Int, interpolationCount: Int) {
            encoder = PostgresEncoder(segments: interpolationCount &* 2 &+ 1, bytes: interpolationCount &* 32)
        }

        @inlinable @inline(__always)
        public mutating func appendLiteral(_ literal: StaticString) { encoder.appendLiteral(literal) }

        /// A parameter.
        @inlinable @inline(__always)
        public mutating func appendInterpolation<Value: PostgresEncodable>(_ value: Value) {
            encoder.appendParameter(value)
        }

        // Not redundant: without it the compiler warns that an optional is interpolated.
        /// A parameter that may be NULL.
        @inlinable @inline(__always)
        public mutating func appendInterpolation<Value: PostgresEncodable>(_ value: Value?) {
            encoder.appendParameter(value)
        }

        /// Another query, with its parameters, as a part of this one.
        public mutating func appendInterpolation(_ fragment: PostgresQuery) { encoder.append(fragment) }

        /// A name, quoted. An empty name, a NUL or more than 63 bytes of UTF-8, which the server would cut off silently, is
        /// an error when the query is run.
        public mutating func appendInterpolation(identifier name: String) {
            if let error = Identifier.check(name) { encoder.fail(error) }
            encoder.appendText(.identifier, name)
        }

        /// SQL text as it is. Never pass anything that came from outside the program.
        public mutating func appendInterpolation(unsafeSQL sql: String) { encoder.appendText(.raw, sql) }

        /// `$1, $2, $3`: one parameter a value; NULL when there is none. Prefer `= ANY(\(array))`, which is one text for
        /// every length.
        public mutating func appendInterpolation<Values: Collection>(list values: Values)
        where Values.Element: PostgresEncodable {
            if values.isEmpty { encoder.appendLiteral("NULL") }
            var isFirst = true
            for value in values {
                if !isFirst { encoder.appendLiteral(", ") }
                isFirst = false
                encoder.appendParameter(value)
            }
        }

        /// Fragments with a separator between them.
        public mutating func appendInterpolation(list fragments: [PostgresQuery], separator: PostgresQuery = ", ") {
            for (index, fragment) in fragments.enumerated() {
                if index > 0 { encoder.append(separator) }
                encoder.append(fragment)
            }
        }
    }
}

extension PostgresEncoder {
    @inlinable @inline(__always)
    mutating func appendLiteral(_ literal: StaticString) {
        if literal.hasPointerRepresentation {
            let count = literal.utf8CodeUnitCount
            if count > 0 {
                appendSegment(.literal, UInt(bitPattern: literal.utf8Start), UInt32(truncatingIfNeeded: count))
            }
        } else {
            appendScalar(literal)
        }
    }

    @usableFromInline @inline(never)
    mutating func appendScalar(_ literal: StaticString) { appendText(.raw, literal.description) }

    mutating func append(_ fragment: PostgresQuery) {
        let storage = fragment.storage
        let header = storage.header
        guard header.finishedSQL == nil else {
            return fail(
                PostgresError(
                    code: .invalidArgument, message: "a query made of a finished text cannot be part of another query"))
        }
        let texts = extras?.texts ?? []
        let shift = UInt(bitPattern: texts.count)
        if !header.texts.isEmpty {
            extras = QueryExtras(
                texts: texts + header.texts, finishedSQL: extras?.finishedSQL, failure: extras?.failure)
        }
        for index in 0..<header.segments {
            let segment = storage.segmentBase[index]
            switch segment.kind {
            case .identifier, .raw:
                appendSegment(segment.kind, segment.address &+ shift, segment.word)
                for byte in header.texts[Int(bitPattern: segment.address)].utf8 { mix(UInt64(byte)) }
            case .literal, .parameter, .text: appendSegment(segment.kind, segment.address, segment.word)
            }
        }
        parameters &+= header.parameters
        textParameters &+= header.textParameters
        write(storage.cells)
        if let error = header.failure { fail(error) }
    }
}
