import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging
import ProcessViews
import TaskViews

/// The directory /proc/PID/net: what a process's network namespace holds.
enum NetworkFiles {
  private typealias Text = @Sendable () throws -> [UInt8]

  static func directory(_ host: ShadowHost, of task: @escaping @Sendable () throws -> KernelTask) -> ShadowNode {
    let kernel = host.kernel
    @Sendable func namespace() throws -> UInt64 { try Self.namespace(of: task(), kernel) }
    @Sendable func sockets() throws -> SocketFiles { try kernel.reader() }
    @Sendable func address() throws -> VirtualAddress {
      let space = try kernel.pointers("nsproxy", of: "task_struct", at: [task().address])[0]
      // One that has ended has none any more.
      guard space.rawValue != 0 else { throw ShadowError.missing }
      return try kernel.pointers("net_ns", of: "nsproxy", at: [space])[0]
    }
    @Sendable func counters() throws -> CounterFiles { try CounterFiles(kernel, address()) }
    @Sendable func links() throws -> LinkFiles {
      LinkFiles(host: host, net: try address(), namespace: try namespace())
    }
    @Sendable func protocols() throws -> ProtocolFiles { ProtocolFiles(host: host, net: try address()) }
    @Sendable func multicast() throws -> MulticastFiles {
      MulticastFiles(kernel: kernel, interfaces: try links().interfaces())
    }
    @Sendable func tries() throws -> TrieFiles { TrieFiles(kernel: kernel, net: try address()) }
    /// Files that all processes of a namespace share: what goes through all of /proc has each made once.
    func shared(below folder: String = "", _ files: KeyValuePairs<String, Text>) -> [ShadowNode.Entry] {
      files.map { name, make in
        .init(
          name: name,
          node: .file { try host.text(.init(places: [address()], name: "net/" + folder + name), make) })
      }
    }
    let own = shared([
      "arp": { try links().neighbours() },
      "dev": { try devices(links().interfaces(), kernel) },
      "dev_mcast": { try links().multicast() },
      "icmp": { try sockets().pingLines(2, kernel) },
      "icmp6": { try sockets().pingLines(10, kernel) },
      "if_inet6": { try links().addresses6() },
      "ipv6_route": { try links().routes6() },
      "netlink": { try sockets().netlinkLines(namespace: namespace(), host) },
      "netstat": { try counters().extended() },
      "packet": { try sockets().packetLines(namespace: namespace(), host) },
      "psched": { try packetClock(kernel) },
      "raw": { try sockets().rawLines(2, namespace: namespace(), host) },
      "raw6": { try sockets().rawLines(10, namespace: namespace(), host) },
      "route": { try links().routes4() },
      "snmp": { try counters().version4() },
      "snmp6": { try counters().version6() },
      "sockstat": { try counters().sockets4() },
      "sockstat6": { try counters().sockets6() },
      "softnet_stat": { try CounterFiles.queues(host) },
      "tcp": { try sockets().tcpLines(2, namespace: namespace(), host) },
      "tcp6": { try sockets().tcpLines(10, namespace: namespace(), host) },
      "udp": { try sockets().udpLines(2, namespace: namespace(), host) },
      "udp6": { try sockets().udpLines(10, namespace: namespace(), host) },
      "udplite": { try sockets().udpLines(2, kind: .udplite, namespace: namespace(), host) },
      "udplite6": { try sockets().udpLines(10, kind: .udplite, namespace: namespace(), host) },
      "unix": { try sockets().unixLines(namespace: namespace(), host) },
      "fib_trie": { try tries().routes() }, "fib_triestat": { try tries().statistics() },
      "igmp": { try multicast().groups(address()) }, "mcfilter": { try multicast().filters() },
      "protocols": { try protocols().protocols() },
      "ptype": { try protocols().packetKinds(links().interfaces()) },
      "rt_cache": { ProtocolFiles.cachedRoutes },
    ])
    // What kernels may lack that were built without it.
    func ifPresent(
      _ symbol: String, below folder: String = "", _ files: KeyValuePairs<String, Text>
    ) -> [ShadowNode.Entry] {
      kernel.symbols.address(of: symbol) == nil ? [] : shared(below: folder, files)
    }
    let statistics =
      shared(
        below: "stat/",
        ["arp_cache": { try protocols().neighbours("arp_tbl") }, "rt_cache": { try protocols().routes() }])
      + ifPresent("nd_tbl", below: "stat/", ["ndisc_cache": { try protocols().neighbours("nd_tbl") }])
    let version6 = ifPresent(
      "igmp6_mc_seq_ops",
      [
        "anycast6": { try multicast().anycasts() },
        "igmp6": { try multicast().groupsOfVersion6() },
        "ip6_flowlabel": { try protocols().flowLabels() },
        "mcfilter6": { try multicast().filtersOfVersion6() }, "rt6_stats": { try protocols().routes6() },
      ])
    let routing = ifPresent(
      "ipmr_vif_seq_ops",
      [
        "ip_mr_cache": {
          try protocols().multicastRoutes("Group    Origin   Iif     Pkts    Bytes    Wrong Oifs", version: 4)
        },
        "ip_mr_vif": {
          try protocols().multicastRoutes(
            "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags Local    Remote", version: 4)
        },
      ])
    let routing6 = ifPresent(
      "ip6mr_vif_seq_ops",
      [
        "ip6_mr_cache": {
          try protocols().multicastRoutes(
            "Group                            Origin                           Iif      Pkts  Bytes     Wrong  Oifs",
            version: 6)
        },
        "ip6_mr_vif": {
          try protocols().multicastRoutes("Interface      BytesIn  PktsIn  BytesOut PktsOut Flags", version: 6)
        },
      ])
    let others =
      ifPresent("xfrm_mib_list", ["xfrm_stat": { try counters().transforms() }])
      + ifPresent("wireless_seq_ops", ["wireless": { try protocols().wireless(links().interfaces()) }])
    let first = ifPresent("cn_proc_show", ["connector": { try protocols().connectors() }])
    var directories = [ShadowNode.Entry(name: "stat", node: .directory(statistics))]
    if !version6.isEmpty {
      directories.append(.init(name: "dev_snmp6", node: interfaceCounters(host, links, counters)))
    }
    let all = own + directories + version6 + routing + routing6 + others
    let byName = Dictionary((all + first).map { ($0.name, $0.node) }, uniquingKeysWith: { first, _ in first })
    /// Of the first namespace only.
    @Sendable func isFirst() throws -> Bool { try address() == kernel.symbol("init_net", for: "the network") }
    return .directory(
      list: { try all + (isFirst() ? first : []) },
      find: { name in try name != "connector" || isFirst() ? byName[name] : nil })
  }

  /// A file for each interface that speaks version 6.
  private static func interfaceCounters(
    _ host: ShadowHost, _ links: @escaping @Sendable () throws -> LinkFiles,
    _ counters: @escaping @Sendable () throws -> CounterFiles
  ) -> ShadowNode {
    // Counted for the whole namespace only from 6.18 on.
    let hasLimits = !host.constants.isAtLeast(6, 18)
    @Sendable func files() throws -> [ShadowNode.Entry] {
      try links().interfaces().compactMap { interface -> ShadowNode.Entry? in
        guard let owner = try counters().owner6(of: interface) else { return nil }
        return .init(
          name: String(decoding: interface.name, as: UTF8.self),
          node: .file { try counters().version6(of: owner, Int(interface.index), hasLimits: hasLimits) })
      }
    }
    return .listing { try files() }
  }

  /// The number of a process's network namespace.
  static func namespace(of task: KernelTask, _ kernel: Kernel) throws -> UInt64 {
    let table = try kernel.details(of: [task], .namespaces).whole()
    guard let id = table.details.first?.namespaces[.network] else { throw ShadowError.missing }
    return id.number
  }

  /// /proc/net/psched: the units in which queues count time.
  ///
  /// Source: net/sched/sch_api.c, `psched_show`.
  private static func packetClock(_ kernel: Kernel) throws -> [UInt8] {
    let resolution = UInt64(max(1, try kernel.number("hrtimer_resolution")))
    // Nanoseconds in a microsecond, in a tick of the queues, microseconds in a second, ticks of timers in a second.
    let words = [1000, 64, 1_000_000, 1_000_000_000 / resolution]
    return Array((words.map { ProcText.hex($0, 8) }.joined(separator: " ") + "\n").utf8)
  }

  private struct Device: KernelShape {
    static let type = "net_device"
    let core = Field<VirtualAddress?>(optional: "core_stats"), statistics = Place("stats")
    let operations = Field<VirtualAddress>("netdev_ops"), light = Field<VirtualAddress>(optional: "lstats")
  }

  private struct Operations: KernelShape {
    static let type = "net_device_ops"
    let statistics = Field<VirtualAddress>("ndo_get_stats64")
  }

  /// Packets and bytes, where a device counts no more.
  private struct Light: KernelShape {
    static let type = "pcpu_lstats"
    let packets = Field<UInt64>("packets"), bytes = Field<UInt64>("bytes")
  }

  /// Counters that the kernel keeps of what it dropped itself; missing before 5.18.
  private struct Core: KernelShape {
    static let type = "net_device_core_stats"
    let received = Field<UInt64>("rx_dropped"), sent = Field<UInt64>("tx_dropped")
    let unhandled = Field<UInt64>(optional: "rx_nohandler")
  }

  /// `net_device_stats`: words in this order.
  static let kinds = [
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
    "multicast",
    "collisions", "rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors", "rx_fifo_errors",
    "rx_missed_errors", "tx_aborted_errors", "tx_carrier_errors", "tx_fifo_errors", "tx_heartbeat_errors",
    "tx_window_errors", "rx_compressed", "tx_compressed",
  ]

  private typealias Traffic = (receivedPackets: UInt64, receivedBytes: UInt64, sentPackets: UInt64, sentBytes: UInt64)

  /// What a dummy device sent; it receives nothing.
  ///
  /// Source: drivers/net/dummy.c, `dummy_get_stats64`.
  private static func dummyCounters(
    of device: Reading<Device>, _ name: [UInt8], _ cpus: [PerCPU.CPU], _ kernel: Kernel
  ) throws -> Traffic {
    let function = try kernel.read(Operations.self, at: [device.operations])[0].statistics
    let variable = try device.light
    guard try kernel.symbolMap().place(of: function)?.name == "dummy_get_stats64", variable.rawValue != 0 else {
      let name = String(decoding: name, as: UTF8.self)
      throw ShadowError.unreadable("the driver of \(name) keeps its counters in a struct of its own")
    }
    var sum: Traffic = (0, 0, 0, 0)
    for cpu in try kernel.read(Light.self, at: cpus.map({ $0.address(of: variable) })) {
      sum.sentPackets &+= try cpu.packets
      sum.sentBytes &+= try cpu.bytes
    }
    return sum
  }

  /// The counters of an interface, by the names of `rtnl_link_stats64`.
  ///
  /// Source: net/core/dev.c, `dev_get_stats`. Of a driver that keeps counters in a struct of its own there are none, and then what
  /// shows them is an error.
  ///
  /// Cost: some round trips for each interface.
  static func counters(
    of interfaces: [NetworkInterface], _ kernel: Kernel
  ) throws -> [[String: UInt64]] {
    let shape = try kernel.bound(Device.self)
    let devices = try kernel.read(Device.self, at: interfaces.map(\.device))
    let cpus = try kernel.cpus()
    let space = kernel.addressSpace
    var batch = ReadBatch<VirtualAddress>()
    for interface in interfaces { batch.add(interface.device + shape.statistics.offset, count: kinds.count * 8) }
    space.read(&batch)
    return try interfaces.enumerated().map { index, interface in
      let traffic =
        try interface.counters.map { ($0.receivedPackets, $0.receivedBytes, $0.sentPackets, $0.sentBytes) as Traffic }
        ?? dummyCounters(of: devices[index], interface.name, cpus, kernel)
      let words = try batch.reader(index).copy().words
      var own = Dictionary(zip(kinds, words), uniquingKeysWith: { first, _ in first })
      (own["rx_packets"], own["rx_bytes"]) = (traffic.receivedPackets, traffic.receivedBytes)
      (own["tx_packets"], own["tx_bytes"]) = (traffic.sentPackets, traffic.sentBytes)
      if let core = try devices[index].core {
        for cpu in try kernel.read(Core.self, at: cpus.map({ $0.address(of: core) })) {
          own["rx_dropped", default: 0] &+= try cpu.received
          own["tx_dropped", default: 0] &+= try cpu.sent
          own["rx_nohandler", default: 0] &+= try cpu.unhandled
        }
      }
      return own
    }
  }

  /// /proc/net/dev.
  ///
  /// Source: net/core/net-procfs.c, `dev_seq_printf_stats`.
  private static func devices(_ interfaces: [NetworkInterface], _ kernel: Kernel) throws -> [UInt8] {
    var text = ProcText()
    text.line("Inter-|   Receive                                                |  Transmit")
    text.line(
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
        + "compressed")
    for (interface, own) in zip(interfaces, try counters(of: interfaces, kernel)) {
      func sum(_ names: String...) -> UInt64 { names.reduce(0) { $0 &+ (own[$1] ?? 0) } }
      let columns: [(UInt64, Int)] = [
        (sum("rx_bytes"), 7), (sum("rx_packets"), 7), (sum("rx_errors"), 4), (sum("rx_dropped", "rx_missed_errors"), 4),
        (sum("rx_fifo_errors"), 4),
        (sum("rx_length_errors", "rx_over_errors", "rx_crc_errors", "rx_frame_errors"), 5), (sum("rx_compressed"), 10),
        (sum("multicast"), 9), (sum("tx_bytes"), 8), (sum("tx_packets"), 7), (sum("tx_errors"), 4),
        (sum("tx_dropped"), 4), (sum("tx_fifo_errors"), 4), (sum("collisions"), 5),
        (sum("tx_carrier_errors", "tx_aborted_errors", "tx_window_errors", "tx_heartbeat_errors"), 7),
        (sum("tx_compressed"), 10),
      ]
      text.add(String(repeating: " ", count: max(0, 6 - interface.name.count)))
      text.add(interface.name)
      text.line(": " + columns.map { ProcText.padded("\($0)", $1) }.joined(separator: " "))
    }
    return text.bytes
  }
}
