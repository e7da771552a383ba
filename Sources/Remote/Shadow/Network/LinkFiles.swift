import Binding
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging

/// The lines of /proc/net/route, ipv6_route, arp, if_inet6 and dev_mcast of a network namespace.
struct LinkFiles {
  let host: ShadowHost
  /// The `struct net`, and the number of the namespace.
  let net: VirtualAddress
  let namespace: UInt64

  private var kernel: Kernel { host.kernel }
  private var space: AddressSpace { kernel.addressSpace }

  func interfaces() throws -> [NetworkInterface] {
    try host.network().interfaces.filter { $0.namespace == namespace }.sorted {
      $0.index < $1.index
    }
  }

  private static func hex(_ bytes: some Sequence<UInt8>, separator: String = "") -> String {
    bytes.map { ProcText.hex(UInt64($0), 2) }.joined(separator: separator)
  }

  // MARK: Routes

  private struct Info: KernelShape {
    static let type = "fib_info"
    let metrics = Field<VirtualAddress>("fib_metrics")
  }

  private struct Metrics: KernelShape {
    static let type = "dst_metrics"
    let values = Field<RawBytes>("metrics")
  }

  /// /proc/net/route.
  ///
  /// Source: net/ipv4/fib_trie.c, `fib_route_seq_show`.
  func routes4() throws -> [UInt8] {
    let network = try host.network()
    // Without a main table there is not even a heading. Two tables may lie in one trie, which has the number of either.
    guard try hasMainTable() else { return [] }
    let own = network.routes.filter {
      $0.namespace == namespace && $0.table == 254 && $0.destination.bytes.count == 4
    }
    // The leaves of the trie in the order of their keys; those of one leaf as they are.
    let sorted = own.enumerated().sorted {
      let (first, second) = ($0.element.destination.bytes, $1.element.destination.bytes)
      return first == second ? $0.offset < $1.offset : first.lexicographicallyPrecedes(second)
    }.map(\.element)
    let infos = try kernel.read(Info.self, at: sorted.map(\.entry))
    let metrics = try kernel.read(Metrics.self, at: infos.pointers(\.metrics))
    var text = ProcText()
    func add(_ line: String) { text.line(ProcText.filled(line, 127)) }
    add("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT")
    for (index, route) in sorted.enumerated() {
      // RTN_BROADCAST and RTN_MULTICAST are not shown.
      if route.type == 3 || route.type == 5 { continue }
      func word(_ bytes: [UInt8]) -> String { Self.hex(bytes.reversed()).uppercased() }
      let mask = route.prefixLength == 0 ? 0 : UInt32.max << UInt32(32 - min(32, route.prefixLength))
      // RTF_UP, RTF_GATEWAY, RTF_HOST; RTF_REJECT of RTN_UNREACHABLE and RTN_PROHIBIT.
      var flags: UInt64 = 1
      if route.gateway != nil { flags |= 2 }
      if mask == .max { flags |= 4 }
      if route.type == 7 || route.type == 8 { flags |= 0x200 }
      let gateway = route.gateway.flatMap { $0.bytes.count == 4 ? $0.bytes : nil } ?? [0, 0, 0, 0]
      let values = try metrics[index].values.bytes.words32
      // RTAX_ADVMSS is 8, RTAX_WINDOW 3, RTAX_RTT 4; the first one is numbered 1.
      func value(_ metric: Int) -> UInt32 { values[safe: metric - 1] ?? 0 }
      let largest = value(8) == 0 ? 0 : value(8) &+ 40
      let name = route.interface.isEmpty ? "*" : String(decoding: route.interface, as: UTF8.self)
      add(
        "\(name)\t\(word(route.destination.bytes))\t\(word(gateway))\t\(ProcText.hex(flags, 4).uppercased())\t0\t0\t"
          + "\(Int32(bitPattern: route.metric))\t\(word(mask.bigEndianBytes))\t\(Int32(bitPattern: largest))\t\(value(3))\t"
          + "\(value(4) >> 3)")
    }
    return text.bytes
  }

  /// Source: `fib_get_table` with the number of the main table.
  private func hasMainTable() throws -> Bool {
    let hash = try space.pointer(at: net + kernel.offset(of: "ipv4.fib_table_hash", in: "net"))
    // FIB_TABLE_HASHSZ is 256 with tables of one's own, 2 without.
    let count = kernel.symbols.address(of: "fib4_rules_ops_template") == nil ? 2 : 256
    let heads = try space.pointers(inArrayAt: hash, count: count)
    let shape = try kernel.bound(Table.self)
    let starts = heads.filter { $0.rawValue != 0 }.map { ListWalker.Start(head: VirtualAddress(0), first: $0) }
    var faults: [MemoryFault] = []
    let tables = space.lists(
      of: shape, through: \.link, from: starts, form: .nullTerminated, limit: 1 << 16, &faults
    ).structs
    if let fault = faults.first { throw fault }
    return try tables.contains { try $0.number == 254 }
  }

  private struct Table: KernelShape {
    static let type = "fib_table"
    let link = Place("tb_hlist"), number = Field<UInt32>("tb_id")
  }

  private struct Table6: KernelShape {
    static let type = "fib6_table"
    let link = Place("tb6_hlist"), root = Place("tb6_root")
  }

  private struct Node6: KernelShape {
    static let type = "fib6_node"
    let left = Field<VirtualAddress>("left"), right = Field<VirtualAddress>("right")
    let leaf = Field<VirtualAddress>("leaf"), flags = Field<UInt16>("fn_flags")
  }

  private struct Info6: KernelShape {
    static let type = "fib6_info"
    let next = Field<VirtualAddress>("fib6_next"), destination = Field<RawBytes>("fib6_dst.addr")
    let length = Field<UInt64>("fib6_dst.plen"), source = Field<RawBytes>(optional: "fib6_src.addr")
    let sourceLength = Field<UInt64>(optional: "fib6_src.plen"), flags = Field<UInt32>("fib6_flags")
    let metric = Field<UInt32>("fib6_metric"), uses = Field<Int32>("fib6_ref.refs.counter")
    let shared = Field<VirtualAddress?>(optional: "nh"), hop = Place("fib6_nh")
  }

  private struct Hop: KernelShape {
    static let type = "fib_nh_common"
    let device = Field<VirtualAddress>("nhc_dev"), family = Field<UInt8>("nhc_gw_family")
    let gateway = Field<RawBytes>("nhc_gw")
  }

  /// No host has as many routes.
  private static let most = 1 << 20

  /// /proc/net/ipv6_route.
  ///
  /// Source: net/ipv6/ip6_fib.c, `ipv6_route_native_seq_show`; the order is that of `fib6_walk_continue`: left, right, itself.
  func routes6() throws -> [UInt8] {
    let hash = try space.pointer(at: net + kernel.offset(of: "ipv6.fib_table_hash", in: "net"))
    let heads = try space.pointers(
      inArrayAt: hash, count: kernel.symbols.address(of: "fib6_rules_ops_template") == nil ? 1 : 256)
    var faults: [MemoryFault] = []
    let tables = space.lists(
      of: try kernel.bound(Table6.self), through: \.link,
      from: heads.filter { $0.rawValue != 0 }.map { ListWalker.Start(head: VirtualAddress(0), first: $0) },
      form: .nullTerminated, limit: 1 << 16, &faults
    ).structs
    if let fault = faults.first { throw fault }
    let roots = tables.map { $0.address(of: \.root) }
    var links: [VirtualAddress: (left: VirtualAddress, right: VirtualAddress, leaf: VirtualAddress)] = [:]
    var wanted = roots
    while !wanted.isEmpty {
      var next: [VirtualAddress] = []
      for node in try kernel.read(Node6.self, at: wanted) {
        // One without routes of its own leads to another's (RTN_RTINFO).
        let leaf = try node.flags & 4 != 0 ? node.leaf : VirtualAddress(0)
        let link = (left: try node.left, right: try node.right, leaf: leaf)
        guard links.updateValue(link, forKey: node.address) == nil, links.count < Self.most else {
          throw ShadowError.unreadable("a tree of routes that holds a node twice, or more than \(Self.most)")
        }
        next += [link.left, link.right].filter { $0.rawValue != 0 }
      }
      wanted = next
    }
    var leaves: [VirtualAddress] = []
    for root in roots {
      var stack = [(node: root, isDone: false)]
      while let (node, isDone) = stack.popLast() {
        guard let link = links[node] else { continue }
        if isDone {
          if link.leaf.rawValue != 0 { leaves.append(link.leaf) }
        } else {
          stack += [(node, true), (link.right, false), (link.left, false)]
        }
      }
    }
    return try lines6(leaves)
  }

  /// Each of `leaves`, and the routes to the same place that each leads to.
  private func lines6(_ leaves: [VirtualAddress]) throws -> [UInt8] {
    let shape = try kernel.bound(Info6.self)
    var chains = leaves.map { [$0] }
    var open = Array(chains.indices)
    var seen = Set(leaves)
    while !open.isEmpty {
      let infos = space.read(shape, at: open.map { chains[$0].last ?? VirtualAddress(0) })
      var more: [Int] = []
      for (index, info) in zip(open, infos) {
        let next = try info.next
        guard next.rawValue != 0 else { continue }
        guard seen.insert(next).inserted, seen.count < Self.most else {
          throw ShadowError.unreadable("a list of routes that comes to one again, or has more than \(Self.most)")
        }
        chains[index].append(next)
        more.append(index)
      }
      open = more
    }
    let all = chains.flatMap { $0 }
    let infos = space.read(shape, at: all)
    let common = try kernel.offset(of: "nh_common", in: "fib6_nh")
    let hops = try kernel.read(Hop.self, at: infos.map { $0.address(of: \.hop) + common })
    let name = try kernel.offset(of: "name", in: "net_device")
    let names = space.strings(
      at: hops.pointers(\.device).map { $0.rawValue == 0 ? $0 : $0 + name }, limit: 16)
    var text = ProcText()
    for (info, (hop, name)) in zip(infos, zip(hops, names)) {
      guard try info.shared == nil else {
        throw ShadowError.unreadable("a route whose next hop is an object of its own")
      }
      let hasGateway = try hop.family != 0
      let source = info.shape.source.isPresent ? try info.source.bytes : [UInt8](repeating: 0, count: 16)
      var line = "\(Self.hex(try info.destination.bytes)) \(ProcText.hex(try info.length & 0xffff_ffff, 2)) "
      line += "\(Self.hex(source)) \(ProcText.hex(try info.sourceLength & 0xffff_ffff, 2)) "
      line += Self.hex(hasGateway ? Array(try hop.gateway.bytes.prefix(16)) : [UInt8](repeating: 0, count: 16))
      let flags = try info.flags | (hasGateway ? 2 : 0)
      let uses = UInt32(bitPattern: try info.uses)
      for value in [try info.metric, uses, 0, flags] { line += " \(ProcText.hex(UInt64(value), 8))" }
      text.line("\(line) \(ProcText.padded(String(decoding: try name.get(), as: UTF8.self), 8))")
    }
    return text.bytes
  }

  // MARK: Neighbours, addresses

  /// /proc/net/arp.
  ///
  /// Source: net/ipv4/arp.c, `arp_seq_show`.
  func neighbours() throws -> [UInt8] {
    let network = try host.network()
    let interfaces = Dictionary(
      network.interfaces.filter { $0.namespace == namespace }.map { ($0.name, $0) },
      uniquingKeysWith: { first, _ in first })
    var text = ProcText("IP address       HW type     Flags       HW address            Mask     Device\n")
    // What says nothing, or that there is no address to be had, is not shown.
    for neighbour in network.neighbours
    where neighbour.namespace == namespace && neighbour.address.bytes.count == 4 && neighbour.state & ~0x40 != 0 {
      let type = interfaces[neighbour.interface]?.type ?? 0
      // ATF_PERM, ATF_COM; NUD_VALID.
      let flags = neighbour.state & 0x80 != 0 ? 6 : neighbour.state & 0xde != 0 ? 2 : 0
      let length = interfaces[neighbour.interface]?.hardwareAddress.bytes.count ?? 0
      var bytes = neighbour.hardwareAddress.bytes
      // One that is not known is zeros.
      bytes += [UInt8](repeating: 0, count: max(0, length - bytes.count))
      line(neighbour.address.bytes, type, flags, Self.hex(bytes.prefix(9), separator: ":"), neighbour.interface, &text)
    }
    try addProxies(&text)
    return text.bytes
  }

  private func line(
    _ address: [UInt8], _ type: UInt16, _ flags: Int, _ hardware: String, _ name: [UInt8], _ text: inout ProcText
  ) {
    let place = address.map { "\($0)" }.joined(separator: ".")
    text.add("\(ProcText.filled(place, 16)) 0x\(ProcText.filled(String(type, radix: 16), 10))")
    text.add("0x\(ProcText.filled(String(flags, radix: 16), 10))\(ProcText.filled(hardware, 17))     *        ")
    text.add(name)
    text.line("")
  }

  private struct Proxy: KernelShape {
    static let type = "pneigh_entry"
    let next = Place("next"), net = Field<VirtualAddress>("net.net"), device = Field<VirtualAddress>("dev")
    let key = Place("key")
  }

  /// Addresses that this host answers for in the place of others.
  private func addProxies(_ text: inout ProcText) throws {
    let table = try kernel.symbol("arp_tbl", for: "the neighbours")
    let buckets = try space.pointer(at: table + kernel.offset(of: "phash_buckets", in: "neigh_table"))
    guard buckets.rawValue != 0 else { return }
    var faults: [MemoryFault] = []
    // PNEIGH_HASHMASK is 15.
    let proxies = space.chains(
      of: try kernel.bound(Proxy.self), through: \.next, heads: (0..<16).map { buckets + $0 * 8 }, limit: 1 << 16,
      &faults
    ).structs
    if let fault = faults.first { throw fault }
    let own = try proxies.filter { try $0.net == net }
    let (nameOffset, typeOffset) = (
      try kernel.offset(of: "name", in: "net_device"), try kernel.offset(of: "type", in: "net_device")
    )
    for proxy in own {
      let device = try proxy.device
      let address = try space.read(proxy.address(of: \.key), count: 4)
      let name =
        device.rawValue == 0 ? [UInt8(ascii: "*")] : try space.strings(at: [device + nameOffset], limit: 16)[0].get()
      let type: UInt16 = device.rawValue == 0 ? 0 : try space.load(device + typeOffset)
      // ATF_PUBL, ATF_PERM.
      line(address, type, 0xc, "00:00:00:00:00:00", name, &text)
    }
  }

  private struct Address6: KernelShape {
    static let type = "inet6_ifaddr"
    let link = Place("addr_lst"), value = Field<RawBytes>("addr"), length = Field<UInt32>("prefix_len")
    let scope = Field<UInt16>("scope"), flags = Field<UInt32>("flags"), owner = Field<VirtualAddress>("idev")
  }

  private struct Owner6: KernelShape {
    static let type = "inet6_dev"
    let device = Field<VirtualAddress>("dev")
  }

  private struct Device: KernelShape {
    static let type = "net_device"
    let name = Field<[UInt8]>("name"), number = Field<Int32>("ifindex"), net = Field<VirtualAddress>("nd_net.net")
    let multicast = Place("mc.list"), length = Field<UInt8>("addr_len")
  }

  /// /proc/net/if_inet6.
  ///
  /// Source: net/ipv6/addrconf.c, `if6_seq_show`.
  func addresses6() throws -> [UInt8] {
    let layout = try kernel.types.structure("net")
    // One table for all namespaces until 5.18. IN6_ADDR_HSIZE is 256.
    let table =
      layout.hasField("ipv6.inet6_addr_lst")
      ? try space.pointer(at: net + layout.field("ipv6.inet6_addr_lst").offset)
      : try kernel.symbol("inet6_addr_lst", for: "the addresses")
    var faults: [MemoryFault] = []
    let addresses = space.lists(
      of: try kernel.bound(Address6.self), through: \.link, inTables: [table], count: 256, limit: 1 << 18, &faults
    ).structs
    if let fault = faults.first { throw fault }
    let owners = try kernel.read(Owner6.self, at: addresses.pointers(\.owner))
    let devices = try kernel.read(Device.self, at: owners.pointers(\.device))
    var text = ProcText()
    for (address, device) in zip(addresses, devices) where try device.net == net {
      let columns = [
        UInt64(UInt32(bitPattern: try device.number)), UInt64(try address.length), UInt64(try address.scope),
        UInt64(try address.flags & 0xff),
      ]
      let name = ProcText.padded(String(decoding: try device.name, as: UTF8.self), 8)
      text.line(
        "\(Self.hex(try address.value.bytes)) \(columns.map { ProcText.hex($0, 2) }.joined(separator: " ")) \(name)")
    }
    return text.bytes
  }

  private struct Hardware: KernelShape {
    static let type = "netdev_hw_addr"
    let link = Place("list"), value = Field<RawBytes>("addr"), uses = Field<Int32>("refcount")
    let isShared = Field<Bool>("global_use")
  }

  /// /proc/net/dev_mcast.
  ///
  /// Source: net/core/net-procfs.c, `dev_mc_seq_show`.
  func multicast() throws -> [UInt8] {
    let devices = try kernel.read(Device.self, at: interfaces().map(\.device))
    var faults: [MemoryFault] = []
    let (owners, addresses) = space.lists(
      of: try kernel.bound(Hardware.self), through: \.link, heads: devices.map { $0.address(of: \.multicast) },
      limit: 1 << 16, &faults)
    if let fault = faults.first { throw fault }
    var text = ProcText()
    for address in addresses {
      let device = devices[owners[address.index]]
      let name = ProcText.filled(String(decoding: try device.name, as: UTF8.self), 15)
      text.line(
        "\(ProcText.filled("\(try device.number)", 4)) \(name) \(ProcText.filled("\(try address.uses)", 5)) "
          + "\(try address.isShared ? "1    " : "0    ") \(Self.hex(try address.value.bytes.prefix(Int(try device.length))))"
      )
    }
    return text.bytes
  }
}

extension [UInt8] {
  /// Words of 32 bits; what is left over is left out.
  var words32: [UInt32] {
    (0..<count / 4).map { word in (0..<4).reduce(0) { $0 | UInt32(self[word * 4 + $1]) << UInt32($1 * 8) } }
  }
}

extension UInt32 {
  fileprivate var bigEndianBytes: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: self >> UInt32(24 - $0 * 8)) } }
}
