import Glibc

/// Finds bytes in bytes: looks for the pattern's least common byte with `memchr`, which compares many at a time, and
/// compares the rest only there.
package struct LiteralSearch: Sendable {
  private let pattern: [UInt8]
  private let rarest: Int

  /// - Parameter pattern: an empty one is found nowhere.
  package init(_ pattern: [UInt8]) {
    self.pattern = pattern
    rarest = pattern.indices.min { Self.frequency(of: pattern[$0]) < Self.frequency(of: pattern[$1]) } ?? 0
  }

  /// How common a byte is in memory, roughly: zeroes, then all bits set, then text.
  private static func frequency(of byte: UInt8) -> Int {
    switch byte {
    case 0: 5
    case 0xff: 4
    case 1...8, 0x20, 0x61...0x7a: 3
    case 0x2e...0x3a, 0x5f: 2
    case 0x80...0x8f, 0x41...0x5a: 1
    default: 0
    }
  }

  /// The first place of the pattern in `bytes` that starts at `start` or later and before `limit`.
  package func first(in bytes: [UInt8], from start: Int, before limit: Int) -> Int? {
    guard start >= 0, !pattern.isEmpty, pattern.count <= bytes.count else { return nil }
    let end = min(limit, bytes.count - pattern.count + 1)
    return bytes.withUnsafeBytes { bytes in
      pattern.withUnsafeBytes { pattern -> Int? in
        guard let base = bytes.baseAddress, let wanted = pattern.baseAddress else { return nil }
        var place = start
        while place < end {
          guard let found = memchr(base + place + rarest, CInt(pattern[rarest]), end - place) else { return nil }
          place = UnsafeRawPointer(found) - base - rarest
          if memcmp(base + place, wanted, pattern.count) == 0 { return place }
          place += 1
        }
        return nil
      }
    }
  }
}
