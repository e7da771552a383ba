import Glibc
import NetworkViews
import Shadow

/// Answers of rtnetlink(7): what `ip` asks.
///
/// Source: include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, fib_rules.h; net/core/rtnetlink.c, `rtnl_fill_ifinfo`.
enum RouteMessages {
  /// Requests, and what comes as an answer to each.
  private enum Request: UInt16 {
    case link = 18, address = 22, route = 26, neighbour = 30, rule = 34
    /// Of each NEW, DEL, GET and SET the first is the answer.
    var answer: UInt16 { rawValue - 2 }
  }

  /// The bodies of the answers, and their type; nil where nothing is known of such requests.
  static func answer(_ request: NetlinkMessage, _ answers: HostAnswers) throws -> (type: UInt16, bodies: [[UInt8]])? {
    guard let kind = Request(rawValue: request.type) else { return nil }
    let family = request.number(0, as: UInt8.self)
    let isDump = request.flags & NetlinkMessage.Flag.dump == NetlinkMessage.Flag.dump
    let bodies: [[UInt8]]
    switch kind {
    case .link:
      var links = try answers.network().interfaces.sorted { $0.index < $1.index }
      if !isDump { links = [try chosen(links, request)] }
      // Of bridges, which is what other families ask for here, nothing is known.
      guard family == 0 || family == 17 || !isDump else { return nil }
      bodies = links.map(link)
    case .address:
      bodies = try answers.network().interfaces.sorted { $0.index < $1.index }.flatMap { interface in
        interface.addresses.filter { family == 0 || self.family($0.address) == family }
          .sorted { $0.address.bytes.count < $1.address.bytes.count }.map { address($0, of: interface) }
      }
    case .route:
      let network = try answers.network()
      // A question about one destination asks for the kernel's choice.
      guard isDump else {
        guard let chosen = try RouteChoice(network, answers.routingRules()).answer(request) else { return nil }
        return (kind.answer, [chosen])
      }
      // Of IPv4 in the order of addresses, table by table, as the kernel walks through them.
      let routes = network.routes.filter { family == 0 || self.family($0.destination) == family }.enumerated()
      func place(_ route: Route) -> [UInt8] {
        route.destination.bytes.count == 4 ? [0, UInt8(route.table & 0xff)] + route.destination.bytes : [1]
      }
      bodies = routes.sorted {
        let (one, two) = (place($0.element), place($1.element))
        return one == two ? $0.offset < $1.offset : one.lexicographicallyPrecedes(two)
      }.map { self.route($0.element, network.interfaces) }
    case .neighbour:
      guard isDump else { return nil }
      let network = try answers.network()
      bodies = network.neighbours.filter { family == 0 || self.family($0.address) == family }.compactMap { neighbour in
        self.neighbour(neighbour, network.interfaces)
      }
    case .rule:
      guard isDump else { return nil }
      bodies = try answers.routingRules().filter { family == 0 || $0.family == family }.map(rule)
    }
    return (kind.answer, bodies)
  }

  private static func family(_ address: NetworkAddress) -> UInt8 { address.bytes.count == 16 ? 10 : 2 }

  /// The interface that a request names by its number or its name.
  private static func chosen(
    _ links: [NetworkInterface], _ request: NetlinkMessage
  ) throws(CallError) -> NetworkInterface {
    let index: Int32 = request.number(4)
    let attributes = request.attributes(from: 16)
    // IFLA_IFNAME and IFLA_ALT_IFNAME.
    let name = (attributes[3] ?? attributes[53]).map { Array($0.prefix { $0 != 0 }) }
    let found = links.first { index != 0 ? $0.index == index : $0.name == name }
    guard let found else { throw CallError(ENODEV) }
    return found
  }

  private static func link(_ link: NetworkInterface) -> [UInt8] {
    var bytes = StructBytes()
    bytes.add(UInt16(0))
    bytes.add(link.type)
    bytes.add(link.index)
    bytes.add(link.shownFlags)
    bytes.add(UInt32(0))
    bytes.add(3, text: link.name)
    bytes.add(13, link.link.queueLength)
    bytes.add(16, link.operationalState)
    bytes.add(17, link.link.mode)
    bytes.add(4, link.mtu)
    bytes.add(27, link.link.group)
    bytes.add(30, link.promiscuity)
    bytes.add(61, link.allMulticast)
    bytes.add(33, UInt8(link.link.state & 1 << 2 == 0 ? 1 : 0))
    if !link.link.queueing.isEmpty { bytes.add(6, text: link.link.queueing) }
    if !link.hardwareAddress.bytes.isEmpty {
      bytes.add(1, link.hardwareAddress.bytes)
      bytes.add(2, link.link.broadcast)
    }
    if let counters = link.counters {
      // `rtnl_link_stats64`: of its 24 numbers those that are known, in its order; the first four.
      let known = [
        counters.receivedPackets, counters.sentPackets, counters.receivedBytes, counters.sentBytes,
      ]
      var statistics = StructBytes()
      for index in 0..<25 { statistics.add(index < known.count ? known[index] : 0) }
      bytes.add(23, statistics.bytes)
    }
    return bytes.bytes
  }

  private static func address(_ address: NetworkInterface.Address, of link: NetworkInterface) -> [UInt8] {
    let is6 = address.address.bytes.count == 16
    var bytes = StructBytes()
    bytes.add(family(address.address))
    bytes.add(UInt8(clamping: address.prefixLength))
    bytes.add(UInt8(truncatingIfNeeded: address.flags))
    // IPv6 keeps its scopes in bits of another sense (net/ipv6/addrconf.c, `rt_scope`).
    let scope: UInt8 =
      !is6
      ? address.scope
      : address.scope & 0x10 != 0
        ? 254
        : address.scope & 0x20 != 0
          ? 253
          : address.scope & 0x40 != 0 ? 200 : 0
    bytes.add(scope)
    bytes.add(link.index)
    // IFA_ADDRESS, IFA_LOCAL.
    if is6 {
      if let peer = address.peer {
        bytes.add(2, address.address.bytes); bytes.add(1, peer.bytes)
      } else {
        bytes.add(1, address.address.bytes)
      }
    } else {
      bytes.add(1, (address.peer ?? address.address).bytes)
      bytes.add(2, address.address.bytes)
      if let broadcast = address.broadcast { bytes.add(4, broadcast.bytes) }
      if !address.label.isEmpty { bytes.add(3, text: address.label) }
    }
    bytes.add(8, address.flags)
    let isPermanent = address.flags & 0x80 != 0
    var times = StructBytes()
    times.add(isPermanent ? UInt32.max : address.preferredLifetime)
    times.add(isPermanent ? UInt32.max : address.validLifetime)
    for _ in 0..<2 { times.add(UInt32(0)) }
    bytes.add(6, times.bytes)
    return bytes.bytes
  }

  private static func route(_ route: Route, _ links: [NetworkInterface]) -> [UInt8] {
    let family = family(route.destination)
    var bytes = StructBytes()
    bytes.add(family)
    bytes.add(UInt8(clamping: route.prefixLength))
    bytes.add(UInt16(0))
    bytes.add(route.table < 256 ? UInt8(route.table) : 252)
    for byte in [route.origin, route.scope, route.type] { bytes.add(byte) }
    bytes.add(UInt32(0))
    bytes.add(15, route.table)
    if route.prefixLength > 0 { bytes.add(1, route.destination.bytes) }
    if route.metric != 0 || family == 10 { bytes.add(6, route.metric) }
    if let source = route.preferredSource { bytes.add(7, source.bytes) }
    if let gateway = route.gateway {
      if self.family(gateway) == family {
        bytes.add(5, gateway.bytes)
      } else {
        // RTA_VIA: a family, and the address.
        var via = StructBytes()
        via.add(UInt16(self.family(gateway)))
        bytes.add(18, via.bytes + gateway.bytes)
      }
    }
    if let link = links.first(where: { $0.name == route.interface }) { bytes.add(4, link.index) }
    // RTA_PREF: what routers announced of themselves is not known, and the middle one is what all others have.
    if family == 10 { bytes.add(20, UInt8(0)) }
    return bytes.bytes
  }

  private static func rule(_ rule: RoutingRule) -> [UInt8] {
    var bytes = StructBytes()
    for byte in [rule.family, rule.destinationPrefix, rule.sourcePrefix, rule.typeOfService] { bytes.add(byte) }
    bytes.add(rule.table < 256 ? UInt8(rule.table) : 252)
    bytes.add(UInt16(0))
    bytes.add(rule.action)
    bytes.add(rule.flags)
    bytes.add(15, rule.table)
    bytes.add(14, rule.suppressedPrefix)
    bytes.add(21, rule.origin)
    if !rule.input.isEmpty { bytes.add(3, text: rule.input) }
    if !rule.output.isEmpty { bytes.add(17, text: rule.output) }
    if rule.priority != 0 { bytes.add(6, rule.priority) }
    if rule.mark != 0 { bytes.add(10, rule.mark) }
    if rule.mark != 0 || rule.markMask != 0 { bytes.add(16, rule.markMask) }
    if rule.hasTarget { bytes.add(4, rule.target) }
    if rule.tunnel != 0 { bytes.add(12, rule.tunnel) }
    if rule.isOfDomains { bytes.add(19, UInt8(1)) }
    /// A range of numbers, as the kernel lays it out.
    func range(_ type: UInt16, _ values: [some FixedWidthInteger]) {
      var range = StructBytes()
      for value in values { range.add(value) }
      bytes.add(type, range.bytes)
    }
    if rule.users != [0, .max] { range(20, rule.users) }
    if rule.suppressedGroup != -1 { bytes.add(13, rule.suppressedGroup) }
    if rule.protocolNumber != 0 { bytes.add(22, rule.protocolNumber) }
    if rule.sourcePorts != [0, 0] { range(23, rule.sourcePorts) }
    if rule.destinationPorts != [0, 0] { range(24, rule.destinationPorts) }
    if rule.destinationPrefix != 0 { bytes.add(1, rule.destination.bytes) }
    if rule.sourcePrefix != 0 { bytes.add(2, rule.source.bytes) }
    return bytes.bytes
  }

  private static func neighbour(_ neighbour: Neighbour, _ links: [NetworkInterface]) -> [UInt8]? {
    guard let link = links.first(where: { $0.name == neighbour.interface }) else { return nil }
    var bytes = StructBytes()
    bytes.add(UInt32(family(neighbour.address)))
    bytes.add(link.index)
    bytes.add(UInt16(neighbour.state))
    bytes.add(UInt16(0))
    bytes.add(1, neighbour.address.bytes)
    // Nothing of its own is known before it has answered: NUD_VALID.
    if neighbour.state & 0xde != 0 { bytes.add(2, neighbour.hardwareAddress.bytes) }
    return bytes.bytes
  }
}
