import PostgresWire
import Testing

struct FramingTests {
    @Test("a header is its type and its big-endian length")
    func header() throws {
        let bytes: [UInt8] = [0xFF, 0x51, 0x00, 0x01, 0x02, 0x03]
        let header = try #require(MessageHeader(at: 1, of: bytes))
        #expect(header == MessageHeader(type: 0x51, length: 0x0001_0203))
        #expect(header.totalSize == 0x0001_0204)
        #expect(header.bodySize == 0x0001_01FF)
    }

    @Test("there is no header before its five bytes are there")
    func incompleteHeader() {
        let bytes: [UInt8] = [0x51, 0, 0, 0, 4]
        for count in 0..<5 {
            #expect(MessageHeader(Array(bytes[..<count]).span.bytes, at: 0) == nil)
        }
        #expect(MessageHeader(bytes.span.bytes, at: 0) != nil)
        #expect(MessageHeader(bytes.span.bytes, at: 1) == nil)
        #expect(MessageHeader(bytes.span.bytes, at: 6) == nil)
    }

    @Test("a length with the highest bit set is negative, as for PostgreSQL")
    func negativeLength() {
        let bytes: [UInt8] = [0x51, 0xFF, 0xFF, 0xFF, 0xFF]
        #expect(MessageHeader(bytes.span.bytes, at: 0)?.length == -1)
    }

    @Test("the limits of lengths are PostgreSQL's")
    func lengthLimits() {
        #expect(FrontendMessage.query.lengthLimit == 0x3FFF_FFFE)
        #expect(FrontendMessage.bind.lengthLimit == 0x3FFF_FFFE)
        #expect(FrontendMessage.sync.lengthLimit == 10_000)
        #expect(FrontendMessage.password.lengthLimit == 65_535)
    }

    @Test("the zero that ends a string is found inside the bounds only")
    func terminator() {
        let bytes: [UInt8] = [1, 2, 0, 3, 0]
        let span = bytes.span.bytes
        #expect(span.terminator(from: 0, before: 5) == 2)
        #expect(span.terminator(from: 2, before: 5) == 2)
        #expect(span.terminator(from: 3, before: 5) == 4)
        #expect(span.terminator(from: 3, before: 4) == nil)
        #expect(span.terminator(from: 0, before: 2) == nil)
        #expect(span.terminator(from: 5, before: 5) == nil)
        #expect(span.terminator(from: 6, before: 5) == nil)
    }

    @Test("bytes and text are copied out")
    func copies() {
        let bytes = Array("x\u{e9}z".utf8)
        #expect(bytes.span.bytes.array(1..<3) == [0xC3, 0xA9])
        #expect(bytes.span.bytes.string(1..<3) == "\u{e9}")
        #expect(bytes.span.bytes.array(2..<2).isEmpty)
        #expect(bytes.span.bytes.string(4..<4).isEmpty)
    }
}

extension MessageHeader {
    fileprivate init?(at offset: Int, of bytes: [UInt8]) { self.init(bytes.span.bytes, at: offset) }
}
