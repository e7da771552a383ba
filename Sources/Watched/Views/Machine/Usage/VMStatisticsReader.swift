import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads what /proc/vmstat and /proc/zoneinfo show.
///
/// `vmstat_text` has the names of five runs of counters: of zones, NUMA events, nodes, limits that are worked out when
/// asked, and events. Each run is an array of its own; events are counted a CPU, and so are NUMA events until they are
/// folded into the global ones. Source: mm/vmstat.c, `vmstat_start`, `zoneinfo_show_print`.
struct VMStatisticsReader: KernelReader {
  static let subject = "the memory statistics"

  private struct Events: KernelShape {
    static let type = "vm_event_state"
    let counts = ArrayPlace("event", most: VMStatisticsReader.mostCounters)
  }

  private struct Node: KernelShape {
    static let type = "pglist_data"
    // Four or five zones a node (enum zone_type).
    let zones = ArrayPlace("node_zones", most: 8)
  }

  private struct Zone: KernelShape {
    static let type = "zone"
    let name = Field<VirtualAddress>("name")
    let marks = Field<[UInt64]>("_watermark")
    let boost = Field<UInt64>(optional: "watermark_boost")
    let start = Field<UInt64>("zone_start_pfn")
    let managed = Field<UInt64>("managed_pages")
    let spanned = Field<UInt64>("spanned_pages")
    let present = Field<UInt64>("present_pages")
    let counters = Field<[Int64]>("vm_stat")
    let perCPU = Field<VirtualAddress?>(optional: "per_cpu_zonestats")
  }

  private struct ZoneShare: KernelShape {
    // Words from 5.14 on; older kernels have no such struct.
    static let type = "per_cpu_zonestat"
    let events = Field<[UInt64]>("vm_numa_event")
  }

  private let names: VirtualAddress
  private let runs: [CounterArray]
  private let limitCount: Int
  private let eventVariable: VirtualAddress
  private let events: Bound<Events>
  /// Events that count sectors of 512 bytes, and that /proc/vmstat shows in KiB (`vmstat_start`).
  private let sectorEvents: [Int]
  private let nodes: MemoryNodes
  private let node: Bound<Node>
  private let zone: Bound<Zone>
  private let share: Bound<ZoneShare>?

  /// More counters than any kernel has of one kind, so that types cannot ask for all memory.
  private static let mostCounters = 1024

  init(kernel: Kernel) throws {
    let types = kernel.types
    func count(_ name: String) -> Int? {
      types.enumerator(name).flatMap { (0..<Int64(Self.mostCounters)).contains($0) ? Int($0) : nil }
    }
    names = try kernel.symbol("vmstat_text", for: Self.self)
    runs = [
      CounterArray(
        address: try kernel.symbol("vm_zone_stat", for: Self.self), count: count("NR_VM_ZONE_STAT_ITEMS") ?? 0),
      // Statistics like the others until 5.13.
      CounterArray(
        address: kernel.symbols.address(of: "vm_numa_event") ?? kernel.symbols.address(of: "vm_numa_stat"),
        count: count("NR_VM_NUMA_EVENT_ITEMS") ?? count("NR_VM_NUMA_STAT_ITEMS") ?? 0),
      CounterArray(
        address: try kernel.symbol("vm_node_stat", for: Self.self), count: count("NR_VM_NODE_STAT_ITEMS") ?? 0),
    ]
    limitCount = count("NR_VM_WRITEBACK_STAT_ITEMS") ?? count("NR_VM_STAT_ITEMS") ?? 0
    eventVariable = try kernel.symbol("vm_event_states", for: Self.self)
    events = try Bound(types)
    sectorEvents = ["PGPGIN", "PGPGOUT"].compactMap { name in count(name) }
    nodes = MemoryNodes(kernel: kernel)
    node = try Bound(types)
    zone = try Bound(types)
    share = zone.perCPU.isPresent && types.hasStructure(ZoneShare.type) ? try Bound(types) : nil
  }

  func read(cpus: [PerCPU.CPU], in space: AddressSpace) throws -> VMStatistics {
    let eventCount = events.counts.count
    let nameCount = runs.reduce(0) { $0 + $1.count } + limitCount + eventCount
    var batch = ReadBatch<VirtualAddress>()
    let pointers = batch.add(names, count: nameCount * 8)
    let globals = runs.map { $0.add(to: &batch) }
    let online = cpus.filter(\.isOnline)
    let states = online.map {
      batch.add($0.address(of: eventVariable) + events.counts.offset, count: eventCount * 8)
    }
    let table = nodes.add(to: &batch)
    space.read(&batch)
    let texts = try space.strings(at: try batch.words(pointers).map { VirtualAddress($0) }).map {
      String(decoding: try $0.get(), as: UTF8.self)
    }

    var statistics = VMStatistics()
    var position = 0
    func add(_ values: [UInt64]) {
      statistics.counters += zip(texts[position...], values).map { (name: $0, value: $1) }
      position += values.count
    }
    let unfolded = readZones(
      ofNodes: try nodes.addresses(table, in: batch), Array(texts.prefix(runs[0].count)), online, in: space,
      &statistics)
    for (kind, run) in globals.enumerated() {
      var values = try run.values(in: batch)
      if kind == 1 { Self.add(unfolded, to: &values) }
      add(values)
    }
    position += limitCount
    var sums = [UInt64](repeating: 0, count: eventCount)
    for state in states {
      statistics.faults.keep { () throws(MemoryFault) in Self.add(try batch.words(state), to: &sums) }
    }
    for index in sectorEvents where index < sums.count { sums[index] /= 2 }
    add(sums)
    return statistics
  }

  private static func add(_ values: [UInt64], to sums: inout [UInt64]) {
    for (index, value) in values.prefix(sums.count).enumerated() { sums[index] &+= value }
  }

  /// - Returns: the NUMA events that are still counted with the CPUs.
  private func readZones(
    ofNodes nodes: [VirtualAddress], _ counterNames: [String], _ cpus: [PerCPU.CPU], in space: AddressSpace,
    _ statistics: inout VMStatistics
  ) -> [UInt64] {
    var names: [VirtualAddress] = []
    var shares: [VirtualAddress] = []
    let zones = space.read(zone, at: nodes.flatMap { node.zones.places(of: $0) })
    statistics.zones = zones.compactMap(&statistics.faults) { (zone) throws(MemoryFault) in
      let present = try zone.present
      guard present > 0 else { return nil }
      let (marks, boost) = (try zone.marks, try zone.boost)
      func mark(_ index: Int) -> UInt64 { index < marks.count ? marks[index] &+ boost : 0 }
      let named = zip(counterNames, try zone.counters).map { (name: $0, value: UInt64(max(0, $1))) }
      let result = MemoryZone(
        node: zone.index / max(node.zones.count, 1), name: [],
        free: named.first { $0.name == "nr_free_pages" }?.value ?? 0, minimum: mark(0), low: mark(1), high: mark(2),
        spanned: try zone.spanned, present: present, managed: try zone.managed, start: try zone.start,
        counters: named)
      let (name, variable) = (try zone.name, try zone.perCPU)
      names.append(name)
      if let variable { shares += cpus.map { $0.address(of: variable) } }
      return result
    }
    for (index, name) in space.strings(at: names, &statistics.faults).enumerated() {
      statistics.zones[index].name = name
    }
    var sums = [UInt64](repeating: 0, count: runs[1].count)
    guard let share else { return sums }
    space.read(share, at: shares).forEach(&statistics.faults) { (share) throws(MemoryFault) in
      Self.add(try share.events, to: &sums)
    }
    return sums
  }
}
