import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/buddyinfo and /proc/zoneinfo.
///
/// Source: mm/vmstat.c, `frag_show_print` and `zoneinfo_show_print`.
struct ZoneFiles: KernelReader {
  static let subject = "the zones of the memory"

  private struct Node: KernelShape {
    static let type = "pglist_data"
    let zones = Place("node_zones"), number = Field<Int32>("node_id"), counters = Field<[Int64]>("vm_stat")
    let failures = Field<Int64>("kswapd_failures")
  }

  private struct Zone: KernelShape {
    static let type = "zone"
    let name = Field<VirtualAddress>("name"), marks = Field<[UInt64]>("_watermark")
    let boost = Field<UInt64>("watermark_boost"), start = Field<UInt64>("zone_start_pfn")
    let managed = Field<UInt64>("managed_pages"), spanned = Field<UInt64>("spanned_pages")
    let present = Field<UInt64>("present_pages"), contiguous = Field<UInt64>(optional: "cma_pages")
    let reserve = Field<[Int64]>("lowmem_reserve"), counters = Field<[Int64]>("vm_stat")
    let events = Field<[Int64]>(optional: "vm_numa_event", before: "5.14, f19298b9516c", "vm_numa_stat"),
      free = Field<RawBytes>("free_area")
    // One struct for both until 5.13, which begins with the set.
    let sets = Field<VirtualAddress>("per_cpu_pageset", before: "5.14, 28f836b6777b", "pageset")
    let shares = Field<VirtualAddress>("per_cpu_zonestats", before: "5.14, 28f836b6777b", "pageset")
  }

  private struct PageSet: KernelShape {
    static let type = "per_cpu_pages"
    let count = Field<Int32>("count"), high = Field<Int32>("high"), batch = Field<Int32>("batch")
    let least = Field<Int32>(optional: "high_min"), most = Field<Int32>(optional: "high_max")
  }

  private struct Share: KernelShape {
    static let type = "per_cpu_zonestat"
    let threshold = Field<Int8>("stat_threshold"), events = Field<[UInt64]>(optional: "vm_numa_event")
    let shortEvents = Field<RawBytes>(optional: "vm_numa_stat_diff")
  }

  private let node: Bound<Node>, zone: Bound<Zone>, pages: Bound<PageSet>, share: Bound<Share>
  private let area: StructLayout, free: FieldLayout
  private let zoneCount: Int
  private let counts: (zone: Int, events: Int, node: Int)

  init(kernel: Kernel) throws {
    let types = kernel.types
    (node, zone, pages) = try types.bind()
    share = try Bound(types, as: types.hasStructure("per_cpu_zonestat") ? "per_cpu_zonestat" : "per_cpu_pageset")
    area = try types.structure("free_area")
    free = try area.field("nr_free")
    zoneCount = min(8, max(0, try types.structure("pglist_data").field("node_zones").elementCount ?? 0))
    func count(_ name: String) -> Int {
      types.enumerator(name).flatMap { (0..<1024).contains($0) ? Int($0) : nil } ?? 0
    }
    let events = ["NR_VM_NUMA_EVENT_ITEMS", "NR_VM_NUMA_STAT_ITEMS"].map(count).max() ?? 0
    counts = (count("NR_VM_ZONE_STAT_ITEMS"), events, count("NR_VM_NODE_STAT_ITEMS"))
  }

  /// The nodes that are online, in the order of their numbers.
  private func nodes(_ kernel: Kernel) throws -> Structs<Node> {
    var places: [VirtualAddress] = []
    if let single = kernel.symbols.address(of: "contig_page_data") {
      places = [single]
    } else {
      // MAX_NUMNODES is 1024 at most; the table ends with its symbol.
      let count = min(1024, kernel.size(of: "node_data") / 8)
      places = try kernel.pointers(in: "node_data", count: max(1, count)).filter { $0.isKernels }
    }
    return kernel.addressSpace.read(node, at: places)
  }

  private func zones(of nodes: Structs<Node>, _ kernel: Kernel) -> Structs<Zone> {
    kernel.addressSpace.read(
      zone, at: nodes.flatMap { node in (0..<zoneCount).map { node.address(of: \.zones) + $0 * zone.size } })
  }

  private func names(of zones: Structs<Zone>, _ kernel: Kernel) throws -> [String] {
    try kernel.addressSpace.strings(at: zones.pointers(\.name)).map { String(decoding: try $0.get(), as: UTF8.self) }
  }

  /// /proc/buddyinfo.
  func buddies(_ kernel: Kernel) throws -> [UInt8] {
    let nodes = try nodes(kernel)
    let zones = zones(of: nodes, kernel)
    var text = ProcText()
    for (zone, name) in zip(zones, try names(of: zones, kernel)) where try zone.present != 0 {
      text.add("Node \(try nodes[zone.index / zoneCount].number), zone \(ProcText.padded(name, 8)) ")
      let bytes = try zone.free.bytes
      let reader = ByteReader(bytes.span.bytes)
      for order in 0..<bytes.count / max(area.size, 1) {
        text.add("\(ProcText.padded("\(try free.load(reader, base: order * area.size))", 6)) ")
      }
      text.line("")
    }
    return text.bytes
  }

  /// /proc/zoneinfo.
  func zones(_ host: ShadowHost) throws -> [UInt8] {
    let kernel = host.kernel
    let nodes = try nodes(kernel)
    let zones = zones(of: nodes, kernel)
    let names = try names(of: zones, kernel)
    let labels = try kernel.texts(in: "vmstat_text", count: counts.zone + counts.events + counts.node).map { $0 ?? "" }
    let cpus = try kernel.cpus().filter(\.isOnline)
    // Between which marks the lists of each CPU may grow, by newer kernels.
    let showsMarks = host.constants.isAtLeast(6, 16)
    // What is added to the marks, and what is kept for large pieces, are shown from 5.12 on; huge pages are counted in small ones since.
    let isOld = !host.constants.isAtLeast(5, 12)
    // Shown from 6.12 on.
    let hasPromotion = host.constants.isAtLeast(6, 12)
    var text = ProcText()
    func counter(_ label: String, _ value: UInt64) { text.add("\n      \(ProcText.filled(label, 12)) \(value)") }
    var hasShownNode: Set<Int> = []
    for (zone, name) in zip(zones, names) {
      let owner = zone.index / zoneCount
      let isPopulated = try zone.present != 0
      text.add("Node \(try nodes[owner].number), zone \(ProcText.padded(name, 8))")
      if isPopulated, hasShownNode.insert(owner).inserted {
        text.add("\n  per-node stats")
        for (label, value) in zip(labels[(counts.zone + counts.events)...], try nodes[owner].counters) {
          counter(label, UInt64(max(0, value)) / (isOld ? 1 : MemoryCounters.divisor(of: label)))
        }
      }
      let boost = try zone.boost
      let marks = try zone.marks.map { $0 &+ boost }
      var lines: [(String, UInt64)] = isOld ? [] : [("boost", boost)]
      for (label, mark) in zip(["min", "low", "high", "promo"].prefix(hasPromotion ? 4 : 3), marks) {
        lines.append((label, mark))
      }
      lines += [
        ("spanned", try zone.spanned), ("present", try zone.present), ("managed", try zone.managed),
      ]
      if !isOld { lines.append(("cma", try zone.contiguous)) }
      let counters = try zone.counters.map { UInt64(max(0, $0)) }
      let free = zip(labels, counters).first { $0.0 == "nr_free_pages" }?.1 ?? 0
      text.add("\n  pages free     \(free)")
      for (label, value) in lines { text.add("\n        \(ProcText.filled(label, 8)) \(value)") }
      text.add("\n        protection: (\(try zone.reserve.map { "\($0)" }.joined(separator: ", ")))")
      guard isPopulated else {
        text.line("")
        continue
      }
      for (label, value) in zip(labels.prefix(counts.zone), counters) { counter(label, value) }
      let shares = kernel.addressSpace.read(share, at: try cpus.map { $0.address(of: try zone.shares) })
      var events = try zone.events.map { UInt64(bitPattern: $0) }
      for share in shares {
        for (index, value) in try share.events.enumerated() where index < events.count { events[index] &+= value }
        // Of 16 bits each.
        let bytes = try share.shortEvents.bytes
        for index in events.indices where index * 2 + 1 < bytes.count {
          events[index] &+= UInt64(bytes[index * 2]) | UInt64(bytes[index * 2 + 1]) << 8
        }
      }
      for (label, value) in zip(labels[counts.zone...].prefix(counts.events), events) { counter(label, value) }
      text.add("\n  pagesets")
      let sets = kernel.addressSpace.read(pages, at: try cpus.map { $0.address(of: try zone.sets) })
      for (cpu, (set, share)) in zip(cpus, zip(sets, shares)) {
        text.add("\n    cpu: \(cpu.number)")
        var lines = [("count", try set.count), ("high", try set.high), ("batch", try set.batch)]
        if showsMarks { lines += [("high_min", try set.least), ("high_max", try set.most)] }
        for (label, value) in lines {
          text.add("\n              \(ProcText.filled(label + ":", showsMarks ? 9 : 6)) \(value)")
        }
        text.add("\n  vm stats threshold: \(try share.threshold)")
      }
      // MAX_RECLAIM_RETRIES.
      text.add("\n  node_unreclaimable:  \(try nodes[owner].failures & 0xffff_ffff >= 16 ? 1 : 0)")
      text.add("\n  start_pfn:           \(try zone.start)")
      text.line("")
    }
    return text.bytes
  }
}

/// How the kernel prints counters of memory.
enum MemoryCounters {
  /// Those that count small pages and are printed in huge ones (`vmstat_item_print_in_thp`).
  private static let inHugePages: Set<String> = [
    "nr_anon_transparent_hugepages", "nr_file_hugepages", "nr_shmem_hugepages", "nr_shmem_pmdmapped",
    "nr_file_pmdmapped",
  ]

  static func divisor(of label: String) -> UInt64 { inHugePages.contains(label) ? 512 : 1 }
}
