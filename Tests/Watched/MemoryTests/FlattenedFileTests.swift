import Testing

@testable import Memory

/// makedumpfile's flattened form, piece by piece.
struct FlattenedFileTests {
  private static func number(_ value: Int64) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

  private static func file(_ pieces: [(offset: Int64, bytes: [UInt8])], ends: Bool = true) -> [UInt8] {
    var bytes = FlattenedFile.magic + [0, 0, 0, 0] + number(1) + number(1)
    bytes += [UInt8](repeating: 0, count: 4096 - bytes.count)
    for piece in pieces { bytes += number(piece.offset) + number(Int64(piece.bytes.count)) + piece.bytes }
    return ends ? bytes + number(-1) + number(-1) : bytes
  }

  private static func open(_ bytes: [UInt8]) throws -> FlattenedFile {
    let file = try TemporaryFile(bytes)
    return try withExtendedLifetime(file) { try FlattenedFile(MappedFile(path: file.path)) }
  }

  private static func read(_ file: FlattenedFile, _ range: Range<Int>) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: range.count) { bytes, count in
      file.copy(
        range.lowerBound, to: UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: bytes[..<range.count]))
      )
      count = range.count
    }
  }

  /// Pieces in any order, with gaps, over each other: what was written last is what is read.
  @Test func laterPiecesLieOverEarlierOnes() throws {
    var random = SystemRandomNumberGenerator()
    for round in 0..<40 {
      var expected = [UInt8](repeating: 0, count: 0)
      var pieces: [(offset: Int64, bytes: [UInt8])] = []
      for number in 0..<Int.random(in: 1...60, using: &random) {
        let offset = Int.random(in: 0..<3000, using: &random)
        let count = Int.random(in: 0...(round % 2 == 0 ? 20 : 900), using: &random)
        let bytes = [UInt8](repeating: UInt8(number + 1), count: count)
        pieces.append((Int64(offset), bytes))
        guard count > 0 else { continue }
        if expected.count < offset + count { expected += [UInt8](repeating: 0, count: offset + count - expected.count) }
        expected.replaceSubrange(offset..<offset + count, with: bytes)
      }
      let file = try Self.open(Self.file(pieces))
      #expect(file.count == expected.count)
      #expect(Self.read(file, 0..<expected.count) == expected)
      for _ in 0..<20 where !expected.isEmpty {
        let start = Int.random(in: 0..<expected.count, using: &random)
        let end = Int.random(in: start...expected.count, using: &random)
        #expect(Self.read(file, start..<end) == Array(expected[start..<end]))
      }
      // Behind its end there is nothing.
      #expect(Self.read(file, expected.count..<expected.count + 9) == [UInt8](repeating: 0, count: 9))
    }
  }

  @Test func whatIsCutShortOrLiesIsRefused() throws {
    let whole = Self.file([(0, [1, 2, 3]), (9, [4])])
    #expect(try Self.open(whole).count == 10)
    for count in 4096..<whole.count - 8 {
      #expect(throws: MemoryImageError.self, "\(count) bytes") { try Self.open(Array(whole[..<count])) }
    }
    for offset in [Int64.min, -2, .max] {
      #expect(throws: MemoryImageError.self) { try Self.open(Self.file([(offset, [1])])) }
    }
    var long = Self.file([(0, [1])])
    long.replaceSubrange(4104..<4112, with: Self.number(.max))
    #expect(throws: MemoryImageError.self) { try Self.open(long) }
    var other = whole
    other[23] = 2
    #expect(throws: MemoryImageError.self) { try Self.open(other) }
    // What it holds must be a kdump, and is looked at by what reads one.
    let file = try TemporaryFile(Self.file([(0, Array("\u{7f}ELF".utf8))]))
    #expect(throws: MemoryImageError.self) { try MemoryImage.openReadable(file.path) }
    // It claims much, and holds nothing.
    var header = [UInt8](repeating: 0, count: 8192)
    header.replaceSubrange(0..<8, with: KdumpMemory.magic)
    header[8] = 6
    header[429] = 16
    header[432] = 1
    header.replaceSubrange(436..<440, with: [0xff, 0xff, 0xff, 0x7f])
    header.replaceSubrange(4096 + 96..<4096 + 100, with: [0xff, 0xff, 0xff, 0x00])
    let liar = try TemporaryFile(Self.file([(0, header), (1 << 60, [1])]))
    #expect(throws: MemoryImageError.self) { try MemoryImage.openReadable(liar.path) }
  }
}
