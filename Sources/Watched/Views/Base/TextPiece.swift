/// A scalar of valid UTF-8, or a byte that is not part of any.
package enum TextPiece {
  case scalar(Unicode.Scalar)
  case byte(UInt8)

  /// Cuts bytes into scalars and stray bytes.
  package static func pieces(of bytes: [UInt8]) -> [TextPiece] {
    var result: [TextPiece] = []
    result.reserveCapacity(bytes.count)
    var index = 0
    while index < bytes.count {
      let byte = bytes[index]
      let length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 0
      if length > 0, index + length <= bytes.count,
        let text = String(validating: bytes[index..<index + length], as: UTF8.self),
        let scalar = text.unicodeScalars.first,
        text.unicodeScalars.count == 1
      {
        result.append(.scalar(scalar))
        index += length
      } else {
        result.append(.byte(byte))
        index += 1
      }
    }
    return result
  }

  package static func hex(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return digits.count == 1 ? "0" + digits : digits
  }
}

extension [UInt8] {
  /// The bytes as text for a terminal: control characters and stray bytes as `\x1b`, so that a name cannot steer it.
  package var printable: String {
    if allSatisfy({ (0x20...0x7e).contains($0) }) { return String(decoding: self, as: UTF8.self) }
    var text = ""
    for piece in TextPiece.pieces(of: self) {
      switch piece {
      case .byte(let byte): text += "\\x\(TextPiece.hex(byte))"
      case .scalar("\t"): text += "\t"
      case .scalar(let scalar):
        switch scalar.properties.generalCategory {
        // Format characters could reorder a line, as a right-to-left override does.
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
          text +=
            scalar.value < 256 ? "\\x\(TextPiece.hex(UInt8(scalar.value)))" : "\\u{\(String(scalar.value, radix: 16))}"
        default: text.unicodeScalars.append(scalar)
        }
      }
    }
    return text
  }
}
