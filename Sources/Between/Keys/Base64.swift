/// Base64 (RFC 4648, 4), for keys: by arithmetic only, so that neither branches nor tables depend on a secret, and into
/// places that the caller can wipe.
///
/// Decoding is strict: one text for each sequence of bytes.
enum Base64 {
  /// How many characters `count` bytes take.
  static func length(_ count: Int) -> Int { (count + 2) / 3 * 4 }

  /// Writes the text of `bytes`; `text` has the length that it takes.
  static func encode(_ bytes: UnsafeRawBufferPointer, into text: UnsafeMutableRawBufferPointer) {
    var at = 0
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let left = min(3, bytes.count - start)
      var group: UInt32 = 0
      for index in 0..<3 { group = group << 8 | (index < left ? UInt32(bytes[start + index]) : 0) }
      for index in 0..<4 {
        text[at] = index <= left ? character(Int32(group >> (18 - 6 * UInt32(index)) & 63)) : UInt8(ascii: "=")
        at += 1
      }
    }
  }

  /// The text of bytes that are no secret.
  static func encode(_ bytes: some Collection<UInt8>) -> String {
    let bytes = Array(bytes)
    var text = [UInt8](repeating: 0, count: length(bytes.count))
    bytes.withUnsafeBytes { bytes in text.withUnsafeMutableBytes { encode(bytes, into: $0) } }
    return String(decoding: text, as: UTF8.self)
  }

  /// Decodes a text into `bytes`, all of which it has to fill.
  ///
  /// - Returns: whether it is the text of so many bytes; where not, `bytes` has nothing of use.
  static func decode(_ text: UnsafeRawBufferPointer, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    guard text.count == length(bytes.count) else { return false }
    let padding = (3 - bytes.count % 3) % 3
    var (bad, at): (Int32, Int) = (0, 0)
    for start in stride(from: 0, to: text.count, by: 4) {
      var group: UInt32 = 0
      for index in start..<start + 4 {
        if index >= text.count - padding {
          guard text[index] == UInt8(ascii: "=") else { return false }
          group <<= 6
        } else {
          let value = value(Int32(text[index]))
          bad |= value >> 8
          group = group << 6 | UInt32(truncatingIfNeeded: value & 63)
        }
      }
      for index in 0..<3 {
        let byte = UInt8(truncatingIfNeeded: group >> (16 - 8 * UInt32(index)))
        if at < bytes.count {
          bytes[at] = byte
        } else {
          // Bits that stand for nothing are zero.
          bad |= -Int32(byte)
        }
        at += 1
      }
    }
    return bad == 0
  }

  /// The bytes of a text that is no secret; nil where it is none, or has more than `limit`.
  static func decode(_ text: some StringProtocol, limit: Int) -> [UInt8]? {
    let text = Array(text.utf8)
    guard text.count % 4 == 0, text.count <= length(limit) else { return nil }
    let padding = text.reversed().prefix { $0 == UInt8(ascii: "=") }.count
    guard padding <= 2, padding <= text.count else { return nil }
    var bytes = [UInt8](repeating: 0, count: text.count / 4 * 3 - padding)
    let isWhole = text.withUnsafeBytes { text in bytes.withUnsafeMutableBytes { decode(text, into: $0) } }
    return isWhole && bytes.count <= limit ? bytes : nil
  }

  /// All ones where `low <= value <= high`, of small numbers, else zero.
  private static func mask(_ value: Int32, _ low: Int32, _ high: Int32) -> Int32 {
    ((low - 1 - value) & (value - high - 1)) >> 31
  }

  private static func character(_ value: Int32) -> UInt8 {
    let character =
      mask(value, 0, 25) & (value + 65) | mask(value, 26, 51) & (value + 71) | mask(value, 52, 61) & (value - 4)
      | mask(value, 62, 62) & 43 | mask(value, 63, 63) & 47
    return UInt8(truncatingIfNeeded: character)
  }

  /// 0 to 63, or negative.
  private static func value(_ character: Int32) -> Int32 {
    (mask(character, 65, 90) & (character - 64) | mask(character, 97, 122) & (character - 70)
      | mask(character, 48, 57) & (character + 5) | mask(character, 43, 43) & 63 | mask(character, 47, 47) & 64) - 1
  }
}
