import Glibc
import NetworkViews
import Shadow

/// The route that the host's kernel would take to an address of IPv4, for a packet of its own with nothing else said of it.
///
/// Source: net/core/fib_rules.c, `fib_rules_lookup`; net/ipv4/route.c, `rt_fill_info`.
struct RouteChoice {
  private let network: NetworkConfiguration
  private let rules: [RoutingRule]

  init(_ network: NetworkConfiguration, _ rules: [RoutingRule]) {
    self.network = network
    self.rules = rules.filter { $0.family == 2 }
  }

  /// The body of the answer; nil where more is asked than for a destination.
  ///
  /// - Throws: ``CallError``, with what the kernel says where there is no way.
  func answer(_ request: NetlinkMessage) throws -> [UInt8]? {
    let attributes = request.attributes(from: 12)
    // RTA_DST, and RTA_UID, which `ip` sends along.
    guard request.number(0, as: UInt8.self) == 2, let destination = attributes[1], destination.count == 4,
      Set(attributes.keys).isSubset(of: [1, 25])
    else { return nil }
    guard let route = try route(to: destination) else { throw CallError(ENETUNREACH) }
    let link = network.interfaces.first { $0.name == route.interface }
    var bytes = StructBytes()
    for byte in [2, 32, 0, 0] as [UInt8] { bytes.add(byte) }
    // RTM_F_LOOKUP_TABLE asks for the table that it was found in; else it is said to be the main one. So it is of the local one, too,
    // as long as nobody has made rules: the two are searched as one then (`fib_lookup`).
    let isPlain = rules.map(\.table) == [255, 254, 253] && rules.map(\.priority) == [0, 32766, 32767]
    let isTold = request.number(8, as: UInt32.self) & 0x1000 != 0
    let table = isTold && !(isPlain && route.table == 255) ? route.table : 254
    bytes.add(table < 256 ? UInt8(table) : 252)
    for byte in [0, 0, route.type] { bytes.add(byte) }
    // RTM_F_CLONED, and RTCF_LOCAL, RTCF_BROADCAST or RTCF_MULTICAST.
    let kinds: [UInt8: UInt32] = [2: 0x8000_0000, 3: 0x1000_0000, 5: 0x2000_0000]
    bytes.add(kinds[route.type, default: 0] | 0x200)
    bytes.add(15, table)
    bytes.add(1, destination)
    if let link {
      bytes.add(4, link.index)
      if let source = source(of: route, to: destination, link) { bytes.add(7, source) }
    }
    if let gateway = route.gateway?.bytes, gateway.count == 4 { bytes.add(5, gateway) }
    bytes.add(25, UInt32(0))
    // RTA_CACHEINFO: nothing of it has been kept.
    bytes.add(12, [UInt8](repeating: 0, count: 32))
    return bytes.bytes
  }

  private static func matches(_ address: [UInt8], _ prefix: [UInt8], _ length: Int) -> Bool {
    guard length > 0 else { return true }
    func word(_ bytes: [UInt8]) -> UInt32 { bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }
    return (word(address) ^ word(prefix)) >> UInt32(max(0, 32 - length)) == 0
  }

  /// Rule by rule; of the routes of a table those with the longest prefix, and of these the one with the least metric.
  private func route(to destination: [UInt8]) throws -> Route? {
    var next = 0
    var steps = 0
    while next < rules.count, steps <= rules.count {
      let rule = rules[next]
      (next, steps) = (next + 1, steps + 1)
      // Packets of the host's own come from its loopback interface, without a mark and from no address yet.
      let applies =
        (rule.input.isEmpty || rule.input == Array("lo".utf8)) && rule.output.isEmpty && rule.mark == 0
        && rule.sourcePrefix == 0 && rule.protocolNumber == 0 && rule.tunnel == 0 && rule.typeOfService == 0
        && !rule.isOfDomains
        && Self.matches(destination, rule.destination.bytes, Int(rule.destinationPrefix))
      // FIB_RULE_INVERT.
      guard applies != (rule.flags & 2 != 0) else { continue }
      switch rule.action {
      case 1:
        let found = network.routes.filter {
          $0.destination.bytes.count == 4 && $0.table == rule.table
            && Self.matches(destination, $0.destination.bytes, $0.prefixLength)
        }
        let best = found.min { ($1.prefixLength, $0.metric) < ($0.prefixLength, $1.metric) }
        guard let best, best.prefixLength > Int(rule.suppressedPrefix) else { continue }
        switch best.type {
        case 6: throw CallError(EINVAL)
        case 7: throw CallError(EHOSTUNREACH)
        case 8: throw CallError(EACCES)
        case 9: continue
        default: return best
        }
      case 2: next = rules.firstIndex { $0.priority == rule.target } ?? next
      case 6: throw CallError(EINVAL)
      case 7: throw CallError(ENETUNREACH)
      case 8: throw CallError(EACCES)
      default: continue
      }
    }
    return nil
  }

  /// The address that packets are sent from: the route's, else the interface's own on the same net, else its first.
  private func source(of route: Route, to destination: [UInt8], _ link: NetworkInterface) -> [UInt8]? {
    if let source = route.preferredSource { return source.bytes }
    if route.type == 2 { return destination }
    let own = link.addresses.filter { $0.address.bytes.count == 4 }
    let goal = route.gateway?.bytes ?? destination
    return (own.first { Self.matches(goal, $0.address.bytes, $0.prefixLength) } ?? own.first)?.address.bytes
  }
}
