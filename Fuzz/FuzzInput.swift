/// Takes values from the front of a fuzzer's input; what is missing reads as zero.
struct FuzzInput {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  var isEmpty: Bool { rest.isEmpty }

  mutating func next<T: FixedWidthInteger>(_ type: T.Type = T.self) -> T {
    var value: T = 0
    for byte in 0..<T.bitWidth / 8 { value |= T(truncatingIfNeeded: rest.popFirst() ?? 0) << T(8 * byte) }
    return value
  }

  mutating func bytes(_ count: Int) -> [UInt8] {
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }

  mutating func remaining() -> [UInt8] { bytes(rest.count) }
}
