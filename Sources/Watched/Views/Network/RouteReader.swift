import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the tables of routes: of IPv4 a compressed trie, of IPv6 a binary one.
///
/// ```
/// net.ipv4.fib_table_hash → fib_table → trie → key_vector … → fib_alias → fib_info → its first next hop
/// net.ipv6.fib_table_hash → fib6_table → fib6_node … → fib6_info …
/// ```
/// Where no rules were made, the local table of IPv4 and the main one share a trie; each alias says whose it is.
/// Source: net/ipv4/fib_trie.c, `fib_route_seq_show`; net/ipv6/ip6_fib.c.
struct RouteReader: KernelReader {
  static let subject = "the routes"

  private struct Net4: KernelShape {
    static let type = "net"
    let tables = Field<VirtualAddress>("ipv4.fib_table_hash")
  }

  private struct Net6: KernelShape {
    static let type = "net"
    let tables = Field<VirtualAddress>("ipv6.fib_table_hash")
    let none = Field<VirtualAddress>("ipv6.fib6_null_entry")
  }

  private struct Table4: KernelShape {
    static let type = "fib_table"
    let link = Place("tb_hlist")
    let trie = Field<VirtualAddress>("tb_data")
  }

  private struct Trie: KernelShape {
    static let type = "trie"
    // It has one child, the root.
    let vector = Place("kv")
  }

  private struct Vector: KernelShape {
    static let type = "key_vector"
    let key = Field<UInt32>("key")
    let bits = Field<UInt64>("bits")
    let first = Field<VirtualAddress>("leaf")
    let children = Place("leaf")
  }

  private struct Alias: KernelShape {
    static let type = "fib_alias"
    let link = Place("fa_list")
    let info = Field<VirtualAddress>("fa_info")
    let suffixLength = Field<UInt64>("fa_slen")
    let type = Field<UInt8>("fa_type")
    let table = Field<UInt32>("tb_id")
  }

  private struct Info4: KernelShape {
    static let type = "fib_info"
    let hops = Field<Int32>("fib_nhs")
    let metric = Field<UInt32>("fib_priority")
    let origin = Field<UInt8>("fib_protocol"), scope = Field<UInt8>("fib_scope")
    let source = Field<RawBytes>("fib_prefsrc")
    let hop = Place("fib_nh")
  }

  private struct Hop4: KernelShape {
    static let type = "fib_nh"
    let common = Place("nh_common")
  }

  private struct Hop6: KernelShape {
    static let type = "fib6_nh"
    let common = Place("nh_common")
  }

  private struct Hop: KernelShape {
    static let type = "fib_nh_common"
    let device = Field<VirtualAddress>("nhc_dev")
    let gatewayFamily = Field<UInt64>("nhc_gw_family")
    let gateway = Field<RawBytes>("nhc_gw")
  }

  private struct Table6: KernelShape {
    static let type = "fib6_table"
    let link = Place("tb6_hlist")
    let root = Place("tb6_root")
    let number = Field<UInt32>("tb6_id")
  }

  private struct Node6: KernelShape {
    static let type = "fib6_node"
    let left = Field<VirtualAddress>("left")
    let right = Field<VirtualAddress>("right")
    let leaf = Field<VirtualAddress>("leaf")
  }

  private struct Info6: KernelShape {
    static let type = "fib6_info"
    let next = Field<VirtualAddress>("fib6_next")
    let destination = Field<RawBytes>("fib6_dst.addr")
    let prefix = Field<Int>("fib6_dst.plen")
    let metric = Field<UInt32>("fib6_metric")
    let type = Field<UInt8>("fib6_type")
    let origin = Field<UInt8>("fib6_protocol"), source = Field<RawBytes>("fib6_prefsrc.addr")
    let sourcePrefix = Field<Int>("fib6_prefsrc.plen")
    /// A next hop that routes share is an object of its own.
    let nexthop = Field<VirtualAddress>(optional: "nh")
    let hop = Place("fib6_nh")
  }

  private let net4: Bound<Net4>
  private let table4: Bound<Table4>
  private let trieRoot: Int
  private let vector: Bound<Vector>
  private let alias: Bound<Alias>
  private let info4: Bound<Info4>
  private let hop4: Int
  private let hop: Bound<Hop>
  private let net6: Bound<Net6>
  private let table6: Bound<Table6>
  private let node6: Bound<Node6>
  private let info6: Bound<Info6>
  private let hop6: Int

  // FIB_TABLE_HASHSZ and FIB6_TABLE_HASHSZ with CONFIG_IP_MULTIPLE_TABLES, include/net/ip_fib.h and ip6_fib.h.
  private static let buckets = 256
  /// More nodes and routes than any host has: a full table of the Internet has one million.
  private static let most = 1 << 22

  init(kernel: Kernel) throws {
    let types = kernel.types
    net4 = try Bound(types)
    table4 = try Bound(types)
    vector = try Bound(types)
    trieRoot = try Bound<Trie>(types).vector.offset + vector.children.offset
    alias = try Bound(types)
    info4 = try Bound(types)
    hop4 = try info4.hop.offset + Bound<Hop4>(types).common.offset
    hop = try Bound(types)
    net6 = try Bound(types)
    table6 = try Bound(types)
    node6 = try Bound(types)
    info6 = try Bound(types)
    hop6 = try info6.hop.offset + Bound<Hop6>(types).common.offset
  }

  func read(into configuration: inout NetworkConfiguration, in space: AddressSpace) {
    let names = Dictionary(
      configuration.interfaces.map { ($0.device, $0.name) }, uniquingKeysWith: { first, _ in first })
    read4(names, into: &configuration, in: space)
    read6(names, into: &configuration, in: space)
  }

  /// The tables of all namespaces, whose hash tables lie at `hashes`, each with the number of its namespace.
  private func tables<Table>(
    of table: Bound<Table>, through link: KeyPath<Table, Place>, hashes: [VirtualAddress], in space: AddressSpace,
    _ configuration: inout NetworkConfiguration
  ) -> (namespaces: [UInt64], tables: Structs<Table>) {
    var batch = ReadBatch<VirtualAddress>()
    for hash in hashes { batch.add(hash, count: Self.buckets * 8) }
    space.read(&batch)
    var starts: [ListWalker.Start] = []
    var owners: [UInt64] = []
    for (index, net) in configuration.namespaces.enumerated() {
      do throws(MemoryFault) {
        let reader = try batch.reader(index)
        for bucket in 0..<Self.buckets {
          let first = try reader.pointer(bucket * 8)
          guard first.rawValue != 0 else { continue }
          starts.append(ListWalker.Start(head: VirtualAddress(0), first: first))
          owners.append(net.number)
        }
      } catch {
        configuration.faults.append(error)
      }
    }
    let (lists, tables) = space.lists(
      of: table, through: link, from: starts, form: .nullTerminated, limit: 1 << 16, &configuration.faults)
    return (lists.map { owners[$0] }, tables)
  }

  private func read4(
    _ names: [VirtualAddress: [UInt8]], into configuration: inout NetworkConfiguration, in space: AddressSpace
  ) {
    let nets = space.read(net4, at: configuration.namespaces.map(\.address))
    let (namespaces, tables) = tables(
      of: table4, through: \.link, hashes: nets.pointers(\.tables), in: space, &configuration)
    var batch = ReadBatch<VirtualAddress>()
    for trie in tables.pointers(\.trie) { batch.add(trie + trieRoot, count: 8) }
    space.read(&batch)
    var seen: Set<VirtualAddress> = []
    var level: [(namespace: UInt64, node: VirtualAddress)] = []
    for (index, namespace) in namespaces.enumerated() {
      do throws(MemoryFault) {
        let root = try batch.reader(index).pointer(0)
        if root.rawValue != 0, seen.insert(root).inserted { level.append((namespace, root)) }
      } catch {
        configuration.faults.append(error)
      }
    }
    var leaves: [(namespace: UInt64, key: UInt32, first: VirtualAddress)] = []
    while !level.isEmpty {
      var arrays = ReadBatch<VirtualAddress>()
      var parents: [UInt64] = []
      space.read(vector, at: level.map(\.node)).forEach(&configuration.faults) { (node) throws(MemoryFault) in
        let bits = try node.bits
        let namespace = level[node.index].namespace
        if bits == 0 {
          leaves.append((namespace, try node.key, try node.first))
        } else if bits < 24 {
          arrays.add(node.address(of: \.children), count: 8 << Int(bits))
          parents.append(namespace)
        } else {
          throw MemoryFault(.virtual(node.address), .inconsistent("a node of routes with 2^\(bits) children"))
        }
      }
      space.read(&arrays)
      level = []
      for (index, namespace) in parents.enumerated() {
        do throws(MemoryFault) {
          let reader = try arrays.reader(index)
          for child in 0..<reader.count / 8 {
            let node = try reader.pointer(child * 8)
            if node.rawValue != 0, seen.count < Self.most, seen.insert(node).inserted {
              level.append((namespace, node))
            }
          }
        } catch {
          configuration.faults.append(error)
        }
      }
    }

    let (owners, aliases) = space.lists(
      of: alias, through: \.link,
      from: leaves.map { ListWalker.Start(head: VirtualAddress(0), first: $0.first) }, form: .nullTerminated,
      limit: Self.most, &configuration.faults)
    let infos = aliases.pointers(\.info)
    let (information, hops) = space.read((info4, infos), (hop, infos.map { $0 + hop4 }))
    configuration.routes += aliases.compactMap(&configuration.faults) { (alias) throws(MemoryFault) in
      let suffix = try alias.suffixLength
      guard suffix <= 32 else {
        throw MemoryFault(.virtual(alias.address), .inconsistent("a route to the last \(suffix) bits of an address"))
      }
      let leaf = leaves[owners[alias.index]]
      let info = information[alias.index]
      var route = Route(
        namespace: leaf.namespace, table: try alias.table,
        destination: NetworkAddress(word: UInt64(leaf.key.byteSwapped)), prefixLength: 32 - Int(suffix), gateway: nil,
        interface: [], metric: try info.metric, type: try alias.type, origin: try info.origin, scope: try info.scope)
      let source = NetworkAddress(bytes: try info.source.bytes)
      if !source.isUnspecified { route.preferredSource = source }
      route.entry = info.address
      if try info.hops > 0 { try Self.add(hops[alias.index], to: &route, names) }
      return route
    }
  }

  private static func add(
    _ hop: Reading<Hop>, to route: inout Route, _ names: [VirtualAddress: [UInt8]]
  ) throws(MemoryFault) {
    route.interface = names[try hop.device] ?? []
    switch try hop.gatewayFamily {
    case 2: route.gateway = NetworkAddress(bytes: Array(try hop.gateway.bytes.prefix(4)))
    case 10: route.gateway = NetworkAddress(bytes: try hop.gateway.bytes)
    default: break
    }
  }

  private func read6(
    _ names: [VirtualAddress: [UInt8]], into configuration: inout NetworkConfiguration, in space: AddressSpace
  ) {
    let nets = space.read(net6, at: configuration.namespaces.map(\.address))
    let (namespaces, tables) = tables(
      of: table6, through: \.link, hashes: nets.pointers(\.tables), in: space, &configuration)
    var level = tables.map { (table: $0.index, node: $0.address(of: \.root)) }
    // The entry that stands for no route at all is none.
    var seen = Set(nets.pointers(\.none))
    var leaves: [(table: Int, info: VirtualAddress)] = []
    while !level.isEmpty {
      var next: [(table: Int, node: VirtualAddress)] = []
      space.read(node6, at: level.map(\.node)).forEach(&configuration.faults) { (node) throws(MemoryFault) in
        let table = level[node.index].table
        for child in [try node.left, try node.right]
        where child.rawValue != 0 && seen.count < Self.most && seen.insert(child).inserted {
          next.append((table, child))
        }
        let leaf = try node.leaf
        if leaf.rawValue != 0, seen.insert(leaf).inserted { leaves.append((table, leaf)) }
      }
      level = next
    }
    var found: [(table: Int, info: VirtualAddress)] = []
    while !leaves.isEmpty {
      found += leaves
      leaves = zip(leaves, space.read(info6, at: leaves.map(\.info)).pointers(\.next)).compactMap { leaf, next in
        next.rawValue != 0 && seen.count < Self.most && seen.insert(next).inserted ? (leaf.table, next) : nil
      }
    }
    let (information, hops) = space.read(
      (info6, found.map(\.info)), (hop, found.map { $0.info + hop6 }))
    configuration.routes += information.compactMap(&configuration.faults) { (info) throws(MemoryFault) in
      let table = found[info.index].table
      var route = Route(
        namespace: namespaces[table], table: try tables[table].number,
        destination: NetworkAddress(bytes: try info.destination.bytes), prefixLength: try info.prefix, gateway: nil,
        interface: [], metric: try info.metric, type: try info.type, origin: try info.origin)
      if try info.sourcePrefix != 0 { route.preferredSource = NetworkAddress(bytes: try info.source.bytes) }
      route.entry = info.address
      if try info.nexthop.rawValue == 0 { try Self.add(hops[info.index], to: &route, names) }
      return route
    }
  }
}
