/// Text as the kernel's `seq_file` puts it together: any bytes, since names are any bytes.
struct ProcText {
  var bytes: [UInt8] = []

  init() {}
  init(_ text: String) { add(text) }

  mutating func add(_ text: String) { bytes += text.utf8 }
  mutating func add(_ text: [UInt8]) { bytes += text }

  mutating func line(_ text: String) {
    bytes += text.utf8
    bytes.append(UInt8(ascii: "\n"))
  }

  /// Numbers with blanks between them.
  mutating func numbers(_ values: [some BinaryInteger], separator: String = " ") {
    add(values.map { "\($0)" }.joined(separator: separator))
  }

  /// `text` with each of `characters`, and no others, as a backslash and three octal digits.
  ///
  /// The corresponding C function is `mangle_path`.
  static func escaped(_ text: [UInt8], _ characters: String) -> [UInt8] {
    let special = Array(characters.utf8)
    guard text.contains(where: special.contains) else { return text }
    return text.flatMap { byte in
      special.contains(byte) ? [UInt8(ascii: "\\")] + Array(padded(String(byte, radix: 8), 3, "0").utf8) : [byte]
    }
  }

  /// `text` with `pad` before it up to `width` characters.
  static func padded(_ text: String, _ width: Int, _ pad: String = " ") -> String {
    String(repeating: pad, count: max(0, width - text.utf8.count)) + text
  }

  /// `text` with blanks behind it up to `width` characters.
  static func filled(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.utf8.count))
  }

  static func hex(_ value: UInt64, _ width: Int) -> String { padded(String(value, radix: 16), width, "0") }

  /// The lower `count` bits of `words` as the kernel's `%*pb` writes them: words of 32 bits in hexadecimal, the highest first.
  static func bitmap(_ words: [UInt64], count: Int) -> String {
    guard count > 0 else { return "" }
    let pieces = (0..<(count + 31) / 32).map { index -> String in
      let word = index / 2 < words.count ? words[index / 2] >> UInt64(index % 2 * 32) & 0xffff_ffff : 0
      let bits = min(32, count - index * 32)
      let mask: UInt64 = bits == 32 ? 0xffff_ffff : (1 << UInt64(bits)) - 1
      return hex(word & mask, (bits + 3) / 4)
    }
    return pieces.reversed().joined(separator: ",")
  }

  /// The same as `%*pbl` writes them: `0-3,7`.
  static func list(_ words: [UInt64], count: Int) -> String {
    var ranges: [String] = []
    var first: Int?
    for bit in 0...count {
      let isSet = bit < count && bit / 64 < words.count && words[bit / 64] >> UInt64(bit % 64) & 1 != 0
      if isSet {
        first = first ?? bit
      } else if let start = first {
        ranges.append(start == bit - 1 ? "\(start)" : "\(start)-\(bit - 1)")
        first = nil
      }
    }
    return ranges.joined(separator: ",")
  }

  /// Nanoseconds in the hundredths of a second that /proc counts in (USER_HZ).
  static func ticks(_ nanoseconds: UInt64) -> UInt64 { nanoseconds / 10_000_000 }
}
