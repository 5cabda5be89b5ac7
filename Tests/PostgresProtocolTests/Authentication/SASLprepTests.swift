import Testing

@testable import PostgresProtocol

@Suite struct SASLprepTests {
    @Test(arguments: [
        // RFC 4013, section 3.
        ("I\u{AD}X", "IX"), ("user", "user"), ("USER", "USER"), ("\u{AA}", "a"), ("\u{2168}", "IX"),
        // PostgreSQL's own tests of its SCRAM passwords.
        ("IX", "IX"), ("foo\u{A0}bar", "foo bar"), ("a\u{2000}b", "a b"),
        // Mapped to a space by PostgreSQL, though the RFC has it in table B.1 as well.
        ("a\u{200B}b", "a b"),
        // ASCII is left alone, controls and all.
        ("", ""), ("a\u{7}b", "a\u{7}b"),
        // Composition, order of combining characters, Hangul, ligatures, wide and mathematical letters.
        ("A\u{30A}", "\u{C5}"), ("\u{212B}", "\u{C5}"), ("a\u{301}\u{323}", "\u{1EA1}\u{301}"),
        ("\u{1E9B}\u{323}", "\u{1E69}"), ("\u{1112}\u{1161}\u{11AB}", "\u{D55C}"), ("\u{D55C}", "\u{D55C}"),
        ("\u{FB01}", "fi"), ("\u{FF21}\u{FF5A}", "Az"), ("\u{1D400}\u{1D7CE}", "A0"), ("\u{3394}", "THz"),
        ("\u{958}", "\u{915}\u{93C}"), ("\u{F900}", "\u{8C48}"), ("\u{FDFA}x", nil),
        // Right to left throughout.
        ("\u{5D0}1\u{5D1}", "\u{5D0}1\u{5D1}"), ("\u{FB4F}", "\u{5D0}\u{5DC}"),
        // Mixed directions; a digit at the end (RFC 4013: U+0627 U+0031); prohibited; unassigned in 3.2; nothing left.
        ("\u{5D0}a\u{5D1}", nil), ("\u{627}1", nil), ("1\u{627}", nil), ("ä\u{7}", nil), ("ä\u{E000}", nil),
        ("ä\u{FFFD}", nil), ("ä\u{85}", nil), ("\u{221}", nil), ("\u{1F600}", nil), ("\u{AD}", nil),
    ])
    func preparesAsPostgreSQLDoes(password: String, prepared: String?) {
        // Compared by scalars: `String ==` holds composed and decomposed text equal.
        #expect(SASLprep.prepared(password)?.unicodeScalars.map(\.value) == prepared?.unicodeScalars.map(\.value))
    }

    @Test func aPasswordThatCannotBePreparedIsTakenAsItIs() {
        #expect(SASLprep.prepare(Password("ä\u{7}")) == Array("ä\u{7}".utf8))
        #expect(SASLprep.prepare(Password("I\u{AD}X")) == Array("IX".utf8))
        #expect(SASLprep.prepare(Password("\u{AD}")) == [0xC2, 0xAD])
    }

    /// Every Hangul syllable is taken apart and put together again.
    @Test func everyHangulSyllableSurvives() {
        for value in stride(from: UInt32(0xAC00), through: 0xD7A3, by: 13) {
            guard let scalar = Unicode.Scalar(value) else { continue }
            #expect(SASLprep.prepared(String(scalar))?.unicodeScalars.map(\.value) == [value])
        }
    }

    @Test func anythingIsPreparedInBoundedTime() {
        var generator = SeededGenerator(seed: 0x5A51_2026)
        for _ in 0..<500 {
            var text = ""
            for _ in 0..<20 {
                if let scalar = Unicode.Scalar(UInt32.random(in: 0..<0x11_0000, using: &generator)) {
                    text.unicodeScalars.append(scalar)
                }
            }
            #expect(!SASLprep.prepare(Password(text)).isEmpty)
        }
    }
}
