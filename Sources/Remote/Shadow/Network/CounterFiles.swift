import Binding
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging

/// The lines of /proc/net/snmp, snmp6, netstat, sockstat, sockstat6 and softnet_stat: counters of a network namespace.
///
/// The kernel itself has tables of the counters' names and of their places in arrays that each CPU has of its own.
/// Source: net/ipv4/proc.c; net/ipv6/proc.c; net/mptcp/mib.c; net/core/net-procfs.c.
struct CounterFiles {
  let kernel: Kernel
  /// The `struct net`.
  let net: VirtualAddress
  private let cpus: [PerCPU.CPU]
  private let layout: StructLayout

  /// No table has as many counters.
  private static let most = 1024

  init(_ kernel: Kernel, _ net: VirtualAddress) throws {
    self.kernel = kernel
    self.net = net
    cpus = try kernel.cpus()
    layout = try kernel.types.structure("net")
  }

  private typealias Counter = (name: String, entry: Int, value: UInt64)

  /// The counters that the table `list` names, of the array of each CPU that `field` of the namespace leads to.
  ///
  /// Cost: four round trips.
  private func counters(_ list: String, _ field: String) throws -> [Counter] {
    let names = try names(list)
    guard let last = names.map(\.entry).max() else { return [] }
    let variable = try kernel.addressSpace.pointer(at: net + layout.field(field).offset)
    // Some are there only once they were used.
    guard variable.rawValue != 0 else { return names.map { ($0.name, $0.entry, 0) } }
    var batch = ReadBatch<VirtualAddress>()
    for cpu in cpus { batch.add(cpu.address(of: variable), count: (last + 1) * 8) }
    kernel.addressSpace.read(&batch)
    let words = try cpus.indices.map { try batch.words($0) }
    return names.map { name in
      (name.name, name.entry, words.reduce(0 as UInt64) { $0 &+ ($1[safe: name.entry] ?? 0) })
    }
  }

  /// Pairs of a name and a place; a pair without a name ends them, where the table does not.
  private func names(_ list: String) throws -> [(name: String, entry: Int)] {
    let table = try kernel.symbol(list, for: "the names of counters")
    let count = min(Self.most, kernel.size(of: list) / 16)
    let words = try kernel.addressSpace.read(table, count: count * 16).words
    let pairs = stride(from: 0, to: words.count - 1, by: 2).map { (words[$0], Int(words[$0 + 1] & 0xffff_ffff)) }
      .prefix { $0.0 != 0 && $0.1 < Self.most }
    let names = kernel.addressSpace.strings(at: pairs.map { VirtualAddress($0.0) })
    return try zip(pairs, names).map { (String(decoding: try $1.get(), as: UTF8.self), $0.1) }
  }

  private static func add(_ title: String, _ names: [String], _ values: [String], _ text: inout ProcText) {
    text.line(([title + ":"] + names).joined(separator: " "))
    text.line(([title + ":"] + values).joined(separator: " "))
  }

  private static func add(_ title: String, _ counters: [Counter], _ text: inout ProcText) {
    add(title, counters.map(\.name), counters.map { "\($0.value)" }, &text)
  }

  /// /proc/net/snmp.
  func version4() throws -> [UInt8] {
    var text = ProcText()
    let addresses = try counters("snmp4_ipstats_list", "mib.ip_statistics")
    let all = try kernel.struct(
      "ipv4_devconf", at: kernel.addressSpace.pointer(at: net + layout.field("ipv4.devconf_all").offset))
    // Element 0 is IPV4_DEVCONF_FORWARDING's.
    let forwarding: Int32 = try kernel.addressSpace.load(all.address + all.layout.field("data").offset)
    let life: UInt8 = try kernel.addressSpace.load(net + layout.field("ipv4.sysctl_ip_default_ttl").offset)
    Self.add(
      "Ip", ["Forwarding", "DefaultTTL"] + addresses.map(\.name),
      [forwarding == 1 ? "1" : "2", "\(life)"] + addresses.map { "\($0.value)" }, &text)
    try addMessages(&text)
    let tcp = try counters("snmp4_tcp_list", "mib.tcp_statistics")
    Self.add(
      "Tcp", tcp.map(\.name), tcp.map { $0.name == "MaxConn" ? "\(Int64(bitPattern: $0.value))" : "\($0.value)" }, &text
    )
    Self.add("Udp", try counters("snmp4_udp_list", "mib.udp_statistics"), &text)
    if layout.hasField("mib.udplite_statistics") {
      Self.add("UdpLite", try counters("snmp4_udp_list", "mib.udplite_statistics"), &text)
    }
    return text.bytes
  }

  /// Source: `icmp_put` and `icmpmsg_put`.
  private func addMessages(_ text: inout ProcText) throws {
    func number(_ name: String) throws -> Int { Int(max(0, min(Int64(Self.most - 1), try kernel.constant(name)))) }
    let variable = try kernel.addressSpace.pointer(at: net + layout.field("mib.icmp_statistics").offset)
    let kinds = try kernel.types.structure("icmp_mib").field("mibs").elementCount ?? 0
    var batch = ReadBatch<VirtualAddress>()
    for cpu in cpus { batch.add(cpu.address(of: variable), count: min(kinds, Self.most) * 8) }
    kernel.addressSpace.read(&batch)
    let words = try cpus.indices.map { try batch.words($0) }
    func total(_ name: String) throws -> String {
      let index = try number(name)
      return "\(words.reduce(0 as UInt64) { $0 &+ ($1[safe: index] ?? 0) })"
    }
    let messages = try kernel.addressSpace.read(
      kernel.addressSpace.pointer(at: net + layout.field("mib.icmpmsg_statistics").offset), count: 512 * 8
    ).words
    let types = try names("icmpmibmap")
    let limits =
      kernel.types.enumerator("ICMP_MIB_RATELIMITGLOBAL") == nil
      ? [] : [("OutRateLimitGlobal", "ICMP_MIB_RATELIMITGLOBAL"), ("OutRateLimitHost", "ICMP_MIB_RATELIMITHOST")]
    let received = [
      ("InMsgs", "ICMP_MIB_INMSGS"), ("InErrors", "ICMP_MIB_INERRORS"), ("InCsumErrors", "ICMP_MIB_CSUMERRORS"),
    ]
    let sent = [("OutMsgs", "ICMP_MIB_OUTMSGS"), ("OutErrors", "ICMP_MIB_OUTERRORS")] + limits
    Self.add(
      "Icmp", received.map(\.0) + types.map { "In\($0.name)" } + sent.map(\.0) + types.map { "Out\($0.name)" },
      try received.map { try total($0.1) } + types.map { "\(messages[safe: $0.entry] ?? 0)" }
        + sent.map { try total($0.1) } + types.map { "\(messages[safe: $0.entry | 0x100] ?? 0)" }, &text)
    let seen = messages.indices.filter { messages[$0] != 0 }
    for start in stride(from: 0, to: seen.count, by: 16) {
      let line = seen[start..<min(start + 16, seen.count)]
      Self.add(
        "IcmpMsg", line.map { "\($0 & 0x100 != 0 ? "Out" : "In")Type\($0 & 0xff)" }, line.map { "\(messages[$0])" },
        &text)
    }
  }

  /// /proc/net/netstat.
  func extended() throws -> [UInt8] {
    var text = ProcText()
    Self.add("TcpExt", try counters("snmp4_net_list", "mib.net_statistics"), &text)
    Self.add("IpExt", try counters("snmp4_ipextstats_list", "mib.ip_statistics"), &text)
    if layout.hasField("mib.mptcp_statistics") {
      Self.add("MPTcpExt", try counters("mptcp_snmp_list", "mib.mptcp_statistics"), &text)
    }
    return text.bytes
  }

  /// /proc/net/snmp6.
  func version6() throws -> [UInt8] {
    var text = ProcText()
    func add(_ name: String, _ value: UInt64) { text.line("\(ProcText.filled(name, 32))\t\(value)") }
    for counter in try counters("snmp6_ipstats_list", "mib.ipv6_statistics") { add(counter.name, counter.value) }
    for counter in try counters("snmp6_icmp6_list", "mib.icmpv6_statistics") { add(counter.name, counter.value) }
    let messages = try kernel.addressSpace.read(
      kernel.addressSpace.pointer(at: net + layout.field("mib.icmpv6msg_statistics").offset), count: 512 * 8
    ).words
    try addMessages6(messages, to: &text)
    for counter in try counters("snmp6_udp6_list", "mib.udp_stats_in6") { add(counter.name, counter.value) }
    if kernel.symbols.address(of: "snmp6_udplite6_list") != nil {
      for counter in try counters("snmp6_udplite6_list", "mib.udplite_stats_in6") { add(counter.name, counter.value) }
    }
    return text.bytes
  }

  /// The `inet6_dev` of an interface; nil where it has none, or shows none.
  func owner6(of interface: NetworkInterface) throws -> VirtualAddress? {
    let owner = try kernel.addressSpace.pointer(at: interface.device + kernel.offset(of: "ip6_ptr", in: "net_device"))
    guard owner.rawValue != 0 else { return nil }
    let entry = try kernel.addressSpace.pointer(at: owner + kernel.offset(of: "stats.proc_dir_entry", in: "inet6_dev"))
    return entry.rawValue == 0 ? nil : owner
  }

  /// /proc/net/dev_snmp6/NAME: the counters of one interface, of which only the first are each CPU's own.
  ///
  /// Source: net/ipv6/proc.c, `snmp6_dev_seq_show`.
  ///
  /// `hasLimits` says whether it counts the answers that a limit kept back.
  func version6(of owner: VirtualAddress, _ number: Int, hasLimits: Bool) throws -> [UInt8] {
    let space = kernel.addressSpace
    let layout = try kernel.types.structure("inet6_dev")
    var text = ProcText()
    func add(_ name: String, _ value: UInt64) { text.line("\(ProcText.filled(name, 32))\t\(value)") }
    add("ifIndex", UInt64(number))
    func array(_ field: String, _ count: Int) throws -> [UInt64] {
      try space.read(space.pointer(at: owner + layout.field("stats." + field).offset), count: count * 8).words
    }
    let packets = try names("snmp6_ipstats_list")
    let variable = try space.pointer(at: owner + layout.field("stats.ipv6").offset)
    var batch = ReadBatch<VirtualAddress>()
    let last = packets.map(\.entry).max() ?? 0
    for cpu in cpus { batch.add(cpu.address(of: variable), count: (last + 1) * 8) }
    space.read(&batch)
    let words = try cpus.indices.map { try batch.words($0) }
    for name in packets { add(name.name, words.reduce(0 as UInt64) { $0 &+ ($1[safe: name.entry] ?? 0) }) }
    let icmp = try names("snmp6_icmp6_list").filter { hasLimits || $0.name != "Icmp6OutRateLimitHost" }
    let totals = try array("icmpv6dev", (icmp.map(\.entry).max() ?? 0) + 1)
    for name in icmp { add(name.name, totals[safe: name.entry] ?? 0) }
    try addMessages6(try array("icmpv6msgdev", 512), to: &text)
    return text.bytes
  }

  /// Source: net/ipv6/proc.c, `snmp6_seq_show_icmpv6msg`.
  private func addMessages6(_ messages: [UInt64], to text: inout ProcText) throws {
    func add(_ name: String, _ value: UInt64) { text.line("\(ProcText.filled(name, 32))\t\(value)") }
    let names = try messageNames6()
    for (index, value) in messages.enumerated() {
      guard let name = names[index & 0xff] else { continue }
      add("Icmp6\(index & 0x100 != 0 ? "Out" : "In")\(name)", value)
    }
    for (index, value) in messages.enumerated() where value != 0 {
      add("Icmp6\(index & 0x100 != 0 ? "Out" : "In")Type\(index & 0xff)", value)
    }
  }

  /// What messages of ICMPv6 are called, by their types; later compilers make a branch of the kernel's table.
  private func messageNames6() throws -> [String?] {
    if kernel.symbols.address(of: "icmp6type2name") != nil { return try kernel.texts(in: "icmp6type2name", count: 256) }
    var names = [String?](repeating: nil, count: 256)
    for (type, name) in [
      (1, "DestUnreachs"), (2, "PktTooBigs"), (3, "TimeExcds"), (4, "ParmProblems"), (128, "Echos"),
      (129, "EchoReplies"), (130, "GroupMembQueries"), (131, "GroupMembResponses"), (132, "GroupMembReductions"),
      (133, "RouterSolicits"), (134, "RouterAdvertisements"), (135, "NeighborSolicits"),
      (136, "NeighborAdvertisements"), (137, "Redirects"), (143, "MLDv2Reports"),
    ] {
      names[type] = name
    }
    return names
  }

  /// /proc/net/xfrm_stat.
  ///
  /// Source: net/xfrm/xfrm_proc.c, `xfrm_statistics_seq_show`.
  func transforms() throws -> [UInt8] {
    var text = ProcText()
    for counter in try counters("xfrm_mib_list", "mib.xfrm_statistics") {
      text.line("\(ProcText.filled(counter.name, 24))\t\(counter.value)")
    }
    return text.bytes
  }

  // MARK: Sockets

  private struct Kind: KernelShape {
    static let type = "proto"
    let number = Field<UInt32>("inuse_idx"), memory = Field<VirtualAddress>("memory_allocated")
    let sockets = Field<VirtualAddress>("sockets_allocated")
  }

  private struct InUse: KernelShape {
    static let type = "prot_inuse"
    let counts = Place("val"), all = Place(optional: "all")
  }

  private func sum(_ variable: VirtualAddress) throws -> Int64 {
    var total: Int64 = 0
    for cpu in cpus { total &+= Int64(try kernel.addressSpace.load(cpu.address(of: variable), as: Int32.self)) }
    return max(0, total)
  }

  private func protocols(_ name: String) throws -> Reading<Kind> {
    try kernel.read(Kind.self, at: [kernel.symbol(name, for: "the protocols")])[0]
  }

  /// How many sockets of a protocol are in use in this namespace.
  private func inUse(_ name: String) throws -> Int64 {
    let index = try protocols(name).number
    guard index < 64 else { throw ShadowError.unreadable("a protocol with the number \(index)") }
    let variable = try kernel.addressSpace.pointer(at: net + layout.field("core.prot_inuse").offset)
    return try sum(variable + kernel.bound(InUse.self).counts.offset + Int(index) * 4)
  }

  /// Pages that a protocol's sockets take, of all namespaces.
  private func memory(_ name: String) throws -> Int64 {
    max(0, try kernel.addressSpace.load(protocols(name).memory, as: Int64.self))
  }

  private func fragments(_ field: String) throws -> String {
    let directory = try kernel.struct("fqdir", at: kernel.addressSpace.pointer(at: net + layout.field(field).offset))
    return "inuse \(try directory.unsigned("rhashtable.nelems") & 0xffff_ffff) memory \(try directory.unsigned("mem"))"
  }

  /// /proc/net/sockstat.
  func sockets4() throws -> [UInt8] {
    let shape = try kernel.bound(InUse.self)
    let all =
      shape.all.isPresent
      ? try sum(kernel.addressSpace.pointer(at: net + layout.field("core.prot_inuse").offset) + shape.all.offset)
      : try sum(kernel.addressSpace.pointer(at: net + layout.field("core.sock_inuse").offset))
    let orphans = try sum(kernel.symbol("tcp_orphan_count", for: "sockets without an owner"))
    // One more than those that wait.
    let waiting =
      layout.hasField("ipv4.tcp_death_row.tw_refcount")
      ? Int64(try kernel.addressSpace.load(net + layout.field("ipv4.tcp_death_row.tw_refcount").offset, as: Int32.self))
        - 1
      : Int64(try kernel.addressSpace.load(net + layout.field("ipv4.tcp_death_row.tw_count").offset, as: Int32.self))
    let allocated = try kernel.perCPUCounter(at: protocols("tcp_prot").sockets)
    var text = ProcText()
    text.line("sockets: used \(all)")
    text.line(
      "TCP: inuse \(try inUse("tcp_prot")) orphan \(orphans) tw \(waiting) alloc \(allocated) mem \(try memory("tcp_prot"))"
    )
    text.line("UDP: inuse \(try inUse("udp_prot")) mem \(try memory("udp_prot"))")
    if kernel.symbols.address(of: "udplite_prot") != nil { text.line("UDPLITE: inuse \(try inUse("udplite_prot"))") }
    text.line("RAW: inuse \(try inUse("raw_prot"))")
    text.line("FRAG: \(try fragments("ipv4.fqdir"))")
    return text.bytes
  }

  /// /proc/net/sockstat6.
  func sockets6() throws -> [UInt8] {
    var text = ProcText()
    for (name, variable) in [
      ("TCP6", "tcpv6_prot"), ("UDP6", "udpv6_prot"), ("UDPLITE6", "udplitev6_prot"), ("RAW6", "rawv6_prot"),
    ] where kernel.symbols.address(of: variable) != nil {
      text.line("\(name): inuse \(try inUse(variable))")
    }
    text.line("FRAG6: \(try fragments("ipv6.fqdir"))")
    return text.bytes
  }

  private struct Queue: KernelShape {
    static let type = "softnet_data"
    // Two counters that nodes share, from 6.18 on.
    let processed = Field<UInt32>("processed"), dropped = Field<UInt32>(optional: "dropped")
    let dropped0 = Field<UInt32>(optional: "drop_counters.drops0.counter")
    let dropped1 = Field<UInt32>(optional: "drop_counters.drops1.counter")
    let squeezed = Field<UInt32>("time_squeeze"), steered = Field<UInt32>("received_rps")
    let limit = Field<VirtualAddress?>(optional: "flow_limit")
    let input = Field<UInt32>("input_pkt_queue.qlen"), process = Field<UInt32>("process_queue.qlen")
  }

  private struct Limit: KernelShape {
    static let type = "sd_flow_limit"
    let count = Field<UInt32>("count")
  }

  /// /proc/net/softnet_stat, which is the same in all namespaces.
  static func queues(_ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let cpus = try kernel.cpus().filter(\.isOnline)
    let variable = try kernel.symbol("softnet_data", for: "the CPUs' queues of packets")
    var text = ProcText()
    for (cpu, queue) in zip(cpus, try kernel.read(Queue.self, at: cpus.map { $0.address(of: variable) })) {
      let limited = try queue.limit.map { try kernel.read(Limit.self, at: [$0])[0].count } ?? 0
      let (input, process) = (try queue.input, try queue.process)
      let dropped = try queue.dropped &+ queue.dropped0 &+ queue.dropped1
      var columns = [try queue.processed, dropped, try queue.squeezed, 0, 0, 0, 0, 0, 0]
      columns += [try queue.steered, limited, input &+ process, UInt32(cpu.number)]
      // The two queues by themselves from 6.4 on.
      if host.constants.isAtLeast(6, 4) { columns += [input, process] }
      text.line(columns.map { ProcText.hex(UInt64($0), 8) }.joined(separator: " "))
    }
    return text.bytes
  }
}
