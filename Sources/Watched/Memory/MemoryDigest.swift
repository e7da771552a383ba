/// A digest of bytes, which says whether they are those that were seen before.
///
/// It can be computed wherever the bytes lie, by many threads and in any order: with the bytes cut into little-endian words
/// of 64 bits, the last one filled up with zeros, and the words numbered from 0 on,
///
/// ```
/// low  = Σ mix(word + (number + 1) · 0x9e3779b97f4a7c15)          mod 2^64
/// high = Σ mix(word + (number + 1) · 0x9e3779b97f4a7c15) · (2 · number + 1)
/// mix(x):  x = (x ^ x >> 30) · 0xbf58476d1ce4e5b9,  x = (x ^ x >> 27) · 0x94d049bb133111eb,  x ^ x >> 31
/// ```
/// It keeps apart what differs by chance. It is no protection against somebody who makes bytes of a digest that he knows, and
/// needs to be none: of who makes his tables look like those of another build, that build's are used, and have to fit.
public struct MemoryDigest: Hashable, Sendable {
  public let low: UInt64
  public let high: UInt64

  public init(low: UInt64, high: UInt64) { (self.low, self.high) = (low, high) }

  /// The digest of `bytes`.
  ///
  /// Cost: some 3 ms for 10 MB.
  package init(_ bytes: UnsafeRawBufferPointer) {
    var (low, high, number): (UInt64, UInt64, UInt64) = (0, 0, 0)
    let whole = bytes.count & ~7
    var offset = 0
    while offset < whole {
      let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      let mixed = Self.mix(word, number)
      low &+= mixed
      high &+= mixed &* (2 &* number &+ 1)
      number &+= 1
      offset &+= 8
    }
    if whole < bytes.count {
      var word: UInt64 = 0
      for index in whole..<bytes.count { word |= UInt64(bytes[index]) << UInt64(8 * (index - whole)) }
      let mixed = Self.mix(word, number)
      low &+= mixed
      high &+= mixed &* (2 &* number &+ 1)
    }
    (self.low, self.high) = (low, high)
  }

  /// The digest of `words`.
  package init(of words: [UInt64]) {
    self = words.map(\.littleEndian).withUnsafeBytes { MemoryDigest($0) }
  }

  @inline(__always)
  private static func mix(_ word: UInt64, _ number: UInt64) -> UInt64 {
    var x = word &+ (number &+ 1) &* 0x9e37_79b9_7f4a_7c15
    x = (x ^ x >> 30) &* 0xbf58_476d_1ce4_e5b9
    x = (x ^ x >> 27) &* 0x94d0_49bb_1331_11eb
    return x ^ x >> 31
  }
}

extension MemoryDigest: CustomStringConvertible {
  /// 32 hexadecimal digits, high word first.
  public var description: String { Self.digits(high) + Self.digits(low) }

  private static func digits(_ word: UInt64) -> String {
    let text = String(word, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }

  /// What ``description`` says; nil for anything else.
  public init?(_ text: String) {
    guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16),
      let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.init(low: low, high: high)
  }
}
