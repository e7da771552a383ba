import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads interfaces with their addresses and counters, and the tables of neighbours.
///
/// ```
/// net.dev_base_head → net_device … → in_device.ifa_list, inet6_dev.addr_list
/// arp_tbl, nd_tbl → neigh_hash_table → neighbour …
/// ```
/// Source: net/core/dev.c, `dev_get_stats`; net/ipv4/devinet.c; net/ipv6/addrconf.c; net/core/neighbour.c.
struct InterfaceReader: KernelReader {
  static let subject = "the network interfaces"
  typealias Field = FieldSelection.Field

  private let namespaces: NetworkNamespaceReader
  private let devices: Int
  private let deviceLink: Int
  private let device: FieldSelection
  private let index, name, flags, mtu, type, state, hardware, hardwareLength, promiscuity, allMulticast: Field
  private let address4, address6, operations, perCPU, statisticsKind: Field
  private let received, receivedBytes, sent, sentBytes: Field
  private let softwareStatistics, loopbackStatistics: FieldSelection
  private let softwareFields: [Field]
  private let loopbackFields: [Field]
  private let statisticsOperation: FieldLayout
  private let softwareFunction, loopbackFunction: VirtualAddress?
  private let softwareKind, loopbackKind: UInt64?
  private let list4: Int
  private let next4: Int
  private let entry4: FieldSelection
  private let local4, peer4, prefix4, scope4: Field
  private let list6: Int
  private let link6: Int
  private let entry6: FieldSelection
  private let prefix6, scope6: Field
  private let local6, peer6: FieldLayout
  private let neighbourTables: [VirtualAddress]
  private let neighbourTable: FieldSelection
  private let keyLength, neighbourHash: Field
  private let neighbourBuckets: FieldSelection
  private let buckets, bucketShift: Field
  private let neighbour: FieldSelection
  private let neighbourState, neighbourDevice: Field
  private let neighbourNext, neighbourAddress, neighbourKey: Int

  /// More than any host has, of interfaces, of addresses and of neighbours.
  private static let most = 1 << 18

  init(kernel: Kernel) throws {
    let types = kernel.types
    namespaces = try NetworkNamespaceReader(kernel: kernel)
    devices = try types.structure("net").field("dev_base_head").offset
    let structure = try types.structure("net_device")
    deviceLink = try structure.field("dev_list").offset
    var fields = FieldSelection(structure)
    index = try fields.want("ifindex")
    name = try fields.want("name")
    flags = try fields.want("flags")
    mtu = try fields.want("mtu")
    type = try fields.want("type")
    state = try fields.want("operstate")
    hardware = try fields.want("dev_addr")
    hardwareLength = try fields.want("addr_len")
    promiscuity = try fields.want("promiscuity")
    allMulticast = try fields.want("allmulti")
    address4 = try fields.want("ip_ptr")
    address6 = try fields.wantIfPresent("ip6_ptr")
    operations = try fields.want("netdev_ops")
    perCPU = try fields.want("lstats")
    statisticsKind = try fields.wantIfPresent("pcpu_stat_type")
    received = try fields.want("stats.rx_packets")
    receivedBytes = try fields.want("stats.rx_bytes")
    sent = try fields.want("stats.tx_packets")
    sentBytes = try fields.want("stats.tx_bytes")
    device = fields
    fields = FieldSelection(try types.structure("pcpu_sw_netstats"))
    softwareFields = [
      try fields.want("rx_packets"), try fields.want("rx_bytes"), try fields.want("tx_packets"),
      try fields.want("tx_bytes"),
    ]
    softwareStatistics = fields
    fields = FieldSelection(try types.structure("pcpu_lstats"))
    loopbackFields = [try fields.want("packets"), try fields.want("bytes")]
    loopbackStatistics = fields
    statisticsOperation = try types.structure("net_device_ops").field("ndo_get_stats64")
    softwareFunction = kernel.symbols.address(of: "dev_get_tstats64")
    loopbackFunction = kernel.symbols.address(of: "loopback_get_stats64")
    softwareKind = types.enumerator("NETDEV_PCPU_STAT_TSTATS").map { UInt64(bitPattern: $0) }
    loopbackKind = types.enumerator("NETDEV_PCPU_STAT_LSTATS").map { UInt64(bitPattern: $0) }

    list4 = try types.structure("in_device").field("ifa_list").offset
    let ifaddr = try types.structure("in_ifaddr")
    next4 = try ifaddr.field("ifa_next").offset
    fields = FieldSelection(ifaddr)
    local4 = try fields.want("ifa_local")
    peer4 = try fields.want("ifa_address")
    prefix4 = try fields.want("ifa_prefixlen")
    scope4 = try fields.want("ifa_scope")
    entry4 = fields
    list6 = try types.structure("inet6_dev").field("addr_list").offset
    let ifaddr6 = try types.structure("inet6_ifaddr")
    link6 = try ifaddr6.field("if_list").offset
    fields = FieldSelection(ifaddr6)
    prefix6 = try fields.want("prefix_len")
    scope6 = try fields.want("scope")
    entry6 = fields
    local6 = try ifaddr6.field("addr")
    peer6 = try ifaddr6.field("peer_addr")

    neighbourTables = ["arp_tbl", "nd_tbl"].compactMap { kernel.symbols.address(of: $0) }
    fields = FieldSelection(try types.structure("neigh_table"))
    keyLength = try fields.want("key_len")
    neighbourHash = try fields.want("nht")
    neighbourTable = fields
    let hashTable = try types.structure("neigh_hash_table")
    fields = FieldSelection(hashTable)
    buckets = try fields.want(hashTable.hasField("hash_heads") ? "hash_heads" : "hash_buckets")
    bucketShift = try fields.want("hash_shift")
    neighbourBuckets = fields
    let neighbourStructure = try types.structure("neighbour")
    fields = FieldSelection(neighbourStructure)
    neighbourState = try fields.want("nud_state")
    neighbourDevice = try fields.want("dev")
    neighbour = fields
    neighbourNext = try neighbourStructure.field(neighbourStructure.hasField("hash") ? "hash" : "next").offset
    neighbourAddress = try neighbourStructure.field("ha").offset
    neighbourKey = try neighbourStructure.field("primary_key").offset
  }

  func read(cpus: [PerCPU.CPU], in space: AddressSpace) throws -> NetworkConfiguration {
    var configuration = NetworkConfiguration()
    let (nets, faults) = namespaces.read(in: space)
    if nets.isEmpty, let fault = faults.first { throw fault }
    configuration.namespaces = nets
    configuration.faults = faults
    let lists = ListWalker(space: space, form: .circular, limit: Self.most).members(
      ofHeads: nets.map { $0.address + devices })
    configuration.faults += lists.faults
    var found: [(net: NetworkNamespace, device: VirtualAddress)] = []
    for (net, links) in zip(nets, lists.lists) { found += links.map { (net, $0 - deviceLink) } }
    let reads = space.read(device, at: found.map(\.device))
    var places: [(hardware: VirtualAddress, address4: VirtualAddress, address6: VirtualAddress, read: Int)] = []
    for (position, item) in found.enumerated() {
      do throws(MemoryFault) {
        // MAX_ADDR_LEN, include/linux/netdevice.h.
        let length = Int(clamping: try reads.load(position, hardwareLength))
        guard length <= 32 else {
          throw MemoryFault(.virtual(item.device), .inconsistent("a hardware address of \(length) bytes"))
        }
        let interface = NetworkInterface(
          device: item.device, namespace: item.net.number,
          index: Int32(truncatingIfNeeded: try reads.signed(position, index)), name: try reads.string(position, name),
          flags: UInt32(truncatingIfNeeded: try reads.load(position, flags)),
          mtu: UInt32(truncatingIfNeeded: try reads.load(position, mtu)),
          type: UInt16(truncatingIfNeeded: try reads.load(position, type)),
          operationalState: UInt8(truncatingIfNeeded: try reads.load(position, state)),
          hardwareAddress: NetworkAddress(bytes: [UInt8](repeating: 0, count: length)),
          promiscuity: UInt32(truncatingIfNeeded: try reads.load(position, promiscuity)),
          allMulticast: UInt32(truncatingIfNeeded: try reads.load(position, allMulticast)))
        places.append(
          (
            try reads.pointer(position, hardware), try reads.pointer(position, address4),
            try reads.pointer(position, address6), position
          ))
        configuration.interfaces.append(interface)
      } catch {
        configuration.faults.append(error)
      }
    }
    var batch = ReadBatch<VirtualAddress>()
    for (interface, place) in zip(configuration.interfaces, places) {
      batch.add(place.hardware, count: interface.hardwareAddress.bytes.count)
    }
    space.read(&batch)
    for position in places.indices {
      do throws(MemoryFault) {
        configuration.interfaces[position].hardwareAddress.bytes = try batch.reader(position).copy()
      } catch {
        configuration.faults.append(error)
      }
    }
    readAddresses4(places.map(\.address4), in: space, &configuration)
    readAddresses6(places.map(\.address6), in: space, &configuration)
    readCounters(reads, places.map(\.read), cpus, in: space, &configuration)
    readNeighbours(in: space, &configuration)
    return configuration
  }

  private func readAddresses4(
    _ devices: [VirtualAddress], in space: AddressSpace, _ configuration: inout NetworkConfiguration
  ) {
    let owners = devices.indices.filter { devices[$0].rawValue != 0 }
    let walker = ListWalker(space: space, form: .nullTerminated, next: next4, limit: Self.most)
    let lists = walker.members(ofHeads: owners.map { devices[$0] + list4 })
    configuration.faults += lists.faults
    var found: [(interface: Int, address: VirtualAddress)] = []
    for (owner, links) in zip(owners, lists.lists) { found += links.map { (owner, $0) } }
    let reads = space.read(entry4, at: found.map(\.address))
    for (position, item) in found.enumerated() {
      do throws(MemoryFault) {
        let local = NetworkAddress(word: try reads.load(position, local4))
        let peer = NetworkAddress(word: try reads.load(position, peer4))
        configuration.interfaces[item.interface].addresses.append(
          NetworkInterface.Address(
            address: local, prefixLength: Int(clamping: try reads.load(position, prefix4)),
            peer: peer == local ? nil : peer, scope: UInt8(truncatingIfNeeded: try reads.load(position, scope4))))
      } catch {
        configuration.faults.append(error)
      }
    }
  }

  private func readAddresses6(
    _ devices: [VirtualAddress], in space: AddressSpace, _ configuration: inout NetworkConfiguration
  ) {
    let owners = devices.indices.filter { devices[$0].rawValue != 0 }
    let lists = ListWalker(space: space, form: .circular, limit: Self.most).members(
      ofHeads: owners.map { devices[$0] + list6 })
    configuration.faults += lists.faults
    var found: [(interface: Int, address: VirtualAddress)] = []
    for (owner, links) in zip(owners, lists.lists) { found += links.map { (owner, $0 - link6) } }
    let reads = space.read(entry6, at: found.map(\.address))
    var batch = ReadBatch<VirtualAddress>()
    for item in found {
      batch.add(item.address + local6.offset, count: 16)
      batch.add(item.address + peer6.offset, count: 16)
    }
    space.read(&batch)
    for (position, item) in found.enumerated() {
      do throws(MemoryFault) {
        let peer = NetworkAddress(bytes: try batch.reader(position * 2 + 1).copy())
        configuration.interfaces[item.interface].addresses.append(
          NetworkInterface.Address(
            address: NetworkAddress(bytes: try batch.reader(position * 2).copy()),
            prefixLength: Int(clamping: try reads.load(position, prefix6)), peer: peer.isUnspecified ? nil : peer,
            scope: UInt8(truncatingIfNeeded: try reads.load(position, scope6))))
      } catch {
        configuration.faults.append(error)
      }
    }
  }

  /// Sums what each CPU counted, for drivers that use the kernel's own structs for it.
  private func readCounters(
    _ devices: StructReads, _ positions: [Int], _ cpus: [PerCPU.CPU], in space: AddressSpace,
    _ configuration: inout NetworkConfiguration
  ) {
    var batch = ReadBatch<VirtualAddress>()
    for position in positions {
      let operations = (try? devices.pointer(position, operations)) ?? VirtualAddress(0)
      batch.add(operations + statisticsOperation.offset, count: 8)
    }
    space.read(&batch)
    for (interface, position) in positions.enumerated() {
      do throws(MemoryFault) {
        let function = try batch.reader(interface).pointer(0)
        let kind = try devices.load(position, statisticsKind)
        let variable = try devices.pointer(position, perCPU)
        let places = cpus.map { $0.address(of: variable) }
        func sums(_ selection: FieldSelection, _ fields: [Field]) throws(MemoryFault) -> [UInt64] {
          let reads = space.read(selection, at: places)
          var sums = [UInt64](repeating: 0, count: fields.count)
          for cpu in places.indices {
            for (index, field) in fields.enumerated() { sums[index] &+= try reads.load(cpu, field) }
          }
          return sums
        }
        if variable.rawValue != 0, function == loopbackFunction {
          // What is sent is what is received.
          let all = try sums(loopbackStatistics, loopbackFields)
          configuration.interfaces[interface].counters = NetworkInterface.Counters(
            receivedPackets: all[0], receivedBytes: all[1], sentPackets: all[0], sentBytes: all[1])
        } else if variable.rawValue != 0, function == softwareFunction || kind != 0 && kind == softwareKind {
          let all = try sums(softwareStatistics, softwareFields)
          configuration.interfaces[interface].counters = NetworkInterface.Counters(
            receivedPackets: all[0], receivedBytes: all[1], sentPackets: all[2], sentBytes: all[3])
        } else if function.rawValue == 0 {
          configuration.interfaces[interface].counters = NetworkInterface.Counters(
            receivedPackets: try devices.load(position, received),
            receivedBytes: try devices.load(position, receivedBytes), sentPackets: try devices.load(position, sent),
            sentBytes: try devices.load(position, sentBytes))
        }
      } catch {
        configuration.faults.append(error)
      }
    }
  }

  private func readNeighbours(in space: AddressSpace, _ configuration: inout NetworkConfiguration) {
    let interfaces = Dictionary(
      configuration.interfaces.map { ($0.device, $0) }, uniquingKeysWith: { first, _ in first })
    let tables = space.read(neighbourTable, at: neighbourTables)
    let hashes = space.read(
      neighbourBuckets, at: tables.indices.map { (try? tables.pointer($0, neighbourHash)) ?? VirtualAddress(0) })
    for table in tables.indices {
      do throws(MemoryFault) {
        let shift = try hashes.load(table, bucketShift)
        let length = try tables.load(table, keyLength)
        guard shift <= 24, length == 4 || length == 16 else {
          throw MemoryFault(
            .virtual(neighbourTables[table]), .inconsistent("a table of neighbours of shift \(shift), key \(length)"))
        }
        let heads = try space.read(try hashes.pointer(table, buckets), count: 8 << Int(shift))
        let reader = ByteReader(heads.span.bytes)
        var starts: [ListWalker.Start] = []
        for bucket in 0..<(1 << Int(shift)) {
          let first = try reader.pointer(bucket * 8)
          if first.rawValue != 0 { starts.append(ListWalker.Start(head: VirtualAddress(0), first: first)) }
        }
        // The older form links the structs themselves, the newer one a field of theirs.
        let link = neighbourNext
        let lists = ListWalker(space: space, form: .nullTerminated, limit: Self.most).members(of: starts)
        configuration.faults += lists.faults
        let members = lists.lists.flatMap { $0 }.map { $0 - link }
        let reads = space.read(neighbour, at: members)
        var batch = ReadBatch<VirtualAddress>()
        for member in members {
          batch.add(member + neighbourAddress, count: 32)
          batch.add(member + neighbourKey, count: Int(length))
        }
        space.read(&batch)
        for index in members.indices {
          let device = try reads.pointer(index, neighbourDevice)
          guard let interface = interfaces[device] else {
            configuration.faults.append(
              MemoryFault(.virtual(members[index]), .inconsistent("a neighbour on an interface that no namespace has")))
            continue
          }
          let hardware = try batch.reader(index * 2).slice(0, count: interface.hardwareAddress.bytes.count).copy()
          configuration.neighbours.append(
            Neighbour(
              namespace: interface.namespace, address: NetworkAddress(bytes: try batch.reader(index * 2 + 1).copy()),
              hardwareAddress: NetworkAddress(bytes: hardware), interface: interface.name,
              state: UInt8(truncatingIfNeeded: try reads.load(index, neighbourState))))
        }
      } catch {
        configuration.faults.append(error)
      }
    }
  }
}
