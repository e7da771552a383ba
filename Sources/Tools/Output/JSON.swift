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
    case .null: output += Array("null".utf8)
    case .bool(let value): output += Array("\(value)".utf8)
    case .signed(let value): output += Array("\(value)".utf8)
    case .unsigned(let value): output += Array("\(value)".utf8)
    case .number(let value): output += Array((value.isFinite ? "\(value)" : "null").utf8)
    case .bytes(let value): Self.write(value, to: &output)
    case .array(let elements):
      output.append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        if index > 0 { output += Array(", ".utf8) }
        element.write(to: &output)
      }
      output.append(UInt8(ascii: "]"))
    case .object(let members):
      output.append(UInt8(ascii: "{"))
      for (index, (name, value)) in members.enumerated() {
        if index > 0 { output += Array(", ".utf8) }
        Self.write(Array(name.utf8), to: &output)
        output += Array(": ".utf8)
        value.write(to: &output)
      }
      output.append(UInt8(ascii: "}"))
    }
  }

  private static func write(_ bytes: [UInt8], to output: inout [UInt8]) {
    output.append(UInt8(ascii: "\""))
    for piece in TextPiece.pieces(of: bytes) {
      switch piece {
      case .byte(let byte): output += Array("\\udc\(TextPiece.hex(byte))".utf8)
      case .scalar("\""): output += Array("\\\"".utf8)
      case .scalar("\\"): output += Array("\\\\".utf8)
      case .scalar("\n"): output += Array("\\n".utf8)
      case .scalar("\t"): output += Array("\\t".utf8)
      case .scalar(let scalar) where scalar.value < 0x20 || scalar.value == 0x7f:
        output += Array("\\u00\(TextPiece.hex(UInt8(scalar.value)))".utf8)
      case .scalar(let scalar): output += Array(String(scalar).utf8)
      }
    }
    output.append(UInt8(ascii: "\""))
  }
}
