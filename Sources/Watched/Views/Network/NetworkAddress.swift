import KernelInfo

/// An address of a network: four bytes of IPv4, sixteen of IPv6, or a card's own.
public struct NetworkAddress: Hashable, Sendable {
  /// In the order of the wire.
  public var bytes: [UInt8]

  public init(bytes: [UInt8]) { self.bytes = bytes }

  public var isUnspecified: Bool { bytes.allSatisfy { $0 == 0 } }
}

extension NetworkAddress: CustomStringConvertible {
  /// As people write it: `10.0.0.1`, `fe80::1` (RFC 5952), `52:54:00:00:00:01`.
  public var description: String {
    switch bytes.count {
    case 4: return bytes.map { "\($0)" }.joined(separator: ".")
    case 16:
      let groups = (0..<8).map { UInt16(bytes[$0 * 2]) << 8 | UInt16(bytes[$0 * 2 + 1]) }
      if groups[0..<5].allSatisfy({ $0 == 0 }), groups[5] == 0xffff {
        return "::ffff:" + bytes[12...].map { "\($0)" }.joined(separator: ".")
      }
      // The longest run of two zero groups or more is left out, the first where several are as long.
      var best = 0..<0
      var start = 0
      for index in 0...8 where index == 8 || groups[index] != 0 {
        if index - start > max(best.count, 1) { best = start..<index }
        start = index + 1
      }
      let text = groups.map { String($0, radix: 16) }
      if best.isEmpty { return text.joined(separator: ":") }
      return text[..<best.lowerBound].joined(separator: ":") + "::" + text[best.upperBound...].joined(separator: ":")
    default:
      return bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
  }
}

extension NetworkAddress {
  /// An IPv4 address, as the kernel keeps it: the wire's order, loaded as a little-endian number.
  init(word: UInt64) { self.init(bytes: (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) }) }
}
