import Binding
import KernelInfo
import LinuxKernel
import Memory
public import NetworkViews
import Paging

/// A rule that says by which table of routes a packet goes.
///
/// Source: net/core/fib_rules.c, `fib_nl_fill_rule`; numbers are those of include/uapi/linux/fib_rules.h.
public struct RoutingRule: Sendable {
  /// AF_INET or AF_INET6.
  public var family: UInt8
  /// The lower one is asked first.
  public var priority: UInt32
  public var table: UInt32
  /// `FR_ACT_TO_TBL` is 1, `FR_ACT_GOTO` 2.
  public var action: UInt8
  /// Who made it: 2 is the kernel.
  public var origin: UInt8
  public var flags: UInt32
  public var source, destination: NetworkAddress
  public var sourcePrefix, destinationPrefix: UInt8
  public var typeOfService: UInt8
  /// Names of interfaces, empty for any.
  public var input, output: [UInt8]
  public var mark, markMask: UInt32
  /// The priority that `FR_ACT_GOTO` goes on with, and whether it does.
  public var target: UInt32
  public var hasTarget: Bool
  /// Routes with prefixes no longer than this, and of this group of interfaces, count as none; -1 for neither.
  public var suppressedPrefix, suppressedGroup: Int32
  public var protocolNumber: UInt8
  /// First and last, zero for any.
  public var sourcePorts, destinationPorts: [UInt16]
  /// First and last; all bits for any.
  public var users: [UInt32]
  public var tunnel: UInt64
  public var isOfDomains: Bool
}

/// Reads the rules of a network namespace.
struct RoutingRuleReader: KernelReader {
  static let subject = "the rules of routing"

  private struct Net: KernelShape {
    static let type = "net"
    let rules = Place("rules_ops")
  }

  private struct Family: KernelShape {
    static let type = "fib_rules_ops"
    let link = Place("list"), number = Field<Int32>("family"), rules = Place("rules_list")
  }

  private struct Rule: KernelShape {
    static let type = "fib_rule"
    let link = Place("list"), mark = Field<UInt32>("mark"), markMask = Field<UInt32>("mark_mask")
    let inputIndex = Field<Int32>("iifindex"), outputIndex = Field<Int32>("oifindex")
    let flags = Field<UInt32>("flags"), table = Field<UInt32>("table"), action = Field<UInt8>("action")
    let domains = Field<UInt8>(optional: "l3mdev"), origin = Field<UInt8>("proto"), number = Field<UInt8>("ip_proto")
    let target = Field<UInt32>("target"), goal = Field<VirtualAddress>("ctarget"), priority = Field<UInt32>("pref")
    let suppressedGroup = Field<Int32>("suppress_ifgroup"), suppressedPrefix = Field<Int32>("suppress_prefixlen")
    let input = Field<RawBytes>("iifname"), output = Field<RawBytes>("oifname")
    let firstUser = Field<UInt32>("uid_range.start.val"), lastUser = Field<UInt32>("uid_range.end.val")
    let sourceFirst = Field<UInt16>("sport_range.start"), sourceLast = Field<UInt16>("sport_range.end")
    let destinationFirst = Field<UInt16>("dport_range.start"), destinationLast = Field<UInt16>("dport_range.end")
    let tunnel = Field<UInt64>("tun_id")
  }

  private struct Rule4: KernelShape {
    static let type = "fib4_rule"
    let common = Place("common"), sourcePrefix = Field<UInt8>("src_len"), prefix = Field<UInt8>("dst_len")
    let source = Field<RawBytes>("src"), destination = Field<RawBytes>("dst")
    let service = Field<UInt8>("dscp", before: "5.18", "tos")
  }

  private struct Rule6: KernelShape {
    static let type = "fib6_rule"
    let common = Place("common"), source = Field<RawBytes>("src.addr"), destination = Field<RawBytes>("dst.addr")
    let sourcePrefix = Field<Int32>("src.plen"), prefix = Field<Int32>("dst.plen")
    let service = Field<UInt8>("dscp", before: "5.18", "tclass")
  }

  private let net: Bound<Net>, family: Bound<Family>, rule: Bound<Rule>
  private let rule4: Bound<Rule4>, rule6: Bound<Rule6>
  /// More rules than any host has.
  private static let most = 1 << 16

  init(kernel: Kernel) throws {
    let types = kernel.types
    (net, family, rule) = try types.bind()
    (rule4, rule6) = (try Bound(types), try Bound(types))
  }

  /// The rules of the namespace at `address`, of IPv4 and IPv6, in the order in which they are asked.
  ///
  /// Cost: a round trip for each rule of a family.
  func read(_ address: VirtualAddress, in space: AddressSpace) throws -> [RoutingRule] {
    var faults: [MemoryFault] = []
    var found: [RoutingRule] = []
    let families = space.list(
      of: family, through: \.link, head: address + net.rules.offset, limit: 64, &faults)
    for kind in families {
      let number = try kind.number
      guard number == 2 || number == 10 else { continue }
      let rules = space.list(
        of: rule, through: \.link, head: kind.address(of: \.rules), limit: Self.most, &faults)
      let own4 = space.read(rule4, at: number == 2 ? rules.map { start(of: $0.address, rule4.common) } : [])
      let own6 = space.read(rule6, at: number == 10 ? rules.map { start(of: $0.address, rule6.common) } : [])
      for rule in rules {
        var result = try Self.common(rule, family: UInt8(number))
        if number == 2 {
          let own = own4[rule.index]
          (result.sourcePrefix, result.destinationPrefix) = (try own.sourcePrefix, try own.prefix)
          result.source = NetworkAddress(bytes: try own.source.bytes)
          result.destination = NetworkAddress(bytes: try own.destination.bytes)
          result.typeOfService = try own.service
        } else {
          let own = own6[rule.index]
          result.sourcePrefix = UInt8(clamping: try own.sourcePrefix)
          result.destinationPrefix = UInt8(clamping: try own.prefix)
          result.source = NetworkAddress(bytes: try own.source.bytes)
          result.destination = NetworkAddress(bytes: try own.destination.bytes)
          result.typeOfService = try own.service
        }
        found.append(result)
      }
    }
    if let fault = faults.first { throw fault }
    return found
  }

  private func start(of rule: VirtualAddress, _ common: Place) -> VirtualAddress {
    VirtualAddress(rule.rawValue &- UInt64(common.offset))
  }

  private static func common(_ rule: Reading<Rule>, family: UInt8) throws -> RoutingRule {
    func name(_ bytes: RawBytes) -> [UInt8] { Array(bytes.bytes.prefix { $0 != 0 }) }
    var flags = try rule.flags
    let (input, output) = (name(try rule.input), name(try rule.output))
    // FIB_RULE_UNRESOLVED, FIB_RULE_IIF_DETACHED and FIB_RULE_OIF_DETACHED: what it names is not there now.
    let isGoto = try rule.action == 2
    if isGoto, try rule.goal.rawValue == 0 { flags |= 4 }
    if !input.isEmpty, try rule.inputIndex == -1 { flags |= 8 }
    if !output.isEmpty, try rule.outputIndex == -1 { flags |= 16 }
    return RoutingRule(
      family: family, priority: try rule.priority, table: try rule.table, action: try rule.action,
      origin: try rule.origin, flags: flags, source: NetworkAddress(bytes: []),
      destination: NetworkAddress(bytes: []), sourcePrefix: 0, destinationPrefix: 0, typeOfService: 0, input: input,
      output: output, mark: try rule.mark, markMask: try rule.markMask, target: try rule.target,
      hasTarget: isGoto, suppressedPrefix: try rule.suppressedPrefix,
      suppressedGroup: try rule.suppressedGroup, protocolNumber: try rule.number,
      sourcePorts: [try rule.sourceFirst, try rule.sourceLast],
      destinationPorts: [try rule.destinationFirst, try rule.destinationLast],
      users: [try rule.firstUser, try rule.lastUser], tunnel: try rule.tunnel, isOfDomains: try rule.domains != 0)
  }
}
