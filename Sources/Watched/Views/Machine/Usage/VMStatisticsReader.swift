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

  private struct Run: Sendable {
    let address: VirtualAddress?
    let count: Int
  }

  private let names: VirtualAddress
  private let zones: Run
  private let numaEvents: Run
  private let nodes: Run
  private let limitCount: Int
  private let events: (variable: VirtualAddress, count: Int)
  /// Events that count sectors of 512 bytes, and that /proc/vmstat shows in KiB (`vmstat_start`).
  private let sectorEvents: [Int]
  private let nodeTable: VirtualAddress?
  private let singleNode: VirtualAddress?
  private let nodeZones: FieldLayout
  private let zoneSize: Int
  private let zone: FieldSelection
  private let name, watermark, boost, start, managed, spanned, present, counters, perCPU: FieldSelection.Field
  private let perCPUEvents: FieldLayout?

  /// More counters than any kernel has of one kind, so that types cannot ask for all memory.
  private static let mostCounters: Int64 = 1024

  init(kernel: Kernel) throws {
    let types = kernel.types
    func count(_ name: String) -> Int? {
      types.enumerator(name).flatMap { (0..<Self.mostCounters).contains($0) ? Int($0) : nil }
    }
    names = try kernel.symbol("vmstat_text", for: Self.self)
    zones = Run(
      address: try kernel.symbol("vm_zone_stat", for: Self.self), count: count("NR_VM_ZONE_STAT_ITEMS") ?? 0)
    // Statistics like the others until 5.13.
    numaEvents = Run(
      address: kernel.symbols.address(of: "vm_numa_event") ?? kernel.symbols.address(of: "vm_numa_stat"),
      count: count("NR_VM_NUMA_EVENT_ITEMS") ?? count("NR_VM_NUMA_STAT_ITEMS") ?? 0)
    nodes = Run(
      address: try kernel.symbol("vm_node_stat", for: Self.self), count: count("NR_VM_NODE_STAT_ITEMS") ?? 0)
    limitCount = count("NR_VM_WRITEBACK_STAT_ITEMS") ?? count("NR_VM_STAT_ITEMS") ?? 0
    let eventArray = try types.structure("vm_event_state").field("event")
    events = (
      try kernel.symbol("vm_event_states", for: Self.self),
      min(eventArray.elementCount ?? 0, Int(Self.mostCounters))
    )
    sectorEvents = ["PGPGIN", "PGPGOUT"].compactMap { name in count(name) }
    nodeTable = kernel.symbols.address(of: "node_data")
    singleNode = kernel.symbols.address(of: "contig_page_data")
    nodeZones = try types.structure("pglist_data").field("node_zones")
    let structure = try types.structure("zone")
    zoneSize = structure.size
    var fields = FieldSelection(structure)
    name = try fields.want("name")
    watermark = try fields.want("_watermark")
    boost = try fields.wantIfPresent("watermark_boost")
    start = try fields.want("zone_start_pfn")
    managed = try fields.want("managed_pages")
    spanned = try fields.want("spanned_pages")
    present = try fields.want("present_pages")
    counters = try fields.want("vm_stat")
    perCPU = try fields.wantIfPresent("per_cpu_zonestats")
    zone = fields
    // Words from 5.14 on; older kernels have no such struct.
    perCPUEvents =
      perCPU.isPresent && types.hasStructure("per_cpu_zonestat")
      ? try types.structure("per_cpu_zonestat").field("vm_numa_event") : nil
  }

  func read(cpus: [PerCPU.CPU], in space: AddressSpace) throws -> VMStatistics {
    let runs = [zones, numaEvents, nodes]
    let nameCount = runs.reduce(0) { $0 + $1.count } + limitCount + events.count
    var batch = ReadBatch<VirtualAddress>()
    let pointers = batch.add(names, count: nameCount * 8)
    let globals = runs.map { run in run.address.map { batch.add($0, count: run.count * 8) } }
    let online = cpus.filter(\.isOnline)
    let states = online.map { batch.add($0.address(of: events.variable), count: events.count * 8) }
    let table = nodeTable.map { batch.add($0, count: 64 * 8) }
    space.read(&batch)

    var nameAddresses: [VirtualAddress] = []
    for index in 0..<nameCount { nameAddresses.append(try batch.reader(pointers).pointer(index * 8)) }
    let texts = try space.strings(at: nameAddresses).map { String(decoding: try $0.get(), as: UTF8.self) }

    var statistics = VMStatistics()
    var position = 0
    func add(_ values: [UInt64]) {
      for value in values {
        statistics.counters.append((texts[position], value))
        position += 1
      }
    }
    var nodeAddresses = singleNode.map { [$0] } ?? []
    if let table {
      for index in 0..<64 {
        let address = try batch.reader(table).pointer(index * 8)
        guard address.rawValue >> 63 == 1 else { break }
        nodeAddresses.append(address)
      }
    }
    let unfolded = readZones(ofNodes: nodeAddresses, Array(texts.prefix(zones.count)), online, in: space, &statistics)
    for (kind, (run, entry)) in zip(runs, globals).enumerated() {
      var values = [UInt64](repeating: 0, count: run.count)
      if let entry {
        // Counters are folded in from each CPU's share, so a small one may read below zero for a moment.
        for index in 0..<run.count {
          values[index] = UInt64(max(0, try batch.reader(entry).load(index * 8, as: Int64.self)))
        }
      }
      if kind == 1 { for (index, value) in unfolded.enumerated() { values[index] &+= value } }
      add(values)
    }
    position += limitCount
    var sums = [UInt64](repeating: 0, count: events.count)
    for entry in states {
      do throws(MemoryFault) {
        let reader = try batch.reader(entry)
        for index in 0..<events.count { sums[index] &+= try reader.u64(index * 8) }
      } catch {
        statistics.faults.append(error)
      }
    }
    for index in sectorEvents where index < sums.count { sums[index] /= 2 }
    add(sums)
    return statistics
  }

  /// - Returns: the NUMA events that are still counted with the CPUs.
  private func readZones(
    ofNodes nodes: [VirtualAddress], _ counterNames: [String], _ cpus: [PerCPU.CPU], in space: AddressSpace,
    _ statistics: inout VMStatistics
  ) -> [UInt64] {
    var batch = ReadBatch<VirtualAddress>()
    var places: [(node: Int, address: VirtualAddress, record: FieldSelection.Record)] = []
    for (node, address) in nodes.enumerated() {
      // Four or five zones a node (enum zone_type).
      for index in 0..<min(nodeZones.size / max(zoneSize, 1), 8) {
        let zone = address + nodeZones.offset + index * zoneSize
        places.append((node, zone, self.zone.add(to: &batch, at: zone)))
      }
    }
    space.read(&batch)
    var names: [VirtualAddress] = []
    var eventPlaces: [VirtualAddress] = []
    for (node, _, record) in places {
      do throws(MemoryFault) {
        let present = try zone.load(present, record, batch)
        guard present > 0 else { continue }
        let marks = try zone.words(watermark, record, batch).map { UInt64(bitPattern: $0) }
        let boost = try zone.load(boost, record, batch)
        let values = try zone.words(counters, record, batch)
        func mark(_ index: Int) -> UInt64 { index < marks.count ? marks[index] &+ boost : 0 }
        let named = zip(counterNames, values).map { (name: $0, value: UInt64(max(0, $1))) }
        let name = try zone.pointer(name, record, batch)
        statistics.zones.append(
          MemoryZone(
            node: node, name: [], free: named.first { $0.name == "nr_free_pages" }?.value ?? 0,
            minimum: mark(0), low: mark(1), high: mark(2),
            spanned: try zone.load(spanned, record, batch), present: present,
            managed: try zone.load(managed, record, batch), start: try zone.load(start, record, batch),
            counters: named))
        names.append(name)
        let variable = try zone.pointer(perCPU, record, batch)
        if let perCPUEvents, variable.rawValue != 0 {
          eventPlaces += cpus.map { $0.address(of: variable) + perCPUEvents.offset }
        }
      } catch {
        statistics.faults.append(error)
      }
    }
    for (index, name) in space.strings(at: names).enumerated() {
      do throws(MemoryFault) {
        statistics.zones[index].name = try name.get()
      } catch {
        statistics.faults.append(error)
      }
    }
    var sums = [UInt64](repeating: 0, count: numaEvents.count)
    guard let perCPUEvents else { return sums }
    var events = ReadBatch<VirtualAddress>()
    for place in eventPlaces { events.add(place, count: perCPUEvents.size) }
    space.read(&events)
    for entry in eventPlaces.indices {
      do throws(MemoryFault) {
        let reader = try events.reader(entry)
        for index in 0..<min(numaEvents.count, perCPUEvents.elementCount ?? 0) {
          sums[index] &+= try reader.u64(index * 8)
        }
      } catch {
        statistics.faults.append(error)
      }
    }
    return sums
  }
}
