import Testing

@testable import Memory

struct MemoryDigestTests {
  /// The definition, word by word.
  private func defined(_ range: [UInt8]) -> MemoryDigest {
    var (low, high, number): (UInt64, UInt64, UInt64) = (0, 0, 0)
    for start in stride(from: 0, to: range.count, by: 8) {
      var word: UInt64 = 0
      for (index, byte) in range[start..<min(start + 8, range.count)].enumerated() {
        word |= UInt64(byte) << UInt64(8 * index)
      }
      var x = word &+ (number + 1) &* 0x9e37_79b9_7f4a_7c15
      x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
      x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
      x ^= x >> 31
      low &+= x
      high &+= x &* (2 * number + 1)
      number += 1
    }
    return MemoryDigest(low: low, high: high)
  }

  @Test func isWhatItsDefinitionSays() throws {
    let bytes = (0..<4099).map { UInt8(truncatingIfNeeded: $0 &* 37 ^ $0 >> 5) }
    let file = try TemporaryFile(bytes)
    let image = try #require(try MemoryImage.open(file.path).first)
    let synthetic = SyntheticMemory(bytes)
    for ranges in [[], [0..<4099], [1..<2], [3..<1000, 0..<16, 4098..<4099], [5..<5, 0..<8]] as [[Range<Int>]] {
      let segments = ranges.map {
        MemorySegment(start: PhysicalAddress(UInt64($0.lowerBound)), count: UInt64($0.count))
      }
      let expected = ranges.map { defined(Array(bytes[$0])) }
      #expect(try image.digests(of: segments) == expected)
      #expect(try synthetic.digests(of: segments) == expected)
      #expect(expected.map { MemoryDigest($0.description) } == expected)
    }
    // splitmix64's first number.
    #expect(
      try synthetic.digests(of: [MemorySegment(start: PhysicalAddress(0), count: 1)]).first?.low
        == 0xe220_a839_7b1d_cdaf)
    #expect(throws: MemoryFault.self) { try image.digests(of: [.init(start: PhysicalAddress(4098), count: 2)]) }
    #expect(throws: MemoryFault.self) { try image.digests(of: [.init(start: PhysicalAddress(.max), count: .max)]) }
  }

  @Test func eachByteAndItsPlaceMatter() {
    let bytes = [UInt8](repeating: 0, count: 64)
    var seen: Set<MemoryDigest> = [defined(bytes)]
    for place in bytes.indices {
      var changed = bytes
      changed[place] = 1
      #expect(seen.insert(defined(changed)).inserted)
    }
    #expect(MemoryDigest("nothing") == nil && MemoryDigest(String(repeating: "g", count: 32)) == nil)
  }
}
