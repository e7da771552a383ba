import Binding
import KernelInfo
import LinuxKernel
import Memory
import NetworkViews
import Paging

/// The groups that a network namespace's interfaces listen to: /proc/net/igmp, igmp6, mcfilter, mcfilter6 and anycast6.
struct MulticastFiles {
  let kernel: Kernel
  /// In the order in which the kernel lists them.
  let interfaces: [NetworkInterface]

  private var space: AddressSpace { kernel.addressSpace }

  /// No host listens to as many groups.
  private static let most = 1 << 18

  private struct Device: KernelShape {
    static let type = "net_device"
    let own4 = Field<VirtualAddress>("ip_ptr"), own6 = Field<VirtualAddress>("ip6_ptr")
  }

  // MARK: Version 4

  private struct Owner: KernelShape {
    static let type = "in_device"
    let groups = Place("mc_list"), count = Field<Int32>("mc_count")
    let first = Field<VirtualAddress>("mc_list"), seen1 = Field<UInt64>("mr_v1_seen"),
      seen2 = Field<UInt64>("mr_v2_seen")
    let settings = Place("cnf.data")
  }

  private struct Group: KernelShape {
    static let type = "ip_mc_list"
    let next = Place("next_rcu"), value = Field<UInt32>("multiaddr"), users = Field<Int32>("users")
    let expires = Field<UInt64>("timer.expires"), isRunning = Field<UInt8>("tm_running")
    let reporter = Field<UInt8>("reporter"), sources = Place("sources")
  }

  private struct Source: KernelShape {
    static let type = "ip_sf_list"
    let next = Place("sf_next"), value = Field<UInt32>("sf_inaddr"), counts = Field<[UInt64]>("sf_count")
  }

  /// The groups of each interface that has what version 4 needs.
  private func groups4() throws -> [(interface: NetworkInterface, owner: Reading<Owner>, groups: [Reading<Group>])] {
    let devices = try kernel.read(Device.self, at: interfaces.map(\.device))
    let own = devices.filter { ((try? $0.own4) ?? VirtualAddress(0)).rawValue != 0 }
    let owners = try kernel.read(Owner.self, at: own.map { try $0.own4 })
    var faults: [MemoryFault] = []
    let (numbers, groups) = space.chains(
      of: try kernel.bound(Group.self), through: \.next, heads: owners.map { $0.address(of: \.groups) },
      limit: Self.most, &faults)
    if let fault = faults.first { throw fault }
    return owners.map { owner in
      (interfaces[own[owner.index].index], owner, groups.filter { numbers[$0.index] == owner.index })
    }
  }

  /// Source: net/ipv4/igmp.c, `igmp_mc_seq_show`.
  func groups(_ net: VirtualAddress) throws -> [UInt8] {
    let now = try kernel.words(kernel.symbols.address(of: "jiffies_64") == nil ? "jiffies" : "jiffies_64", 1)[0]
    let ticks = try kernel.ticksPerSecond()
    // IPV4_DEVCONF_FORCE_IGMP_VERSION, numbered from 1.
    let setting = Int(max(1, min(256, kernel.types.enumerator("IPV4_DEVCONF_FORCE_IGMP_VERSION") ?? 15))) - 1
    let all = try space.pointer(at: net + kernel.offset(of: "ipv4.devconf_all", in: "net"))
    let forAll: Int32 = try space.load(all + kernel.offset(of: "data", in: "ipv4_devconf") + setting * 4)
    var text = ProcText("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n")
    for (interface, owner, groups) in try groups4() where !groups.isEmpty {
      let own: Int32 = try space.load(owner.address(of: \.settings) + setting * 4)
      func isSeen(_ version: Int32, _ until: UInt64) -> Bool {
        forAll == version || own == version || until != 0 && Int64(bitPattern: now &- until) < 0
      }
      let querier = isSeen(1, try owner.seen1) ? "V1" : isSeen(2, try owner.seen2) ? "V2" : "V3"
      let name = ProcText.filled(String(decoding: interface.name, as: UTF8.self), 10)
      text.line(
        "\(interface.index)\t\(name): \(ProcText.padded("\(try owner.count)", 5)) \(ProcText.padded(querier, 7))")
      for group in groups {
        let isRunning = try group.isRunning
        let left = isRunning != 0 ? Self.hundredths(try group.expires &- now, ticks) : 0
        text.line(
          "\t\t\t\t\(ProcText.hex(UInt64(try group.value), 8).uppercased()) \(ProcText.padded("\(try group.users)", 5)) "
            + "\(isRunning):\(ProcText.hex(left, 8).uppercased())\t\t\(try group.reporter)")
      }
    }
    return text.bytes
  }

  /// Ticks in hundredths of a second; what is over is none.
  ///
  /// Source: include/linux/jiffies.h, `jiffies_delta_to_clock_t`.
  private static func hundredths(_ ticks: UInt64, _ perSecond: UInt64) -> UInt64 {
    Int64(bitPattern: ticks) <= 0 ? 0 : ticks &* 100 / perSecond
  }

  /// Source: net/ipv4/igmp.c, `igmp_mcf_seq_show`; it begins with the first interface of which the first group has sources.
  func filters() throws -> [UInt8] {
    var text = ProcText("Idx Device        MCA        SRC    INC    EXC\n")
    let all = try groups4()
    let sources = space.pointers(
      at: all.map { $0.groups.first.map { $0.address(of: \.sources) } ?? VirtualAddress(0) })
    guard let first = sources.firstIndex(where: { $0.rawValue != 0 }) else { return text.bytes }
    for (interface, _, groups) in all[first...] {
      var faults: [MemoryFault] = []
      let (owners, sources) = space.chains(
        of: try kernel.bound(Source.self), through: \.next, heads: groups.map { $0.address(of: \.sources) },
        limit: Self.most, &faults)
      if let fault = faults.first { throw fault }
      for source in sources {
        let counts = try source.counts
        text.line(
          "\(Self.place(interface)) 0x\(ProcText.hex(UInt64(try groups[owners[source.index]].value.byteSwapped), 8)) "
            + "0x\(ProcText.hex(UInt64(try source.value.byteSwapped), 8)) \(Self.counts(counts))")
      }
    }
    return text.bytes
  }

  private static func place(_ interface: NetworkInterface) -> String {
    ProcText.padded("\(interface.index)", 3) + " "
      + ProcText.padded(String(decoding: interface.name.prefix(6), as: UTF8.self), 6)
  }

  /// MCAST_INCLUDE is 1, MCAST_EXCLUDE 0.
  private static func counts(_ counts: [UInt64]) -> String {
    [counts[safe: 1] ?? 0, counts[safe: 0] ?? 0].map { ProcText.padded("\($0)", 6) }.joined(separator: " ")
  }

  // MARK: Version 6

  private struct Owner6: KernelShape {
    static let type = "inet6_dev"
    let groups = Place("mc_list"), anycasts = Place("ac_list")
  }

  private struct Group6: KernelShape {
    static let type = "ifmcaddr6"
    let next = Place("next"), value = Field<RawBytes>("mca_addr"), users = Field<Int32>("mca_users")
    let flags = Field<UInt32>("mca_flags"), sources = Place("mca_sources")
    let expires = Field<UInt64>("mca_work.timer.expires", before: "5.13, 2d9a93b4902b", "mca_timer.expires")
  }

  private struct Source6: KernelShape {
    static let type = "ip6_sf_list"
    let next = Place("sf_next"), value = Field<RawBytes>("sf_addr"), counts = Field<[UInt64]>("sf_count")
  }

  private struct Anycast: KernelShape {
    static let type = "ifacaddr6"
    let next = Place("aca_next"), value = Field<RawBytes>("aca_addr"), users = Field<Int32>("aca_users")
  }

  /// Each interface that has what version 6 needs, and its `inet6_dev`.
  private func owners6() throws -> [(interface: NetworkInterface, owner: Reading<Owner6>)] {
    let own = try kernel.read(Device.self, at: interfaces.map(\.device)).pointers(\.own6)
    let present = own.indices.filter { own[$0].rawValue != 0 }
    return zip(present.map { interfaces[$0] }, try kernel.read(Owner6.self, at: present.map { own[$0] })).map {
      ($0, $1)
    }
  }

  private static func hex(_ bytes: [UInt8]) -> String { bytes.map { ProcText.hex(UInt64($0), 2) }.joined() }

  private func groups6() throws -> [(interface: NetworkInterface, group: Reading<Group6>)] {
    let owners = try owners6()
    var faults: [MemoryFault] = []
    let (numbers, groups) = space.chains(
      of: try kernel.bound(Group6.self), through: \.next, heads: owners.map { $0.owner.address(of: \.groups) },
      limit: Self.most, &faults)
    if let fault = faults.first { throw fault }
    return groups.map { (owners[numbers[$0.index]].interface, $0) }
  }

  /// Source: net/ipv6/mcast.c, `igmp6_mc_seq_show`.
  func groupsOfVersion6() throws -> [UInt8] {
    let now = try kernel.words(kernel.symbols.address(of: "jiffies_64") == nil ? "jiffies" : "jiffies_64", 1)[0]
    let ticks = try kernel.ticksPerSecond()
    var text = ProcText()
    for (interface, group) in try groups6() {
      let flags = try group.flags
      // MAF_TIMER_RUNNING.
      let left = flags & 1 != 0 ? Self.hundredths(try group.expires &- now, ticks) : 0
      let name = ProcText.filled(String(decoding: interface.name, as: UTF8.self), 15)
      text.line(
        "\(ProcText.filled("\(interface.index)", 4)) \(name) \(Self.hex(try group.value.bytes)) "
          + "\(ProcText.padded("\(try group.users)", 5)) \(ProcText.hex(UInt64(flags), 8).uppercased()) \(left)")
    }
    return text.bytes
  }

  /// Source: net/ipv6/mcast.c, `igmp6_mcf_seq_show`.
  func filtersOfVersion6() throws -> [UInt8] {
    var text = ProcText("Idx Device                Multicast Address                   Source Address    INC    EXC\n")
    let groups = try groups6()
    var faults: [MemoryFault] = []
    let (owners, sources) = space.chains(
      of: try kernel.bound(Source6.self), through: \.next, heads: groups.map { $0.group.address(of: \.sources) },
      limit: Self.most, &faults)
    if let fault = faults.first { throw fault }
    for source in sources {
      let (interface, group) = groups[owners[source.index]]
      text.line(
        "\(Self.place(interface)) \(Self.hex(try group.value.bytes)) \(Self.hex(try source.value.bytes)) "
          + Self.counts(try source.counts))
    }
    return text.bytes
  }

  /// Source: net/ipv6/anycast.c, `ac6_seq_show`.
  func anycasts() throws -> [UInt8] {
    let owners = try owners6()
    var faults: [MemoryFault] = []
    let (numbers, addresses) = space.chains(
      of: try kernel.bound(Anycast.self), through: \.next, heads: owners.map { $0.owner.address(of: \.anycasts) },
      limit: Self.most, &faults)
    if let fault = faults.first { throw fault }
    var text = ProcText()
    for address in addresses {
      let interface = owners[numbers[address.index]].interface
      let name = ProcText.filled(String(decoding: interface.name, as: UTF8.self), 15)
      text.line(
        "\(ProcText.filled("\(interface.index)", 4)) \(name) \(Self.hex(try address.value.bytes)) "
          + ProcText.padded("\(try address.users)", 5))
    }
    return text.bytes
  }
}
