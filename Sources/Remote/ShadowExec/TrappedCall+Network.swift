import Glibc
import NetworkViews
import Shadow

extension TrappedCall {
  /// Calls that ask of interfaces.
  static let networkCalls: [TrappedCall] = [
    // netdevice(7): 0x89 is the type of sockets' requests.
    TrappedCall("ioctl", when: [.masked(1, mask: 0xffff_ff00, 0x8900)]) { question, host in
      try interfaceRequest(question, host)
    }
  ]

  /// The requests of netdevice(7), by their numbers.
  private enum Request: Int32 {
    case name = 0x8910, list = 0x8912, flags = 0x8913, address = 0x8915, peer = 0x8917, broadcast = 0x8919
    case mask = 0x891b, metric = 0x891d, mtu = 0x8921, hardware = 0x8927, index = 0x8933, queue = 0x8942, map = 0x8970
  }

  private static func interfaceRequest(_ question: Question, _ host: Host) throws -> Reply {
    let number = question.number(1)
    guard let request = Request(rawValue: number) else {
      // Those of the program's own sockets: how much waits in them, who owns them.
      if number < 0x890b { return .own }
      return .refused(EOPNOTSUPP, "ask of an interface by request 0x\(String(number, radix: 16))")
    }
    let interfaces = try host.answers.network().interfaces
    if request == .list { return try list(interfaces, question) }

    // `ifreq`: a name of sixteen bytes, and a value of at most 24.
    let asked = try question.read(question.arguments[2], count: 40)
    func interface(_ isChosen: (NetworkInterface) -> Bool) throws(CallError) -> NetworkInterface {
      guard let found = interfaces.first(where: isChosen) else { throw CallError(ENODEV) }
      return found
    }
    if request == .name {
      let index = asked[16..<20].reversed().reduce(0) { $0 << 8 | Int32($1) }
      var bytes = StructBytes()
      bytes.add(try interface { $0.index == index }.name, in: 16)
      try question.write(bytes.bytes, at: question.arguments[2])
      return .value(0)
    }
    // What follows a colon is an address's label.
    let name = asked[..<16].prefix { $0 != 0 && $0 != UInt8(ascii: ":") }
    let chosen = try interface { $0.name.elementsEqual(name) }
    let ip = chosen.addresses.first { $0.address.bytes.count == 4 }
    func ipv4() throws(CallError) -> NetworkInterface.Address {
      guard let ip else { throw CallError(EADDRNOTAVAIL) }
      return ip
    }
    var value = StructBytes()
    switch request {
    case .flags: value.add(UInt16(truncatingIfNeeded: chosen.shownFlags))
    case .address: value.add(internet: try ipv4().address.bytes)
    case .peer: value.add(internet: (try ipv4().peer ?? ipv4().address).bytes)
    case .mask: value.add(internet: Self.mask(try ipv4().prefixLength))
    case .broadcast:
      let own = try ipv4()
      value.add(internet: zip(own.address.bytes, Self.mask(own.prefixLength)).map { $0 | ~$1 })
    case .metric: value.add(Int32(0))
    case .mtu: value.add(Int32(bitPattern: chosen.mtu))
    case .index: value.add(chosen.index)
    case .hardware:
      value.add(chosen.type)
      for byte in chosen.hardwareAddress.bytes.prefix(14) { value.add(byte) }
    case .queue: value.add(Int32(bitPattern: chosen.link.queueLength))
    // `ifmap`: addresses and lines of the bus, of which cards of today say nothing.
    case .map: for _ in 0..<3 { value.add(UInt64(0)) }
    case .name, .list: throw CallError(EINVAL)
    }
    try question.write(value.bytes, at: question.arguments[2] &+ 16)
    return .value(0)
  }

  /// All that have an IPv4 address, as SIOCGIFCONF lists them.
  private static func list(_ interfaces: [NetworkInterface], _ question: Question) throws -> Reply {
    // `ifconf`: a length, and from byte 8 on where there is room.
    let asked = try question.read(question.arguments[2], count: 16)
    func word(_ range: Range<Int>) -> UInt64 { asked[range].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
    let (room, place) = (Int(Int32(truncatingIfNeeded: word(0..<4))), word(8..<16))
    var entries = StructBytes()
    for interface in interfaces {
      for address in interface.addresses where address.address.bytes.count == 4 {
        guard place == 0 || entries.bytes.count + 40 <= room else { break }
        entries.add(interface.name, in: 16)
        entries.add(internet: address.address.bytes)
        entries.add(UInt64(0))
      }
    }
    if place != 0 { try question.write(entries.bytes, at: place) }
    var length = StructBytes()
    length.add(Int32(entries.bytes.count))
    try question.write(length.bytes, at: question.arguments[2])
    return .value(0)
  }

  private static func mask(_ length: Int) -> [UInt8] {
    let bits = length <= 0 ? 0 : UInt32.max << UInt32(max(0, 32 - length))
    return (0..<4).map { UInt8(truncatingIfNeeded: bits >> UInt32(24 - $0 * 8)) }
  }
}

extension NetworkInterface {
  /// The flags as the kernel shows them: promiscuous mode only where an administrator asked for it.
  ///
  /// Source: net/core/dev.c, `dev_get_flags`.
  var shownFlags: UInt32 {
    // IFF_RUNNING 0x40, IFF_PROMISC 0x100, IFF_ALLMULTI 0x200, IFF_LOWER_UP 0x10000, IFF_DORMANT 0x20000.
    var shown = flags & ~0x3_0340 | link.ownFlags & 0x300
    guard link.state & 1 != 0 else { return shown }
    // Most virtual devices never tell their state, and are taken for up.
    if operationalState == 6 || operationalState == 0 { shown |= 0x40 }
    if link.state & 1 << 2 == 0 { shown |= 0x1_0000 }
    if link.state & 1 << 4 != 0 { shown |= 0x2_0000 }
    return shown
  }
}

extension StructBytes {
  /// A `sockaddr_in`.
  mutating func add(internet address: [UInt8]) {
    add(UInt16(AF_INET))
    add(UInt16(0))
    for byte in address.prefix(4) { add(byte) }
    add(UInt64(0))
  }
}
