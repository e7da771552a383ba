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

  private struct Net: KernelShape {
    static let type = "net"
    let devices = Place("dev_base_head")
  }

  private struct Device: KernelShape {
    static let type = "net_device"
    let link = Place("dev_list")
    let number = Field<Int32>("ifindex")
    let name = Field<[UInt8]>("name")
    let flags = Field<UInt32>("flags")
    let mtu = Field<UInt32>("mtu")
    let type = Field<UInt16>("type")
    let state = Field<UInt8>("operstate")
    let hardware = Field<VirtualAddress>("dev_addr")
    let hardwareLength = Field<Int>("addr_len")
    let promiscuity = Field<UInt32>("promiscuity")
    let allMulticast = Field<UInt32>("allmulti")
    let address4 = Field<VirtualAddress>("ip_ptr")
    let address6 = Field<VirtualAddress>(optional: "ip6_ptr")
    let linkState = Field<UInt64>("state"), ownFlags = Field<UInt32>("gflags"), mode = Field<UInt8>("link_mode")
    let queueLength = Field<UInt32>("tx_queue_len"), group = Field<UInt32>("group")
    let broadcast = Field<RawBytes>("broadcast"), queueing = Field<VirtualAddress>("qdisc")
    let operations = Field<VirtualAddress>("netdev_ops")
    let perCPU = Field<VirtualAddress>("lstats")
    let statisticsKind = Field<UInt64>(optional: "pcpu_stat_type")
    let received = Field<UInt64>("stats.rx_packets")
    let receivedBytes = Field<UInt64>("stats.rx_bytes")
    let sent = Field<UInt64>("stats.tx_packets")
    let sentBytes = Field<UInt64>("stats.tx_bytes")
  }

  private struct Operations: KernelShape {
    static let type = "net_device_ops"
    let statistics = Field<VirtualAddress>("ndo_get_stats64")
  }

  private struct SoftwareStatistics: KernelShape {
    static let type = "pcpu_sw_netstats"
    let received = Field<UInt64>("rx_packets")
    let receivedBytes = Field<UInt64>("rx_bytes")
    let sent = Field<UInt64>("tx_packets")
    let sentBytes = Field<UInt64>("tx_bytes")
  }

  private struct LoopbackStatistics: KernelShape {
    static let type = "pcpu_lstats"
    let packets = Field<UInt64>("packets")
    let bytes = Field<UInt64>("bytes")
  }

  private struct Device4: KernelShape {
    static let type = "in_device"
    let addresses = Place("ifa_list")
  }

  private struct Address4: KernelShape {
    static let type = "in_ifaddr"
    let next = Place("ifa_next")
    let local = Field<RawBytes>("ifa_local")
    let peer = Field<RawBytes>("ifa_address")
    let prefix = Field<Int>("ifa_prefixlen")
    let scope = Field<UInt8>("ifa_scope")
    let flags = Field<UInt32>("ifa_flags"), broadcast = Field<RawBytes>("ifa_broadcast")
    let label = Field<[UInt8]>("ifa_label")
    let valid = Field<UInt32>("ifa_valid_lft"), preferred = Field<UInt32>("ifa_preferred_lft")
  }

  private struct Device6: KernelShape {
    static let type = "inet6_dev"
    let addresses = Place("addr_list")
  }

  private struct Address6: KernelShape {
    static let type = "inet6_ifaddr"
    let link = Place("if_list")
    let local = Field<RawBytes>("addr")
    let peer = Field<RawBytes>("peer_addr")
    let prefix = Field<Int>("prefix_len")
    let scope = Field<UInt8>("scope")
    let flags = Field<UInt32>("flags"), valid = Field<UInt32>("valid_lft"), preferred = Field<UInt32>("prefered_lft")
  }

  private struct Queueing: KernelShape {
    static let type = "Qdisc"
    let operations = Field<VirtualAddress>("ops")
  }

  private struct QueueingKind: KernelShape {
    static let type = "Qdisc_ops"
    let name = Field<[UInt8]>("id")
  }

  private struct NeighbourTable: KernelShape {
    static let type = "neigh_table"
    let keyLength = Field<Int>("key_len")
    let hash = Field<VirtualAddress>("nht")
  }

  private struct NeighbourHash: KernelShape {
    static let type = "neigh_hash_table"
    let buckets = Field<VirtualAddress>("hash_heads", before: "6.13", "hash_buckets")
    let shift = Field<UInt64>("hash_shift")
  }

  private struct Entry: KernelShape {
    static let type = "neighbour"
    // The older form links the structs themselves, the newer one a field of theirs.
    let link = Place("hash", before: "6.13", "next")
    let state = Field<UInt8>("nud_state")
    let device = Field<VirtualAddress>("dev")
    let hardware = Field<RawBytes>("ha")
    let key = Place("primary_key")
  }

  private let namespaces: NetworkNamespaceReader
  private let net: Bound<Net>
  private let device: Bound<Device>
  private let operations: Bound<Operations>
  private let softwareStatistics: Bound<SoftwareStatistics>
  private let loopbackStatistics: Bound<LoopbackStatistics>
  private let softwareFunction, loopbackFunction: VirtualAddress?
  private let softwareKind: UInt64?
  private let device4: Bound<Device4>
  private let address4: Bound<Address4>
  private let device6: Bound<Device6>
  private let address6: Bound<Address6>
  private let queueing: Bound<Queueing>, queueingKind: Bound<QueueingKind>
  private let neighbourTables: [VirtualAddress]
  private let neighbourTable: Bound<NeighbourTable>
  private let neighbourHash: Bound<NeighbourHash>
  private let neighbour: Bound<Entry>

  /// More than any host has, of interfaces, of addresses and of neighbours.
  private static let most = 1 << 18

  init(kernel: Kernel) throws {
    let types = kernel.types
    namespaces = try NetworkNamespaceReader(kernel: kernel)
    net = try Bound(types)
    device = try Bound(types)
    operations = try Bound(types)
    softwareStatistics = try Bound(types)
    loopbackStatistics = try Bound(types)
    softwareFunction = kernel.symbols.address(of: "dev_get_tstats64")
    loopbackFunction = kernel.symbols.address(of: "loopback_get_stats64")
    softwareKind = types.enumerator("NETDEV_PCPU_STAT_TSTATS").map { UInt64(bitPattern: $0) }
    device4 = try Bound(types)
    address4 = try Bound(types)
    device6 = try Bound(types)
    address6 = try Bound(types)
    neighbourTables = ["arp_tbl", "nd_tbl"].compactMap { kernel.symbols.address(of: $0) }
    queueing = try Bound(types)
    queueingKind = try Bound(types)
    neighbourTable = try Bound(types)
    neighbourHash = try Bound(types)
    neighbour = try Bound(types)
  }

  func read(cpus: [PerCPU.CPU], in space: AddressSpace) throws -> NetworkConfiguration {
    var configuration = NetworkConfiguration()
    let (nets, faults) = namespaces.read(in: space)
    if nets.isEmpty, let fault = faults.first { throw fault }
    configuration.namespaces = nets
    configuration.faults = faults
    let (owners, devices) = space.lists(
      of: device, through: \.link, heads: nets.map { $0.address + net.devices.offset }, limit: Self.most,
      &configuration.faults)
    var found: [Reading<Device>] = []
    var hardware = ReadBatch<VirtualAddress>()
    configuration.interfaces = devices.compactMap(&configuration.faults) { (device) throws(MemoryFault) in
      // MAX_ADDR_LEN, include/linux/netdevice.h.
      let length = try device.hardwareLength
      guard length <= 32 else {
        throw MemoryFault(.virtual(device.address), .inconsistent("a hardware address of \(length) bytes"))
      }
      let interface = NetworkInterface(
        device: device.address, namespace: nets[owners[device.index]].number, index: try device.number,
        name: try device.name, flags: try device.flags, mtu: try device.mtu, type: try device.type,
        operationalState: try device.state, hardwareAddress: NetworkAddress(bytes: []),
        promiscuity: try device.promiscuity, allMulticast: try device.allMulticast,
        link: .init(
          state: try device.linkState, ownFlags: try device.ownFlags, queueLength: try device.queueLength,
          group: try device.group, mode: try device.mode, broadcast: Array(try device.broadcast.bytes.prefix(length)),
          queueing: []))
      hardware.add(try device.hardware, count: length)
      found.append(device)
      return interface
    }
    space.read(&hardware)
    for position in found.indices {
      do throws(MemoryFault) {
        configuration.interfaces[position].hardwareAddress.bytes = try hardware.reader(position).copy()
      } catch {
        configuration.faults.append(error)
      }
    }
    readQueueing(found, in: space, &configuration)
    readAddresses4(found, in: space, &configuration)
    readAddresses6(found, in: space, &configuration)
    readCounters(found, cpus, in: space, &configuration)
    readNeighbours(in: space, &configuration)
    return configuration
  }

  private func readQueueing(
    _ devices: [Reading<Device>], in space: AddressSpace, _ configuration: inout NetworkConfiguration
  ) {
    let places = places(devices, \.queueing)
    let kinds = space.read(queueing, at: places.map(\.address)).pointers(\.operations)
    let names = space.read(queueingKind, at: kinds).compactMap(&configuration.faults) { (kind) throws(MemoryFault) in
      (places[kind.index].interface, try kind.name)
    }
    for (interface, name) in names { configuration.interfaces[interface].link.queueing = name }
  }

  /// The interfaces of which `field` leads to more, each with where.
  private func places(
    _ devices: [Reading<Device>], _ field: KeyPath<Device, Field<VirtualAddress>>
  ) -> [(interface: Int, address: VirtualAddress)] {
    devices.indices.compactMap { index in
      guard let address = try? devices[index].load(device[dynamicMember: field]), address.rawValue != 0 else {
        return nil
      }
      return (index, address)
    }
  }

  private func readAddresses4(
    _ devices: [Reading<Device>], in space: AddressSpace, _ configuration: inout NetworkConfiguration
  ) {
    let places = places(devices, \.address4)
    let (owners, entries) = space.chains(
      of: address4, through: \.next, heads: places.map { $0.address + device4.addresses.offset }, limit: Self.most,
      &configuration.faults)
    let found = entries.compactMap(&configuration.faults) { (entry) throws(MemoryFault) in
      let local = NetworkAddress(bytes: try entry.local.bytes)
      let peer = NetworkAddress(bytes: try entry.peer.bytes)
      let broadcast = NetworkAddress(bytes: try entry.broadcast.bytes)
      return (
        places[owners[entry.index]].interface,
        NetworkInterface.Address(
          address: local, prefixLength: try entry.prefix, peer: peer == local ? nil : peer, scope: try entry.scope,
          flags: try entry.flags, broadcast: broadcast.isUnspecified ? nil : broadcast, label: try entry.label,
          preferredLifetime: try entry.preferred, validLifetime: try entry.valid)
      )
    }
    for (interface, address) in found { configuration.interfaces[interface].addresses.append(address) }
  }

  private func readAddresses6(
    _ devices: [Reading<Device>], in space: AddressSpace, _ configuration: inout NetworkConfiguration
  ) {
    let places = places(devices, \.address6)
    let (owners, entries) = space.lists(
      of: address6, through: \.link, heads: places.map { $0.address + device6.addresses.offset }, limit: Self.most,
      &configuration.faults)
    let found = entries.compactMap(&configuration.faults) { (entry) throws(MemoryFault) in
      let peer = NetworkAddress(bytes: try entry.peer.bytes)
      return (
        places[owners[entry.index]].interface,
        NetworkInterface.Address(
          address: NetworkAddress(bytes: try entry.local.bytes), prefixLength: try entry.prefix,
          peer: peer.isUnspecified ? nil : peer, scope: try entry.scope, flags: try entry.flags, broadcast: nil,
          label: [], preferredLifetime: try entry.preferred, validLifetime: try entry.valid)
      )
    }
    for (interface, address) in found { configuration.interfaces[interface].addresses.append(address) }
  }

  /// Sums what each CPU counted, for drivers that use the kernel's own structs for it.
  private func readCounters(
    _ devices: [Reading<Device>], _ cpus: [PerCPU.CPU], in space: AddressSpace,
    _ configuration: inout NetworkConfiguration
  ) {
    let operations = space.read(
      operations, at: devices.map { device in (try? device.operations) ?? VirtualAddress(0) })
    var counters: [Int: NetworkInterface.Counters] = [:]
    operations.forEach(&configuration.faults) { (operation) throws(MemoryFault) in
      let device = devices[operation.index]
      counters[operation.index] = try self.counters(
        of: device, countedBy: try operation.statistics, cpus, in: space)
    }
    for (interface, counters) in counters { configuration.interfaces[interface].counters = counters }
  }

  private func counters(
    of device: Reading<Device>, countedBy function: VirtualAddress, _ cpus: [PerCPU.CPU], in space: AddressSpace
  ) throws(MemoryFault) -> NetworkInterface.Counters? {
    let kind = try device.statisticsKind
    let variable = try device.perCPU
    let places = cpus.map { $0.address(of: variable) }
    var sum = NetworkInterface.Counters(receivedPackets: 0, receivedBytes: 0, sentPackets: 0, sentBytes: 0)
    if variable.rawValue != 0, function == loopbackFunction {
      for cpu in space.read(loopbackStatistics, at: places) {
        sum.receivedPackets &+= try cpu.packets
        sum.receivedBytes &+= try cpu.bytes
      }
      // What is sent is what is received.
      (sum.sentPackets, sum.sentBytes) = (sum.receivedPackets, sum.receivedBytes)
      return sum
    }
    if variable.rawValue != 0, function == softwareFunction || kind != 0 && kind == softwareKind {
      for cpu in space.read(softwareStatistics, at: places) {
        sum.receivedPackets &+= try cpu.received
        sum.receivedBytes &+= try cpu.receivedBytes
        sum.sentPackets &+= try cpu.sent
        sum.sentBytes &+= try cpu.sentBytes
      }
      return sum
    }
    guard function.rawValue == 0 else { return nil }
    return NetworkInterface.Counters(
      receivedPackets: try device.received, receivedBytes: try device.receivedBytes, sentPackets: try device.sent,
      sentBytes: try device.sentBytes)
  }

  private func readNeighbours(in space: AddressSpace, _ configuration: inout NetworkConfiguration) {
    let interfaces = Dictionary(
      configuration.interfaces.map { ($0.device, $0) }, uniquingKeysWith: { first, _ in first })
    let tables = space.read(neighbourTable, at: neighbourTables)
    let hashes = space.read(neighbourHash, at: tables.pointers(\.hash))
    for table in tables {
      do throws(MemoryFault) {
        let hash = hashes[table.index]
        let shift = try hash.shift
        let length = try table.keyLength
        guard shift <= 24, length == 4 || length == 16 else {
          throw MemoryFault(
            .virtual(table.address), .inconsistent("a table of neighbours of shift \(shift), key \(length)"))
        }
        let heads = try space.read(try hash.buckets, count: 8 << Int(shift))
        let reader = ByteReader(heads.span.bytes)
        var starts: [ListWalker.Start] = []
        for bucket in 0..<(1 << Int(shift)) {
          let first = try reader.pointer(bucket * 8)
          if first.rawValue != 0 { starts.append(ListWalker.Start(head: VirtualAddress(0), first: first)) }
        }
        let entries = space.lists(
          of: neighbour, through: \.link, from: starts, form: .nullTerminated, limit: Self.most, &configuration.faults
        ).structs
        var keys = ReadBatch<VirtualAddress>()
        for entry in entries { keys.add(entry.address(of: \.key), count: length) }
        space.read(&keys)
        configuration.neighbours += entries.compactMap(&configuration.faults) { (entry) throws(MemoryFault) in
          guard let interface = interfaces[try entry.device] else {
            throw MemoryFault(
              .virtual(entry.address), .inconsistent("a neighbour on an interface that no namespace has"))
          }
          return Neighbour(
            namespace: interface.namespace, address: NetworkAddress(bytes: try keys.reader(entry.index).copy()),
            hardwareAddress: NetworkAddress(
              bytes: Array(try entry.hardware.bytes.prefix(interface.hardwareAddress.bytes.count))),
            interface: interface.name, state: try entry.state)
        }
      } catch {
        configuration.faults.append(error)
      }
    }
  }
}
