import Region

/// What travels over a TCP link.
///
/// All integers are little endian.
///
/// The remote side sends a hello of 24 bytes, then operations: a header of 64 bytes, and for a write its bytes. The
/// owner answers the hello with a grant of 160 bytes, and operations with replies: a header of 24 bytes, and for a read
/// its bytes. Replies come in the order of the operations, and one that carries number n acknowledges all up to n: a
/// write is acknowledged by itself only where no reply to a later operation is at hand to do it.
enum TCPWire {
  static let magic: UInt64 = 0x314b_4e4c_5352_4721
  static let version: UInt32 = 1
  static let helloSize = 24
  static let grantSize = 160
  static let operationSize = 64
  static let replySize = 24

  enum Kind: UInt32 {
    case write = 1
    case read = 2
  }

  struct Operation {
    var kind: UInt32 = 0
    var number: UInt64 = 0
    var token = RegionToken(high: 0, low: 0)
    var offset: UInt64 = 0
    var count: UInt64 = 0
    /// What the first eight bytes of a read are expected to become, 0 for no matter what.
    var awaiting: UInt64 = 0

    func store(in bytes: UnsafeMutableRawPointer) {
      bytes.storeBytes(of: UInt64(kind).littleEndian, as: UInt64.self)
      bytes.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
      bytes.storeBytes(of: token.high.littleEndian, toByteOffset: 16, as: UInt64.self)
      bytes.storeBytes(of: token.low.littleEndian, toByteOffset: 24, as: UInt64.self)
      bytes.storeBytes(of: offset.littleEndian, toByteOffset: 32, as: UInt64.self)
      bytes.storeBytes(of: count.littleEndian, toByteOffset: 40, as: UInt64.self)
      bytes.storeBytes(of: awaiting.littleEndian, toByteOffset: 48, as: UInt64.self)
      bytes.storeBytes(of: 0, toByteOffset: 56, as: UInt64.self)
    }

    init(
      kind: Kind, number: UInt64, token: RegionToken, offset: UInt64, count: UInt64, awaiting: UInt64
    ) {
      self.kind = kind.rawValue
      self.number = number
      self.token = token
      self.offset = offset
      self.count = count
      self.awaiting = awaiting
    }

    init(_ bytes: UnsafeRawPointer) {
      func word(_ index: Int) -> UInt64 {
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
      }
      kind = UInt32(truncatingIfNeeded: word(0))
      number = word(1)
      token = RegionToken(high: word(2), low: word(3))
      offset = word(4)
      count = word(5)
      awaiting = word(6)
    }
  }

  /// A reply: the operation's number, 0 or why it was refused, and how many bytes follow.
  struct Reply {
    var number: UInt64
    var status: UInt64
    var count: UInt64

    var words: [UInt64] { [number, status, count] }
  }

  /// The words of a hello: how many slots, and in the upper half of that word how long the client waits for an answer, in
  /// milliseconds, 0 where it does not say.
  static func hello(slots: Int, patience: Duration = .zero) -> [UInt64] {
    let time = UInt32(clamping: Int64(min(max(patience / .milliseconds(1), 0), 1e9)))
    return [magic, UInt64(version), UInt64(time) << 32 | UInt64(UInt32(clamping: slots))]
  }

  enum Hello: Equatable {
    case hello(slots: Int, patience: UInt32)
    case otherVersion(UInt64)
    case malformed
  }

  /// Reads the bytes of a hello.
  static func parseHello(_ bytes: [UInt8]) -> Hello {
    guard bytes.count == helloSize else { return .malformed }
    let words = (0..<helloSize / 8).map { index in
      bytes[index * 8..<index * 8 + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    guard words[0] == magic else { return .malformed }
    guard words[1] == UInt64(version) else { return .otherVersion(words[1]) }
    return .hello(
      slots: Int(UInt32(truncatingIfNeeded: words[2])), patience: UInt32(truncatingIfNeeded: words[2] >> 32))
  }

  /// The words of a grant, or of a refusal whose text is cut to 128 bytes.
  static func grant(_ grant: LinkGrant) -> [UInt64] {
    var words = [magic, UInt64(version), UInt64(grant.slots.lowerBound), UInt64(grant.slots.count)]
    for part in grant.parts {
      words += [
        part.token.high, part.token.low, UInt64(part.range.lowerBound), UInt64(part.range.count),
        UInt64(part.access.rawValue),
      ]
    }
    words.append(0)
    return words
  }

  static func refusal(_ text: String) -> [UInt64] {
    var bytes = [UInt8](text.utf8.prefix(128))
    bytes += [UInt8](repeating: 0, count: 128 - bytes.count)
    let words = bytes.withUnsafeBytes { buffer in
      (0..<16).map { UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
    }
    return [magic, UInt64(version), 0, 0] + words
  }

  enum GrantAnswer {
    case granted(LinkGrant)
    case refused(String)
    case malformed(String)
  }

  /// Reads the owner's answer to the hello.
  static func parseGrant(_ words: [UInt64]) -> GrantAnswer {
    guard words.count == grantSize / 8, words[0] == magic else { return .malformed("no grass monitor answered") }
    guard words[1] == UInt64(version) else { return .malformed("it speaks version \(words[1]), not \(version)") }
    if words[3] == 0 {
      let bytes = words[4...].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) } }
      return .refused(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))
    }
    let most = UInt64(RegionLayout.mostSlots)
    guard words[2] < most, words[3] <= most - words[2] else { return .malformed("it granted slots that cannot be") }
    var parts: [RemotePart] = []
    for index in 0..<3 {
      let at = 4 + index * 5
      // Far above any real region, far below any overflow.
      guard words[at + 2] < 1 << 48, words[at + 3] < 1 << 48 else { return .malformed("a part lies out of range") }
      parts.append(
        RemotePart(
          token: RegionToken(high: words[at], low: words[at + 1]),
          range: Int(words[at + 2])..<Int(words[at + 2] + words[at + 3]),
          access: .init(rawValue: UInt32(truncatingIfNeeded: words[at + 4]))))
    }
    return .granted(
      LinkGrant(
        slots: Int(words[2])..<Int(words[2] + words[3]), requests: parts[0], responses: parts[1], scratch: parts[2]))
  }
}
