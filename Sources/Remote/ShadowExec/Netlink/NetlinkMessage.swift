/// A message of netlink(7), put together or taken apart.
struct NetlinkMessage {
  /// `RTM_*`, `SOCK_DIAG_BY_FAMILY`, or one of ``Kind``.
  var type: UInt16
  /// `NLM_F_*`.
  var flags: UInt16
  var sequence: UInt32
  /// The port that it is sent to, or comes from.
  var port: UInt32
  var body: [UInt8]

  enum Kind {
    static let error: UInt16 = 2, done: UInt16 = 3
  }

  enum Flag {
    static let request: UInt16 = 1, many: UInt16 = 2, acknowledge: UInt16 = 4, dump: UInt16 = 0x300
  }

  /// The messages in one packet; what does not hold together ends it.
  static func messages(in packet: [UInt8]) -> [NetlinkMessage] {
    var messages: [NetlinkMessage] = []
    var start = 0
    while packet.count - start >= 16 {
      func number(_ offset: Int, _ size: Int) -> UInt32 {
        packet[start + offset..<start + offset + size].reversed().reduce(0) { $0 << 8 | UInt32($1) }
      }
      let length = Int(number(0, 4))
      guard length >= 16, length <= packet.count - start else { break }
      messages.append(
        NetlinkMessage(
          type: UInt16(number(4, 2)), flags: UInt16(number(6, 2)), sequence: number(8, 4), port: number(12, 4),
          body: Array(packet[start + 16..<start + length])))
      start += (length + 3) & ~3
    }
    return messages
  }

  var bytes: [UInt8] {
    var bytes = StructBytes()
    bytes.add(UInt32(16 + body.count))
    bytes.add(type)
    bytes.add(flags)
    bytes.add(sequence)
    bytes.add(port)
    return bytes.bytes + body + [UInt8](repeating: 0, count: (4 - body.count % 4) % 4)
  }

  /// The answer that a request failed, or with zero that it was done.
  func error(_ code: Int32, port: UInt32) -> NetlinkMessage {
    var bytes = StructBytes()
    bytes.add(-code)
    // The header of what it is about.
    let header = Array(self.bytes.prefix(16))
    return NetlinkMessage(type: Kind.error, flags: 0, sequence: sequence, port: port, body: bytes.bytes + header)
  }

  /// A number in the body, zero behind its end.
  func number<Value: FixedWidthInteger>(_ offset: Int, as _: Value.Type = Value.self) -> Value {
    let size = MemoryLayout<Value>.size
    guard offset + size <= body.count else { return 0 }
    return body[offset..<offset + size].reversed().reduce(0) { $0 << 8 | Value(truncatingIfNeeded: $1) }
  }

  /// The attributes in the body from `offset` on, by their types.
  func attributes(from offset: Int) -> [UInt16: [UInt8]] {
    var found: [UInt16: [UInt8]] = [:]
    var start = offset
    while body.count - start >= 4 {
      let length = Int(number(start, as: UInt16.self))
      guard length >= 4, length <= body.count - start else { break }
      // Two bits say how it is to be read.
      found[number(start + 2, as: UInt16.self) & 0x3fff] = Array(body[start + 4..<start + length])
      start += (length + 3) & ~3
    }
    return found
  }
}

extension StructBytes {
  /// An attribute of netlink.
  mutating func add(_ type: UInt16, _ value: [UInt8]) {
    add(UInt16(4 + value.count))
    add(type)
    for byte in value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4) { add(byte) }
  }

  mutating func add(_ type: UInt16, _ value: some FixedWidthInteger) {
    var bytes = StructBytes()
    bytes.add(value)
    add(type, bytes.bytes)
  }

  /// Text with its zero.
  mutating func add(_ type: UInt16, text: [UInt8]) { add(type, text + [0]) }
}
