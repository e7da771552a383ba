import Views

/// A JSON value whose strings are bytes, so that names which are not UTF-8 survive.
///
/// A byte that is no part of valid UTF-8 is written as `\udc80`…`\udcff`, the byte's value above `dc00`: what Python
/// calls surrogateescape. `json.loads(s)` followed by `.encode("utf-8", "surrogateescape")` gives the bytes back.
package enum JSON {
  case null
  case bool(Bool)
  case signed(Int64)
  case unsigned(UInt64)
  case number(Double)
  case bytes([UInt8])
  case array([JSON])
  case object([(String, JSON)])

  package static func string(_ text: String) -> JSON { .bytes(Array(text.utf8)) }

  package static func integer(_ value: some BinaryInteger) -> JSON { .signed(Int64(value)) }

  /// The text of an array with one element a line, which people and `grep` can read too.
  package static func lines(_ elements: [JSON]) -> [UInt8] {
    var output = Array("[".utf8)
    for (index, element) in elements.enumerated() {
      output += Array((index == 0 ? "\n" : ",\n").utf8)
      element.write(to: &output)
    }
    output += Array("\n]\n".utf8)
    return output
  }

  package func write(to output: inout [UInt8]) {
    switch self {
    case .null: output.append("null")
    case .bool(let value): output.append(value ? "true" : "false")
    case .signed(let value): output.append(value)
    case .unsigned(let value): output.append(value)
    case .number(let value): output.append(contentsOf: (value.isFinite ? "\(value)" : "null").utf8)
    case .bytes(let value): value.withUnsafeBufferPointer { Self.write($0, to: &output) }
    case .array(let elements):
      output.append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        if index > 0 { output.append(", ") }
        element.write(to: &output)
      }
      output.append(UInt8(ascii: "]"))
    case .object(let members):
      output.append(UInt8(ascii: "{"))
      for (index, (name, value)) in members.enumerated() {
        if index > 0 { output.append(", ") }
        var name = name
        name.withUTF8 { Self.write($0, to: &output) }
        output.append(": ")
        value.write(to: &output)
      }
      output.append(UInt8(ascii: "}"))
    }
  }

  /// Writes text in quotes: runs of what stands for itself as they are.
  private static func write(_ bytes: UnsafeBufferPointer<UInt8>, to output: inout [UInt8]) {
    output.append(UInt8(ascii: "\""))
    var rest = bytes[...]
    while let end = rest.firstIndex(where: { !standsForItself[Int($0)] }) {
      output.append(contentsOf: rest[..<end])
      // What is no ASCII begins a scalar or is a stray byte; how far it goes, the bytes up to the next ASCII tell.
      var next = end + 1
      if rest[end] >= 0x80 { while next < rest.endIndex, rest[next] >= 0x80 { next += 1 } }
      writeEscaped(Array(rest[end..<next]), to: &output)
      rest = rest[next...]
    }
    output.append(contentsOf: rest)
    output.append(UInt8(ascii: "\""))
  }

  private static func writeEscaped(_ bytes: [UInt8], to output: inout [UInt8]) {
    for piece in TextPiece.pieces(of: bytes) {
      switch piece {
      case .byte(let byte): output.append(contentsOf: "\\udc\(TextPiece.hex(byte))".utf8)
      case .scalar("\""): output.append("\\\"")
      case .scalar("\\"): output.append("\\\\")
      case .scalar("\n"): output.append("\\n")
      case .scalar("\t"): output.append("\\t")
      case .scalar(let scalar) where scalar.value < 0x20 || scalar.value == 0x7f:
        output.append(contentsOf: "\\u00\(TextPiece.hex(UInt8(scalar.value)))".utf8)
      case .scalar(let scalar): output.append(contentsOf: String(scalar).utf8)
      }
    }
  }

  /// Of each byte, whether a string may hold it as it is: printable ASCII without quote and backslash.
  private static let standsForItself = (0...255).map { (0x20..<0x7f).contains($0) && $0 != 0x22 && $0 != 0x5c }
}

extension [UInt8] {
  fileprivate mutating func append(_ text: StaticString) {
    text.withUTF8Buffer { append(contentsOf: $0) }
  }

  /// A number in decimal, without a string in between.
  fileprivate mutating func append(_ value: some FixedWidthInteger) {
    var digits = InlineArray<20, UInt8>(repeating: 0)
    var first = 20
    var rest = UInt64(value.magnitude)
    repeat {
      first -= 1
      digits[first] = UInt8(ascii: "0") + UInt8(rest % 10)
      rest /= 10
    } while rest > 0
    if value < 0 { append(UInt8(ascii: "-")) }
    for index in first..<20 { append(digits[index]) }
  }
}
