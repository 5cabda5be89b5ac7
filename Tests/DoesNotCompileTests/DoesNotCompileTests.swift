import Testing

/// What must not compile does not, and for the reason that is meant. Each file of `Snippets` is given to the compiler, with the modules
/// that this test is linked with; `// error: ...` announces the error of the next line, and any other error fails the test. So the right
/// calls beside the wrong ones show that it is not everything that fails.
@Suite(.serialized, .enabled(if: Compiler.path != nil, "there is no swiftc in PATH"))
struct DoesNotCompileTests {
    private func check(_ name: String, wrongLines: Int) async throws {
        let snippet = try Snippet(name)
        // A file that lost its comments would pass.
        #expect(snippet.expected.count == wrongLines)
        for complaint in snippet.complaints(about: try await Compiler.errors(in: name)) { Issue.record("\(complaint)") }
    }

    @Test func u1ColumnsOfAnotherTable() async throws { try await check("Columns", wrongLines: 17) }

    @Test func u7UpdatesByAnExclusionConstraint() async throws { try await check("Exclusion", wrongLines: 13) }

    @Test func u14ValuesOfAnotherType() async throws { try await check("Values", wrongLines: 15) }

    @Test func rowsOfAnotherTable() async throws { try await check("Rows", wrongLines: 15) }

    @Test func textsThatAreNoLiterals() async throws { try await check("Queries", wrongLines: 7) }

    @Test func columnsOfAnotherTypeInRowsOfAQuery() async throws { try await check("QueryRows", wrongLines: 12) }

    @Test func errorsOfAnotherType() async throws { try await check("Errors", wrongLines: 2) }
}
