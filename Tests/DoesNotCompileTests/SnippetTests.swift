import Testing

/// What these tests would say of a snippet, without the compiler.
@Suite struct SnippetTests {
    private let snippet = Snippet("Pages", text: "right()\n    // error: no member 'b'\n    wrong.b\nright()\n")

    private func complaints(_ output: String) -> [String] {
        snippet.complaints(about: output.split(separator: "\n").compactMap { CompilerError($0) })
    }

    @Test func theAnnouncedErrorIsWanted() {
        #expect(snippet.expected == [3: "no member 'b'"])
        #expect(complaints("/x/Pages.swift:3:7: error: 'A' has no member 'b'\n/x/A.swift:9:1: note: here") == [])
    }

    @Test func aWrongLineThatCompilesIsTold() {
        #expect(complaints("") == ["Pages.swift:3 compiles, instead of \"no member 'b'\""])
    }

    @Test func anotherErrorOfTheLineIsTold() {
        #expect(
            complaints("/x/Pages.swift:3:7: error: cannot find 'wrong'")
                == ["Pages.swift:3: not \"no member 'b'\", but [\"cannot find \\'wrong\\'\"]"])
    }

    @Test func anErrorOfARightLineIsTold() {
        let wanted = "/x/Pages.swift:3:7: error: no member 'b'\n"
        #expect(complaints(wanted + "/x/Pages.swift:1:1: error: what?") == ["Pages.swift:1: what?"])
        #expect(complaints(wanted + "/x/Tables.swift:3:1: error: what?") == ["Tables.swift:3: what?"])
        #expect(complaints(wanted + "<unknown>:0: error: missing required module") != [])
        #expect(complaints(wanted + "error: emit-module command failed") != [])
    }
}
