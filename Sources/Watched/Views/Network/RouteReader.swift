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
  typealias Field = FieldSelection.Field

  private let tables4, tables6: FieldSelection
  private let hash4, hash6, none6: Field
  private let table4Link: Int
  private let table4: FieldSelection
  private let trie: Field
  private let trieRoot: Int
  private let vector: FieldSelection
  private let key, bits, first: Field
  private let children: Int
  private let aliasLink: Int
  private let alias: FieldSelection
  private let aliasInfo, suffixLength, aliasType, aliasTable: Field
  private let info: FieldSelection
  private let hops, metric, origin: Field
  private let hop: Int
  private let common: FieldSelection
  private let device, gatewayFamily, interfaceIndex: Field
  private let gateway: Int
  private let table6Link: Int
  private let root6: Int
  private let table6Number: FieldLayout
  private let node6: FieldSelection
  private let left6, right6, leaf6: Field
  private let info6: FieldSelection
  private let next6, prefix6, metric6, type6, origin6, nexthop6: Field
  private let destination6, hop6: Int

  // FIB_TABLE_HASHSZ and FIB6_TABLE_HASHSZ with CONFIG_IP_MULTIPLE_TABLES, include/net/ip_fib.h and ip6_fib.h.
  private static let buckets = 256
  /// More nodes and routes than any host has: a full table of the Internet has one million.
  private static let most = 1 << 22

  init(kernel: Kernel) throws {
    let types = kernel.types
    let net = try types.structure("net")
    var fields = FieldSelection(net)
    hash4 = try fields.want("ipv4.fib_table_hash")
    tables4 = fields
    fields = FieldSelection(net)
    hash6 = try fields.want("ipv6.fib_table_hash")
    none6 = try fields.want("ipv6.fib6_null_entry")
    tables6 = fields
    let table = try types.structure("fib_table")
    table4Link = try table.field("tb_hlist").offset
    fields = FieldSelection(table)
    trie = try fields.want("tb_data")
    table4 = fields
    let vectorStructure = try types.structure("key_vector")
    // The trie's own vector has one child, the root.
    trieRoot = try types.structure("trie").field("kv").offset + vectorStructure.field("leaf").offset
    fields = FieldSelection(vectorStructure)
    key = try fields.want("key")
    bits = try fields.want("bits")
    first = try fields.want("leaf")
    vector = fields
    children = try vectorStructure.field("leaf").offset
    let aliasStructure = try types.structure("fib_alias")
    aliasLink = try aliasStructure.field("fa_list").offset
    fields = FieldSelection(aliasStructure)
    aliasInfo = try fields.want("fa_info")
    suffixLength = try fields.want("fa_slen")
    aliasType = try fields.want("fa_type")
    aliasTable = try fields.want("tb_id")
    alias = fields
    let infoStructure = try types.structure("fib_info")
    fields = FieldSelection(infoStructure)
    hops = try fields.want("fib_nhs")
    metric = try fields.want("fib_priority")
    origin = try fields.want("fib_protocol")
    info = fields
    hop = try infoStructure.field("fib_nh").offset + types.structure("fib_nh").field("nh_common").offset
    let commonStructure = try types.structure("fib_nh_common")
    fields = FieldSelection(commonStructure)
    device = try fields.want("nhc_dev")
    gatewayFamily = try fields.want("nhc_gw_family")
    interfaceIndex = try fields.want("nhc_oif")
    common = fields
    gateway = try commonStructure.field("nhc_gw").offset

    let table6 = try types.structure("fib6_table")
    table6Link = try table6.field("tb6_hlist").offset
    root6 = try table6.field("tb6_root").offset
    table6Number = try table6.field("tb6_id")
    fields = FieldSelection(try types.structure("fib6_node"))
    left6 = try fields.want("left")
    right6 = try fields.want("right")
    leaf6 = try fields.want("leaf")
    node6 = fields
    let info6Structure = try types.structure("fib6_info")
    fields = FieldSelection(info6Structure)
    next6 = try fields.want("fib6_next")
    prefix6 = try fields.want("fib6_dst.plen")
    metric6 = try fields.want("fib6_metric")
    type6 = try fields.want("fib6_type")
    origin6 = try fields.want("fib6_protocol")
    nexthop6 = try fields.wantIfPresent("nh")
    info6 = fields
    destination6 = try info6Structure.field("fib6_dst.addr").offset
    hop6 = try info6Structure.field("fib6_nh").offset + types.structure("fib6_nh").field("nh_common").offset
  }

  func read(into configuration: inout NetworkConfiguration, in space: AddressSpace) {
    let names = Dictionary(
      configuration.interfaces.map { ($0.device, $0.name) }, uniquingKeysWith: { first, _ in first })
    read4(names, into: &configuration, in: space)
    read6(names, into: &configuration, in: space)
  }

  /// The tables of all namespaces: what hangs in their hash tables.
  private func tables(
    _ selection: FieldSelection, _ hash: Field, link: Int, in space: AddressSpace,
    _ configuration: inout NetworkConfiguration
  ) -> [(namespace: UInt64, table: VirtualAddress)] {
    let nets = configuration.namespaces
    let reads = space.read(selection, at: nets.map(\.address))
    var batch = ReadBatch<VirtualAddress>()
    for index in nets.indices {
      batch.add((try? reads.pointer(index, hash)) ?? VirtualAddress(0), count: Self.buckets * 8)
    }
    space.read(&batch)
    var starts: [ListWalker.Start] = []
    var owners: [UInt64] = []
    for (index, net) in nets.enumerated() {
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
    let lists = ListWalker(space: space, form: .nullTerminated, limit: 1 << 16).members(of: starts)
    configuration.faults += lists.faults
    return zip(owners, lists.lists).flatMap { owner, links in links.map { (owner, $0 - link) } }
  }

  private func read4(
    _ names: [VirtualAddress: [UInt8]], into configuration: inout NetworkConfiguration, in space: AddressSpace
  ) {
    let tables = tables(tables4, hash4, link: table4Link, in: space, &configuration)
    let reads = space.read(table4, at: tables.map(\.table))
    var batch = ReadBatch<VirtualAddress>()
    for index in tables.indices {
      batch.add(((try? reads.pointer(index, trie)) ?? VirtualAddress(0)) + trieRoot, count: 8)
    }
    space.read(&batch)
    var seen: Set<VirtualAddress> = []
    var level: [(namespace: UInt64, node: VirtualAddress)] = []
    for (index, table) in tables.enumerated() {
      do throws(MemoryFault) {
        let root = try batch.reader(index).pointer(0)
        if root.rawValue != 0, seen.insert(root).inserted { level.append((table.namespace, root)) }
      } catch {
        configuration.faults.append(error)
      }
    }
    var leaves: [(namespace: UInt64, key: UInt64, first: VirtualAddress)] = []
    while !level.isEmpty {
      let nodes = space.read(vector, at: level.map(\.node))
      var arrays = ReadBatch<VirtualAddress>()
      var parents: [UInt64] = []
      for (index, item) in level.enumerated() {
        do throws(MemoryFault) {
          let bits = try nodes.load(index, bits)
          if bits == 0 {
            leaves.append((item.namespace, try nodes.load(index, key), try nodes.pointer(index, first)))
          } else if bits < 24 {
            arrays.add(item.node + children, count: 8 << Int(bits))
            parents.append(item.namespace)
          } else {
            throw MemoryFault(.virtual(item.node), .inconsistent("a node of routes with 2^\(bits) children"))
          }
        } catch {
          configuration.faults.append(error)
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

    let lists = ListWalker(space: space, form: .nullTerminated, limit: Self.most).members(
      of: leaves.map { ListWalker.Start(head: VirtualAddress(0), first: $0.first) })
    configuration.faults += lists.faults
    var found: [(leaf: Int, alias: VirtualAddress)] = []
    for (leaf, links) in lists.lists.enumerated() { found += links.map { (leaf, $0 - aliasLink) } }
    let aliases = space.read(alias, at: found.map(\.alias))
    let infos = found.indices.map { (try? aliases.pointer($0, aliasInfo)) ?? VirtualAddress(0) }
    let information = space.read(info, at: infos)
    let common = space.read(common, at: infos.map { $0 + hop })
    var gateways = ReadBatch<VirtualAddress>()
    for info in infos { gateways.add(info + hop + gateway, count: 16) }
    space.read(&gateways)
    for (index, item) in found.enumerated() {
      do throws(MemoryFault) {
        let suffix = try aliases.load(index, suffixLength)
        guard suffix <= 32 else {
          throw MemoryFault(.virtual(item.alias), .inconsistent("a route to the last \(suffix) bits of an address"))
        }
        let leaf = leaves[item.leaf]
        let number = UInt32(truncatingIfNeeded: leaf.key)
        var route = Route(
          namespace: leaf.namespace, table: UInt32(truncatingIfNeeded: try aliases.load(index, aliasTable)),
          destination: NetworkAddress(word: UInt64(number.byteSwapped)), prefixLength: 32 - Int(suffix), gateway: nil,
          interface: [], metric: UInt32(truncatingIfNeeded: try information.load(index, metric)),
          type: UInt8(truncatingIfNeeded: try aliases.load(index, aliasType)),
          origin: UInt8(truncatingIfNeeded: try information.load(index, origin)))
        if try information.load(index, hops) > 0 {
          try addHop(to: &route, common, gateways, index, names)
        }
        configuration.routes.append(route)
      } catch {
        configuration.faults.append(error)
      }
    }
  }

  private func addHop(
    to route: inout Route, _ common: StructReads, _ gateways: borrowing ReadBatch<VirtualAddress>, _ index: Int,
    _ names: [VirtualAddress: [UInt8]]
  ) throws(MemoryFault) {
    route.interface = names[try common.pointer(index, device)] ?? []
    switch try common.load(index, gatewayFamily) {
    case 2: route.gateway = NetworkAddress(bytes: try gateways.reader(index).slice(0, count: 4).copy())
    case 10: route.gateway = NetworkAddress(bytes: try gateways.reader(index).copy())
    default: break
    }
  }

  private func read6(
    _ names: [VirtualAddress: [UInt8]], into configuration: inout NetworkConfiguration, in space: AddressSpace
  ) {
    let tables = tables(tables6, hash6, link: table6Link, in: space, &configuration)
    var numbers = ReadBatch<VirtualAddress>()
    for table in tables { numbers.add(table.table + table6Number.offset, count: 4) }
    space.read(&numbers)
    var level = tables.indices.map { (table: $0, node: tables[$0].table + root6) }
    // The entry that stands for no route at all is none.
    let nets = space.read(tables6, at: configuration.namespaces.map(\.address))
    var seen = Set(nets.indices.compactMap { try? nets.pointer($0, none6) })
    var leaves: [(table: Int, info: VirtualAddress)] = []
    while !level.isEmpty {
      let nodes = space.read(node6, at: level.map(\.node))
      var next: [(table: Int, node: VirtualAddress)] = []
      for (index, item) in level.enumerated() {
        do throws(MemoryFault) {
          for child in [try nodes.pointer(index, left6), try nodes.pointer(index, right6)]
          where child.rawValue != 0 && seen.count < Self.most && seen.insert(child).inserted {
            next.append((item.table, child))
          }
          let leaf = try nodes.pointer(index, leaf6)
          if leaf.rawValue != 0, seen.insert(leaf).inserted { leaves.append((item.table, leaf)) }
        } catch {
          configuration.faults.append(error)
        }
      }
      level = next
    }
    var found: [(table: Int, info: VirtualAddress)] = []
    while !leaves.isEmpty {
      found += leaves
      let reads = space.read(info6, at: leaves.map(\.info))
      leaves = leaves.enumerated().compactMap { index, item in
        guard let next = try? reads.pointer(index, next6), next.rawValue != 0, seen.count < Self.most,
          seen.insert(next).inserted
        else { return nil }
        return (item.table, next)
      }
    }
    let information = space.read(info6, at: found.map(\.info))
    let common = space.read(common, at: found.map { $0.info + hop6 })
    var batch = ReadBatch<VirtualAddress>()
    for item in found { batch.add(item.info + hop6 + gateway, count: 16) }
    var destinations = ReadBatch<VirtualAddress>()
    for item in found { destinations.add(item.info + destination6, count: 16) }
    space.read(&batch)
    space.read(&destinations)
    for (index, item) in found.enumerated() {
      do throws(MemoryFault) {
        var route = Route(
          namespace: tables[item.table].namespace,
          table: UInt32(truncatingIfNeeded: try numbers.reader(item.table).u32(0)),
          destination: NetworkAddress(bytes: try destinations.reader(index).copy()),
          prefixLength: Int(clamping: try information.load(index, prefix6)), gateway: nil, interface: [],
          metric: UInt32(truncatingIfNeeded: try information.load(index, metric6)),
          type: UInt8(truncatingIfNeeded: try information.load(index, type6)),
          origin: UInt8(truncatingIfNeeded: try information.load(index, origin6)))
        // A next hop that routes share is an object of its own.
        if try information.load(index, nexthop6) == 0 { try addHop(to: &route, common, batch, index, names) }
        configuration.routes.append(route)
      } catch {
        configuration.faults.append(error)
      }
    }
  }
}
