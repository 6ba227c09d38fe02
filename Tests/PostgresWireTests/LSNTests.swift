import PostgresWire
import TestSupport
import Testing

struct LSNTests {
    @Test(
        "is read and printed as PostgreSQL's pg_lsn",
        arguments: [
            ("0/0", 0), ("0/1", 1), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", UInt64.max),
            ("1/0", 0x1_0000_0000), ("0/FFFFFFFF", 0xFFFF_FFFF),
        ] as [(String, UInt64)]
    )
    func textForm(text: String, value: UInt64) {
        #expect(LSN(text) == LSN(rawValue: value))
        #expect(LSN(rawValue: value).description == text)
    }

    @Test("lower case and leading zeros are read, too")
    func lenient() {
        #expect(LSN("ab/cd") == LSN(rawValue: 0xAB_0000_00CD))
        #expect(LSN("000000AB/000000CD") == LSN(rawValue: 0xAB_0000_00CD))
    }

    @Test(
        "what pg_lsn refuses is refused",
        arguments: [
            "", "/", "0", "0/", "/0", "0/0/0", "0 /0", " 0/0", "0/0 ", "G/0", "0/G", "100000000/0", "0/100000000",
            "-1/0",
            "-0/0", "+1/0", "0/+1", "000000001/0", "0/000000001", "0x1/0",
        ]
    )
    func malformed(text: String) {
        #expect(LSN(text) == nil)
    }

    @Test("positions compare as numbers, and not as texts")
    func comparison() throws {
        let ascending = try ["0/9", "0/10", "0/FFFFFFFF", "1/0", "9/0", "10/0"].map { try #require(LSN($0)) }
        #expect(ascending.sorted() == ascending)
        #expect(Set(ascending).count == ascending.count)
    }

    @Test("the distance is never negative")
    func distance() {
        let (early, late) = (LSN(rawValue: 100), LSN(rawValue: 0x1_0000_0000))
        #expect(late.bytes(since: early) == 0x1_0000_0000 - 100)
        #expect(early.bytes(since: late) == 0)
        #expect(early.bytes(since: early) == 0)
    }

    @Test("every position survives being printed and read")
    func roundTrip() {
        var random = SeededGenerator()
        for _ in 0..<10_000 {
            let lsn = LSN(rawValue: random.next() >> UInt64.random(in: 0..<64, using: &random))
            #expect(LSN(lsn.description) == lsn, "seed \(random.seed)")
        }
    }
}
