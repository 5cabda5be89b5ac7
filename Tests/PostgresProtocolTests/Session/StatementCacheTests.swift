import PostgresProtocol
import Testing

struct StatementCacheTests {
    private func key(_ sql: String, _ types: [UInt32] = []) -> StatementKey {
        StatementKey(sql: Array(sql.utf8), parameterTypes: types)
    }

    @Test func `a statement is found by its text and its types`() {
        var cache = StatementCache(capacity: 10)
        let statement = cache.insert(key("SELECT $1", [23]))
        #expect(cache.statement(for: key("SELECT $1", [23])) === statement)
        #expect(cache.statement(for: key("SELECT $1", [20])) == nil)
        #expect(cache.statement(for: key("SELECT $2", [23])) == nil)
        #expect(statement.state == .pending)
    }

    @Test func `texts are compared as bytes, not as characters`() {
        var cache = StatementCache(capacity: 10)
        _ = cache.insert(key("SELECT 'e\u{301}'"))
        #expect(cache.statement(for: key("SELECT '\u{e9}'")) == nil)
    }

    @Test func `the statement used longest ago is evicted, and its name closed once`() {
        var cache = StatementCache(capacity: 2)
        let a = cache.insert(key("a"))
        let b = cache.insert(key("b"))
        _ = cache.statement(for: key("a"))
        let c = cache.insert(key("c"))
        #expect(b.state == .gone)
        #expect(a.state == .pending && c.state == .pending)
        #expect(cache.takeEvicted() == [b.name])
        #expect(cache.takeEvicted().isEmpty)
        #expect(cache.count == 2)
        cache.touch(a)
        _ = cache.insert(key("d"))
        #expect(cache.takeEvicted() == [c.name])
    }

    @Test func `a statement that the server does not have is forgotten and not closed`() {
        var cache = StatementCache(capacity: 2)
        let a = cache.insert(key("a"))
        cache.remove(a)
        #expect(a.state == .gone)
        #expect(cache.statement(for: key("a")) == nil)
        #expect(cache.takeEvicted().isEmpty)
        cache.evict(a)
        #expect(cache.takeEvicted().isEmpty)
    }

    @Test func `removing an old statement leaves its successor alone`() {
        var cache = StatementCache(capacity: 2)
        let old = cache.insert(key("a"))
        cache.remove(old)
        let new = cache.insert(key("a"))
        cache.remove(old)
        #expect(cache.statement(for: key("a")) === new)
        #expect(new.name != old.name)
    }

    @Test func `a server that forgot its statements is asked for none of those it confirmed`() {
        var cache = StatementCache(capacity: 3)
        let ready = cache.insert(key("a"))
        ready.state = .ready
        let pending = cache.insert(key("b"))
        cache.evictAll()
        #expect(ready.state == .gone)
        #expect(cache.statement(for: key("a")) == nil)
        #expect(cache.statement(for: key("b")) === pending)
        #expect(cache.takeEvicted() == [ready.name])
    }

    @Test func `no name is used twice`() {
        var cache = StatementCache(capacity: 3)
        let names = (0..<100).map { cache.insert(key("\($0)")).name }
        #expect(Set(names).count == 100)
        #expect(cache.count == 3)
        #expect(cache.takeEvicted() == Array(names.dropLast(3)))
    }

    @Test func `names that could not be closed come back`() {
        var cache = StatementCache(capacity: 1)
        let a = cache.insert(key("a"))
        _ = cache.insert(key("b"))
        let taken = cache.takeEvicted()
        cache.putBack(taken)
        #expect(cache.takeEvicted() == [a.name])
    }
}
