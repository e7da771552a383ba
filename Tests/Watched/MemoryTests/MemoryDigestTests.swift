import Foundation
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

  /// Of a file with holes, whose pages are zeros, and which they stay.
  @Test func pagesOfAFileHaveDigestsOfTheirOwn() throws {
    let page = 4096
    let bytes = (0..<3 * page + 5).map { UInt8(truncatingIfNeeded: $0 &* 37 ^ $0 >> 5) }
    let file = try TemporaryFile(bytes)
    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: file.path))
    try handle.seek(toOffset: 1 << 20)
    try handle.write(contentsOf: bytes)
    try handle.close()
    let whole = Array(try Data(contentsOf: URL(fileURLWithPath: file.path)))
    let image = try #require(try MemoryImage.open(file.path).first)
    let seed = MemoryDigest.Seed.random()
    for range in [0..<whole.count, page..<page + 1, 2 * page..<page * 40, (1 << 20)..<whole.count, 0..<0] {
      let segment = MemorySegment(start: PhysicalAddress(UInt64(range.lowerBound)), count: UInt64(range.count))
      let digests = try image.digests(ofPagesIn: segment, seed)
      let expected = stride(from: range.lowerBound, to: range.upperBound, by: page).map { start in
        whole[start..<min(start + page, range.upperBound)].withUnsafeBytes { MemoryDigest($0, seed) }
      }
      #expect(digests == expected)
      #expect(try SyntheticMemory(whole).digests(ofPagesIn: segment, seed) == expected)
      let other = try image.digests(ofPagesIn: segment, .random())
      #expect(expected.isEmpty || digests != other)
    }
    let past = MemorySegment(start: PhysicalAddress(UInt64(whole.count / page * page)), count: UInt64(page))
    #expect(try image.digests(ofPagesIn: past, seed) == [nil])
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
