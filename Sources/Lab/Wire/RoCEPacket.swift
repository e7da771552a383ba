/// A packet of RDMA over Converged Ethernet, version 2, over IPv4, as the InfiniBand specification's annex A17 lays it out.
///
/// Whoever alters one has to make its check anew, which needs no key.
public struct RoCEPacket: Sendable {
  /// The whole Ethernet frame.
  public private(set) var frame: [UInt8]
  /// Where the base transport header begins, and where the check lies that ends the packet.
  private let transport: Int
  private let end: Int

  /// Operations of reliable connections, as their packets' opcodes say.
  public enum Opcode {
    public static let sends: ClosedRange<UInt8> = 0x00...0x05
    public static let writes: ClosedRange<UInt8> = 0x06...0x0b
    public static let writeOnly: UInt8 = 0x0a
    public static let readRequest: UInt8 = 0x0c
    public static let readResponses: ClosedRange<UInt8> = 0x0d...0x10
    public static let readResponseMiddle: UInt8 = 0x0e
    public static let readResponseOnly: UInt8 = 0x10
    public static let acknowledge: UInt8 = 0x11
  }

  /// The packet in a frame, or nil where the frame holds another or a fragment.
  public init?(frame: [UInt8]) {
    guard frame.count > 14 + 20 + 8 + 12 + 4, frame[12] == 0x08, frame[13] == 0x00, frame[14] >> 4 == 4 else {
      return nil
    }
    let header = Int(frame[14] & 15) * 4
    let length = Int(frame[16]) << 8 | Int(frame[17])
    guard header >= 20, frame[23] == 17, frame[20] & 0x3f == 0, frame[21] == 0, 14 + length <= frame.count,
      length >= header + 8 + 12 + 4, Int(frame[14 + header + 2]) << 8 | Int(frame[14 + header + 3]) == 4791
    else { return nil }
    self.frame = frame
    transport = 14 + header + 8
    end = 14 + length - 4
  }

  public var opcode: UInt8 { frame[transport] }
  /// The number of the queue pair that it goes to; 1 is that of connections' set-up.
  public var destination: UInt32 {
    get { number(at: transport + 5, bytes: 3) }
    set { set(newValue, at: transport + 5, bytes: 3) }
  }
  /// Its packet sequence number, of 24 bits.
  public var sequence: UInt32 {
    get { number(at: transport + 9, bytes: 3) }
    set { set(newValue, at: transport + 9, bytes: 3) }
  }

  /// Where the remote address, key and length lie, for what has them; in this order 8, 4 and 4 bytes, highest first.
  private var hasAddress: Bool { [0x06, 0x0a, 0x0b, 0x0c].contains(opcode) }
  public var address: (remote: UInt64, key: UInt32, length: Int)? {
    guard hasAddress, transport + 28 <= end else { return nil }
    let high = UInt64(number(at: transport + 12, bytes: 4)), low = UInt64(number(at: transport + 16, bytes: 4))
    return (high << 32 | low, number(at: transport + 20, bytes: 4), Int(number(at: transport + 24, bytes: 4)))
  }

  /// Where the payload lies, with what pads it.
  public var payload: Range<Int> {
    let header =
      switch opcode {
      case 0x06, 0x0a, 0x0c: 28
      case 0x0b: 32
      case 0x0d, 0x0f, 0x10, 0x11: 16
      case 0x03, 0x05, 0x09: 16
      case 0x64: 20
      default: 12
      }
    return min(transport + header, end)..<end
  }

  public subscript(index: Int) -> UInt8 {
    get { frame[index] }
    set { frame[index] = newValue }
  }

  /// Whether its check is that of its bytes.
  public var isSound: Bool { Array(frame[end..<end + 4]) == check() }

  /// Makes its check anew, and leaves out UDP's, which may be left out.
  public mutating func seal() {
    frame[transport - 2] = 0
    frame[transport - 1] = 0
    frame.replaceSubrange(end..<end + 4, with: check())
  }

  /// A packet back along the way of `packet`, with another operation and payload: its addresses change places.
  ///
  /// - Parameters:
  ///   - packet: one that came the other way.
  ///   - opcode: the operation's.
  ///   - destination: the queue pair that it goes to.
  ///   - extension: an extended transport header, 4 bytes.
  ///   - payload: a multiple of 4 bytes.
  public init(
    answering packet: RoCEPacket, opcode: UInt8, destination: UInt32, extension: [UInt8], payload: [UInt8]
  ) {
    let start = packet.transport
    var frame = Array(packet.frame[..<start]) + packet.frame[start..<start + 12] + `extension` + payload + [0, 0, 0, 0]
    frame.replaceSubrange(0..<12, with: packet.frame[6..<12] + packet.frame[0..<6])
    frame.replaceSubrange(26..<34, with: packet.frame[30..<34] + packet.frame[26..<30])
    let length = frame.count - 14, datagram = frame.count - start + 8
    (frame[16], frame[17]) = (UInt8(length >> 8), UInt8(length & 255))
    (frame[start - 4], frame[start - 3]) = (UInt8(datagram >> 8), UInt8(datagram & 255))
    (frame[start], frame[start + 1]) = (opcode, packet.frame[start + 1] & 0x4f)
    self.frame = frame
    transport = start
    end = frame.count - 4
    self.destination = destination
    // IPv4's own check, over its header.
    (self.frame[24], self.frame[25]) = (0, 0)
    var sum: UInt32 = 0
    for index in stride(from: 14, to: start - 8, by: 2) {
      sum += UInt32(self.frame[index]) << 8 | UInt32(self.frame[index + 1])
    }
    while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
    (self.frame[24], self.frame[25]) = (UInt8(~sum >> 8 & 255), UInt8(~sum & 255))
    seal()
  }

  private func number(at offset: Int, bytes: Int) -> UInt32 {
    frame[offset..<offset + bytes].reduce(0) { $0 << 8 | UInt32($1) }
  }

  private mutating func set(_ value: UInt32, at offset: Int, bytes: Int) {
    for index in 0..<bytes {
      frame[offset + index] = UInt8(truncatingIfNeeded: value >> UInt32((bytes - 1 - index) * 8))
    }
  }

  /// What each byte leaves of CRC-32.
  private static let remainders: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { remainder, _ in remainder >> 1 ^ (remainder & 1 == 0 ? 0 : 0xedb8_8320) }
  }

  /// The invariant check: CRC-32 over all that no router changes; what one does counts as ones, and so do eight bytes before it.
  private func check() -> [UInt8] {
    var covered = [UInt8](repeating: 0xff, count: 8) + frame[14..<end]
    // Service, time to live and check of IPv4; UDP's check; the bits of congestion.
    for offset in [1, 8, 10, 11] { covered[8 + offset] = 0xff }
    let start = 8 + transport - 14
    for offset in [-2, -1, 4] { covered[start + offset] = 0xff }
    var remainder: UInt32 = 0xffff_ffff
    for byte in covered {
      remainder = remainder >> 8 ^ Self.remainders[Int(UInt8(truncatingIfNeeded: remainder) ^ byte)]
    }
    let value = ~remainder
    return (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }
}
