import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging

/// The files of /proc/net that say which protocols there are, and count what they and their tables do.
struct ProtocolFiles {
  let host: ShadowHost
  /// The `struct net`.
  let net: VirtualAddress

  private var kernel: Kernel { host.kernel }
  private var space: AddressSpace { kernel.addressSpace }

  /// More than any list here has.
  private static let most = 1 << 16

  // MARK: Protocols

  private struct Kind: KernelShape {
    static let type = "proto"
    let link = Place("node"), name = Field<[UInt8]>("name"), size = Field<UInt32>("obj_size")
    let number = Field<UInt32>("inuse_idx"), memory = Field<VirtualAddress>("memory_allocated")
    let pressure = Field<VirtualAddress>("memory_pressure"), header = Field<UInt32>("max_header")
    let cache = Field<VirtualAddress>("slab"), owner = Field<VirtualAddress>("owner")
  }

  /// What a protocol may do, by the function that does it, with the letters that say so; some come and go with kernels.
  private static let methods: [(field: String, letters: String)] = [
    ("close", "cl"), ("connect", "co"), ("disconnect", "di"), ("accept", "ac"), ("ioctl", "io"), ("init", "in"),
    ("destroy", "de"), ("shutdown", "sh"), ("setsockopt", "ss"), ("getsockopt", "gs"), ("sendmsg", "se"),
    ("recvmsg", "re"), ("sendpage", "sp"), ("bind", "bi"), ("backlog_rcv", "br"), ("hash", "ha"), ("unhash", "uh"),
    ("get_port", "gp"), ("enter_memory_pressure", "em"),
  ]

  /// /proc/net/protocols.
  ///
  /// Source: net/core/sock.c, `proto_seq_printf`.
  func protocols() throws -> [UInt8] {
    var faults: [MemoryFault] = []
    let kinds = space.list(
      of: try kernel.bound(Kind.self), through: \.link, head: try kernel.symbol("proto_list", for: "the protocols"),
      limit: 4096, &faults)
    if let fault = faults.first { throw fault }
    let layout = try kernel.types.structure("proto")
    let methods = Self.methods.filter { layout.hasField($0.field) }
    var batch = ReadBatch<VirtualAddress>()
    for kind in kinds {
      for method in methods { batch.add(kind.address + (try layout.field(method.field).offset), count: 8) }
    }
    space.read(&batch)
    let owners = try names(ofModules: kinds.pointers(\.owner))
    let counts = try sockets()
    var text = ProcText()
    text.line(
      "protocol  size sockets  memory press maxhdr  slab module     \(methods.map(\.letters).joined(separator: " "))")
    for (index, kind) in kinds.enumerated() {
      let memory = try kind.memory
      let used = memory.rawValue == 0 ? -1 : max(0, try space.load(memory, as: Int64.self))
      let pressure = try kind.pressure
      let press = pressure.rawValue == 0 ? "NI" : try space.load(pressure, as: Int32.self) != 0 ? "yes" : "no"
      var line = ProcText.filled(String(decoding: try kind.name, as: UTF8.self), 9)
      line +=
        " " + ProcText.padded("\(try kind.size)", 4) + " "
        + ProcText.padded("\(counts[safe: Int(try kind.number)] ?? 0)", 6)
      line += "  " + ProcText.padded("\(used)", 6) + "   " + ProcText.filled(press, 3) + " "
      line += ProcText.padded("\(try kind.header)", 6) + "   " + (try kind.cache.rawValue == 0 ? "no " : "yes") + "  "
      line += ProcText.filled(owners[index], 10)
      for method in methods.indices {
        let has = try batch.reader(index * methods.count + method).u64(0) != 0
        line += has ? "  y" : "  n"
      }
      text.line(line)
    }
    return text.bytes
  }

  private func names(ofModules modules: [VirtualAddress]) throws -> [String] {
    guard modules.contains(where: { $0.rawValue != 0 }) else { return modules.map { _ in "kernel" } }
    let offset = try kernel.offset(of: "name", in: "module")
    let names = space.strings(at: modules.map { $0.rawValue == 0 ? $0 : $0 + offset }, limit: 56)
    return try zip(modules, names).map {
      $0.rawValue == 0 ? "kernel" : String(decoding: try $1.get(), as: UTF8.self)
    }
  }

  /// How many sockets of each protocol this namespace has, by the protocols' numbers.
  ///
  /// Source: net/core/sock.c, `sock_prot_inuse_get`.
  private func sockets() throws -> [Int64] {
    let counts = try kernel.types.structure("prot_inuse").field("val")
    let variable = try space.pointer(at: net + kernel.offset(of: "core.prot_inuse", in: "net")) + counts.offset
    let cpus = try kernel.cpus()
    var batch = ReadBatch<VirtualAddress>()
    for cpu in cpus { batch.add(cpu.address(of: variable), count: min(4096, counts.size)) }
    space.read(&batch)
    var sums = [Int64](repeating: 0, count: min(1024, counts.size / 4))
    for index in cpus.indices {
      for (number, word) in try batch.reader(index).copy().words32.enumerated() where number < sums.count {
        sums[number] &+= Int64(Int32(bitPattern: word))
      }
    }
    return sums.map { max(0, $0) }
  }

  private struct PacketKind: KernelShape {
    static let type = "packet_type"
    let link = Place("list"), type = Field<UInt16>("type"), device = Field<VirtualAddress>("dev")
    let function = Field<VirtualAddress>("func"), net = Field<VirtualAddress?>(optional: "af_packet_net")
  }

  private struct Device: KernelShape {
    static let type = "net_device"
    let all = Place("ptype_all"), own = Place("ptype_specific"), name = Field<[UInt8]>("name")
    let number = Field<Int32>("ifindex"), net = Field<VirtualAddress>("nd_net.net")
  }

  /// /proc/net/ptype.
  ///
  /// Source: net/core/net-procfs.c, `ptype_seq_show`.
  func packetKinds(_ interfaces: [NetworkInterface]) throws -> [UInt8] {
    let layout = try kernel.types.structure("net")
    var heads: [VirtualAddress] = []
    // Those of devices were left out until 5.17, those of a namespace lie in lists of its own since 6.16.
    if host.constants.isAtLeast(5, 17) {
      heads += try kernel.read(Device.self, at: interfaces.map(\.device)).map { $0.address(of: \.all) }
    }
    if layout.hasField("ptype_all") {
      heads += [net + (try layout.field("ptype_all").offset), net + (try layout.field("ptype_specific").offset)]
    } else if let list = kernel.symbols.address(of: "ptype_all") {
      heads.append(list)
    } else {
      // From 6.9 on (0b91fa4bfb1c) among what is often used.
      let hot = try kernel.symbol("net_hotdata", for: "the kinds of packets")
      heads.append(hot + (try kernel.offset(of: "ptype_all", in: "net_hotdata")))
    }
    let base = try kernel.symbol("ptype_base", for: "the kinds of packets")
    // PTYPE_HASH_SIZE.
    heads += (0..<16).map { base + $0 * 16 }
    var faults: [MemoryFault] = []
    let kinds = space.lists(
      of: try kernel.bound(PacketKind.self), through: \.link, heads: heads, limit: Self.most, &faults
    ).structs
    if let fault = faults.first { throw fault }
    let devices = try kernel.read(Device.self, at: kinds.pointers(\.device))
    let symbols = try kernel.symbolMap()
    var text = ProcText("Type Device      Function\n")
    for kind in kinds {
      let hasDevice = try kind.device.rawValue != 0
      if let own = try kind.net, own != net { continue }
      if hasDevice, try devices[kind.index].net != net { continue }
      let type = try kind.type
      // ETH_P_ALL, in the order of the network.
      text.add(type == 0x300 ? "ALL " : ProcText.hex(UInt64(type.byteSwapped), 4))
      let name = hasDevice ? String(decoding: try devices[kind.index].name, as: UTF8.self) : ""
      let function = try kind.function
      let place = symbols.place(of: function)
      let symbol =
        place.map { $0.name + ($0.module.map { " [\($0)]" } ?? "") } ?? "0x\(ProcText.hex(function.rawValue, 16))"
      text.line(" \(ProcText.filled(name, 8)) \(symbol)")
    }
    return text.bytes
  }

  // MARK: Counters

  private struct Neighbours: KernelShape {
    static let type = "neigh_table"
    let entries = Field<Int32>("entries.counter"), statistics = Field<VirtualAddress>("stats")
  }

  /// The counters of a table of neighbours, of each CPU.
  ///
  /// Source: net/core/neighbour.c, `neigh_stat_seq_show`.
  func neighbours(_ variable: String) throws -> [UInt8] {
    let table = try kernel.read(Neighbours.self, at: [kernel.symbol(variable, for: "the neighbours")])[0]
    let layout = try kernel.types.structure("neigh_statistics")
    let fields = try [
      "allocs", "destroys", "hash_grows", "lookups", "hits", "res_failed", "rcv_probes_mcast", "rcv_probes_ucast",
      "periodic_gc_runs", "forced_gc_runs", "unres_discards", "table_fulls",
    ].map { try layout.field($0).offset }
    let names =
      ["entries", "allocs", "destroys", "hash_grows", "lookups", "hits", "res_failed", "rcv_probes_mcast"]
      + ["rcv_probes_ucast", "periodic_gc_runs", "forced_gc_runs", "unresolved_discards", "table_fulls"]
    return try statistics(
      names, oldGaps: ["  ", " ", " ", "  ", " ", "  ", "  ", " ", "  ", " ", " ", " "],
      total: UInt64(UInt32(bitPattern: try table.entries)),
      variable: try table.statistics, fields.map { ($0, 8) })
  }

  /// Counters of routes, of each CPU.
  ///
  /// Source: net/ipv4/route.c, `rt_cpu_seq_show`.
  func routes() throws -> [UInt8] {
    let layout = try kernel.types.structure("rt_cache_stat")
    let names =
      ["entries", "in_hit", "in_slow_tot", "in_slow_mc", "in_no_route", "in_brd", "in_martian_dst", "in_martian_src"]
      + ["out_hit", "out_slow_tot", "out_slow_mc", "gc_total", "gc_ignored", "gc_goal_miss", "gc_dst_overflow"]
      + ["in_hlist_search", "out_hlist_search"]
    // Those that only counted while routes were cached are zero.
    let fields = try names.dropFirst().map { name -> (Int, Int)? in
      guard !["in_hit", "out_hit"].contains(name), !name.hasPrefix("gc_"), !name.hasSuffix("_search") else {
        return nil
      }
      return (try layout.field(name).offset, 4)
    }
    let entries = try entries(of: "ipv4_dst_ops")
    return try statistics(
      names, oldGaps: ["  ", " ", " ", " ", " ", " ", " ", "  ", " ", " ", "  ", " ", " ", " ", " ", " "],
      oldRowGaps: ["  ", " ", " ", " ", " ", " ", " ", "  "], oldEnd: " ", total: entries,
      variable: kernel.symbol("rt_cache_stat", for: "the counters of routes"), fields)
  }

  /// How many routes a family keeps for use.
  ///
  /// Source: include/net/dst_ops.h, `dst_entries_get_slow`.
  private func entries(of symbol: String) throws -> UInt64 {
    try entries(at: kernel.symbol(symbol, for: "the counters of routes"))
  }

  private func entries(at address: VirtualAddress) throws -> UInt64 {
    let counter = address + (try kernel.offset(of: "pcpuc_entries", in: "dst_ops"))
    return UInt64(max(0, try kernel.perCPUCounter(at: counter)))
  }

  /// A table with a line of counters for each CPU that there may be.
  ///
  /// Since 5.19 the counters stand below their names; before, between the gaps that are given.
  private func statistics(
    _ names: [String], oldGaps: [String], oldRowGaps: [String]? = nil, oldEnd: String = "", total: UInt64,
    variable: VirtualAddress,
    _ fields: [(offset: Int, size: Int)?]
  ) throws -> [UInt8] {
    let isAligned = host.constants.isAtLeast(5, 18)
    var text = ProcText()
    var head = ""
    for (index, name) in names.enumerated() {
      let isLast = index == names.count - 1
      head += isAligned && !isLast ? ProcText.filled(name, 8) + " " : name + (isLast ? "" : oldGaps[safe: index] ?? " ")
    }
    text.line(head)
    for cpu in try kernel.cpus() {
      var row = ProcText.hex(total & 0xffff_ffff, 8)
      for (index, field) in fields.enumerated() {
        var value: UInt64 = 0
        if let field {
          let place = cpu.address(of: variable) + field.offset
          value = field.size == 8 ? try space.load(place) : UInt64(try space.load(place, as: UInt32.self))
        }
        let gap =
          isAligned
          ? String(repeating: " ", count: max(0, names[index].utf8.count - 8) + 1)
          : (oldRowGaps ?? oldGaps)[safe: index] ?? " "
        row += gap + ProcText.hex(value, 8)
      }
      text.line(isAligned ? row : row + oldEnd)
    }
    return text.bytes
  }

  /// /proc/net/rt6_stats.
  ///
  /// Source: net/ipv6/route.c, `rt6_stats_seq_show`.
  func routes6() throws -> [UInt8] {
    let layout = try kernel.types.structure("net")
    let statistics = try kernel.struct(
      "rt6_statistics", at: space.pointer(at: net + layout.field("ipv6.rt6_stats").offset))
    let allocated = statistics.layout.hasField("fib_rt_alloc.counter") ? "fib_rt_alloc.counter" : "fib_rt_alloc"
    let operations = net + (try layout.field("ipv6.ip6_dst_ops").offset)
    let words =
      try ["fib_nodes", "fib_route_nodes", allocated, "fib_rt_entries", "fib_rt_cache"].map {
        try statistics.unsigned($0) & 0xffff_ffff
      } + [try entries(at: operations), try statistics.unsigned("fib_discarded_routes") & 0xffff_ffff]
    return Array((words.map { ProcText.hex($0, 4) }.joined(separator: " ") + "\n").utf8)
  }

  private struct Callback: KernelShape {
    static let type = "cn_callback_entry"
    let link = Place("callback_entry"), name = Field<[UInt8]>("id.name")
    let kind = Field<UInt32>("id.id.idx"), value = Field<UInt32>("id.id.val")
  }

  /// /proc/net/connector, which only the first namespace has.
  ///
  /// Source: drivers/connector/connector.c, `cn_proc_show`.
  func connectors() throws -> [UInt8] {
    let devices = kernel.symbols.addresses(of: "cdev")
    guard devices.count == 1 else {
      throw ShadowError.unreadable("which of \(devices.count) variables the connector is")
    }
    let queue = try space.pointer(at: devices[0] + kernel.offset(of: "cbdev", in: "cn_dev"))
    var text = ProcText("Name            ID\n")
    guard queue.rawValue != 0 else { return text.bytes }
    var faults: [MemoryFault] = []
    let callbacks = space.list(
      of: try kernel.bound(Callback.self), through: \.link,
      head: queue + (try kernel.offset(of: "queue_list", in: "cn_queue_dev")), limit: Self.most, &faults)
    if let fault = faults.first { throw fault }
    for callback in callbacks {
      let name = ProcText.filled(String(decoding: try callback.name, as: UTF8.self), 15)
      text.line("\(name) \(try callback.kind):\(try callback.value)")
    }
    return text.bytes
  }

  // MARK: Tables that are empty on most hosts

  /// /proc/net/rt_cache: since 3.6 no routes are kept that could be shown.
  ///
  /// Source: net/ipv4/route.c, `rt_cache_seq_show`.
  static let cachedRoutes = Array(
    (ProcText.filled(
      "Iface\tDestination\tGateway \tFlags\t\tRefCnt\tUse\tMetric\tSource\t\tMTU\tWindow\tIRTT\tTOS\tHHRef\tHHUptod\tSpecDst",
      127) + "\n").utf8)

  /// /proc/net/ip6_flowlabel.
  ///
  /// Source: net/ipv6/ip6_flowlabel.c, `ip6fl_seq_show`.
  func flowLabels() throws -> [UInt8] {
    guard try kernel.number("fl_size") == 0 else {
      throw ShadowError.unreadable("how the labels of flows that are in use are shown")
    }
    return Array("Label S Owner  Users  Linger Expires  Dst                              Opt\n".utf8)
  }

  /// /proc/net/ip_mr_vif, ip_mr_cache and those of version 6, of a host that forwards no multicast.
  ///
  /// Source: net/ipv4/ipmr.c, `ipmr_vif_seq_show` and `ipmr_mfc_seq_show`; net/ipv6/ip6mr.c.
  func multicastRoutes(_ heading: String, version: Int) throws -> [UInt8] {
    let layout = try kernel.types.structure("net")
    let prefix = version == 6 ? "ipv6.mr6" : "ipv4.mr"
    var tables: [VirtualAddress] = []
    if layout.hasField(prefix + "_tables") {
      var faults: [MemoryFault] = []
      let link = try kernel.offset(of: "list", in: "mr_table")
      let members = ListWalker(space: space, form: .circular, limit: 4096).members(
        ofHeads: [net + (try layout.field(prefix + "_tables").offset)])
      faults += members.faults
      if let fault = faults.first { throw fault }
      tables = members.lists[0].map { $0 - link }
    } else if layout.hasField(version == 6 ? "ipv6.mrt6" : "ipv4.mrt") {
      let field = try layout.field(version == 6 ? "ipv6.mrt6" : "ipv4.mrt")
      tables = [try space.pointer(at: net + field.offset)].filter { $0.rawValue != 0 }
    }
    for table in tables {
      let own = try kernel.struct("mr_table", at: table)
      guard try own.signed("maxvif") == 0 else {
        throw ShadowError.unreadable("how a host that forwards multicast shows its routes")
      }
    }
    return Array((heading + "\n").utf8)
  }

  /// /proc/net/wireless, of a host without such devices.
  ///
  /// Source: net/wireless/wext-proc.c.
  func wireless(_ interfaces: [NetworkInterface]) throws -> [UInt8] {
    let layout = try kernel.types.structure("net_device")
    for name in ["wireless_handlers", "ieee80211_ptr"] where layout.hasField(name) {
      let offset = try layout.field(name).offset
      guard space.pointers(at: interfaces.map { $0.device + offset }).allSatisfy({ $0.rawValue == 0 }) else {
        throw ShadowError.unreadable("what drivers of wireless devices say of themselves")
      }
    }
    // WIRELESS_EXT has been 22 since 2.6.21.
    return Array(
      """
      Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
       face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22

      """.utf8)
  }
}
