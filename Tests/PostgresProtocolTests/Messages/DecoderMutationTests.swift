import PostgresProtocol
import Testing

@Suite struct DecoderMutationTests {
    /// Any bytes are decoded or refused. A trap would end the test process, so reaching the end is the result; that both
    /// outcomes are frequent shows that the mutations get past the first check.
    @Test func mutatedMessagesNeverTrap() {
        let seed: UInt64 = 0x5EED_2026
        var generator = SeededGenerator(seed: seed)
        var (decoded, refused) = (0, 0)
        for _ in 0..<60_000 {
            let check = decoderChecks[Int.random(in: 0..<decoderChecks.count, using: &generator)]
            var body = check.body
            for _ in 0...Int.random(in: 0...2, using: &generator) { mutate(&body, using: &generator) }
            // Sometimes the body of another type.
            let tag =
                Int.random(in: 0..<8, using: &generator) == 0
                ? decoderChecks[Int.random(in: 0..<decoderChecks.count, using: &generator)].tag : check.tag
            do {
                try DecoderCheck.decode(tag, body) { message in
                    if case .dataRow(let row) = message {
                        // Every column must lie inside the row.
                        #expect(row.reduce(0) { $0 + 4 + ($1?.count ?? 0) } == row.cells.count)
                    }
                }
                decoded += 1
            } catch {
                refused += 1
            }
        }
        #expect(decoded > 5_000, "seed \(seed)")
        #expect(refused > 5_000, "seed \(seed)")
    }

    private func mutate(_ body: inout [UInt8], using generator: inout SeededGenerator) {
        let position = Int.random(in: 0...body.count, using: &generator)
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: body.insert(UInt8.random(in: 0...255, using: &generator), at: position)
        case 1: body.removeLast(body.count - position)
        case 2 where position < body.count: body[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 3 where position < body.count:
            // The edges of the integers.
            body[position] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][Int.random(in: 0..<6, using: &generator)]
        default: body.insert(contentsOf: body.suffix(4), at: position)
        }
    }
}
