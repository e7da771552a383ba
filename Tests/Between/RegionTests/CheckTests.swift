import CRegion
import Testing

/// The check that every record carries.
struct CheckTests {
  private static let payload = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 167 &+ $0 >> 8) }

  private func check(_ bytes: [UInt8], sequence: UInt64 = 7) -> [UInt64] {
    var check: [UInt64] = [0, 0]
    grass_check(&check, sequence, bytes, UInt64(bytes.count))
    return check
  }

  @Test("one changed bit changes the first sum, wherever it is")
  func bits() {
    let good = check(Self.payload)
    for bit in stride(from: 0, to: Self.payload.count * 8, by: 37) {
      var bad = Self.payload
      bad[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(check(bad)[0] != good[0])
    }
  }

  @Test("words that changed places are seen, in their stripe and across stripes")
  func places() {
    let good = check(Self.payload)
    for (one, other) in [(0, 8), (8, 64), (0, 64), (64, 1024), (4088, 8), (24, 24 + 512)] {
      var bad = Self.payload
      for index in 0..<8 { bad.swapAt(one + index, other + index) }
      #expect(check(bad) != good)
    }
  }

  @Test("a record's start and the old one's rest are seen, at every cache line")
  func torn() {
    let old = Self.payload.map { $0 &+ 1 }
    let (new, former) = (check(Self.payload), check(old))
    for line in 1..<64 {
      let mixed = Self.payload[..<(line * 64)] + old[(line * 64)...]
      #expect(check([UInt8](mixed)) != new)
      #expect(check([UInt8](mixed)) != former)
    }
  }

  @Test("the sequence number and the length count, and so does a zero more")
  func numbers() {
    #expect(check(Self.payload, sequence: 8) != check(Self.payload))
    #expect(check([UInt8](Self.payload.dropLast())) != check(Self.payload))
    #expect(check(Self.payload + [0]) != check(Self.payload))
    #expect(check([]) != check([0]))
  }

  @Test(
    "added up word by word, in pieces, or while being copied, it is the same", arguments: [0, 1, 8, 63, 64, 65, 4095])
  func pieces(length: Int) {
    let bytes = [UInt8](Self.payload.prefix(length))
    let whole = check(bytes)
    var (words, pieces, copied): ([UInt64], [UInt64], [UInt64]) = ([0, 0], [0, 0], [0, 0])
    for index in stride(from: 0, to: length, by: 8) {
      let word = bytes[index...].prefix(8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << (8 * $1.offset) }
      grass_check_word(&words, UInt64(index / 8), word)
    }
    let middle = length / 128 * 64
    bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      // The later piece first: the order does not matter.
      grass_check_bytes(&pieces, base + middle, UInt64(middle), UInt64(length - middle))
      grass_check_bytes(&pieces, base, 0, UInt64(middle))
    }
    for sums in [words, pieces] {
      var check: [UInt64] = [0, 0]
      grass_check_finish(&check, sums, 7, UInt64(length))
      #expect(check == whole)
    }
    for copy in [GRASS_COPY, GRASS_COPY_STREAMED] {
      copied = [0, 0]
      let stripes = length / 64 * 64
      let to = UnsafeMutableRawPointer.allocate(byteCount: 8192, alignment: 64)
      defer { to.deallocate() }
      to.initializeMemory(as: UInt8.self, repeating: 0x5a, count: 8192)
      // Its source lies anywhere.
      ([0x77] + bytes).withUnsafeBytes { from in
        grass_check_stripes(&copied, copy, to + 32, from.baseAddress.map { $0 + 1 }, 0, UInt64(stripes))
      }
      #expect([UInt8](UnsafeRawBufferPointer(start: to + 32, count: stripes)) == [UInt8](bytes[..<stripes]))
      #expect(to.load(fromByteOffset: 32 + stripes, as: UInt8.self) == 0x5a)
      bytes.withUnsafeBytes {
        grass_check_bytes(&copied, $0.baseAddress.map { $0 + stripes }, UInt64(stripes), UInt64(length - stripes))
      }
      var check: [UInt64] = [0, 0]
      grass_check_finish(&check, copied, 7, UInt64(length))
      #expect(check == whole)
    }
  }

  @Test("a record fetched with its sums is judged as one whose bytes are added up", arguments: [0, 5, 64, 1000, 4096])
  func fetch(length: Int) {
    let size = 8192
    let (shared, own) = (
      UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64),
      UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    )
    defer {
      shared.deallocate()
      own.deallocate()
    }
    func judge(_ sequence: UInt64, count: Int, _ damage: () -> Void = {}) -> (grass_verdict, UInt64) {
      shared.initializeMemory(as: UInt8.self, repeating: 0, count: size)
      own.initializeMemory(as: UInt8.self, repeating: 0xee, count: size)
      Self.payload.withUnsafeBytes {
        if let base = $0.baseAddress { (shared + 32).copyMemory(from: base, byteCount: length) }
      }
      grass_record_seal(shared, 9, UInt64(length))
      damage()
      var (sums, found): ([UInt64], UInt64) = ([0, 0], 0)
      grass_record_fetch(own, shared, UInt64(count), sequence, &sums)
      #expect(own.load(fromByteOffset: min(count, size - 1), as: UInt8.self) == 0xee, "it went past \(count) bytes")
      let verdict = grass_record_judge(own, UInt64(count), UInt64(size), sequence, sums, &found)
      return (verdict, found)
    }
    let whole = Int(grass_record_size(UInt64(length)))
    #expect(judge(9, count: whole) == (GRASS_RECORD_WHOLE, UInt64(length)))
    #expect(judge(9, count: whole + 640) == (GRASS_RECORD_WHOLE, UInt64(length)))
    #expect([UInt8](UnsafeRawBufferPointer(start: own + 32, count: length)) == [UInt8](Self.payload.prefix(length)))
    #expect(judge(10, count: whole).0 == GRASS_RECORD_OTHER)
    #expect(
      judge(9, count: whole) { shared.storeBytes(of: 10, toByteOffset: whole - 8, as: UInt64.self) }.0
        == GRASS_RECORD_TORN)
    #expect(
      judge(9, count: whole) { shared.storeBytes(of: .max, toByteOffset: 8, as: UInt64.self) }.0
        == GRASS_RECORD_IMPOSSIBLE)
    if length > 8 {
      #expect(judge(9, count: whole - 8).0 == GRASS_RECORD_LONGER)
      #expect(
        judge(9, count: whole) { (shared + 32 + length / 2).storeBytes(of: 0xa5, as: UInt8.self) }.0
          == GRASS_RECORD_FALSE)
    }
  }
}
