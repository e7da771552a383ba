import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The files of /sys/devices/system/node/nodeN about its memory.
///
/// Source: drivers/base/node.c.
enum NodeFiles {
  private static func node(_ number: Int, _ kernel: Kernel) throws -> VirtualAddress {
    guard kernel.symbols.address(of: "node_data") != nil, number < 1024 else {
      return try kernel.symbol("contig_page_data", for: "the nodes")
    }
    return try kernel.pointers(in: "node_data", count: number + 1)[number]
  }

  /// Source: `node_read_distance`.
  static func distances(from number: Int, online: [UInt64], _ kernel: Kernel) throws -> String {
    let count = kernel.symbols.address(of: "numa_distance_cnt") == nil ? 0 : Int(try kernel.number("numa_distance_cnt"))
    let nodes = (0..<min(1024, online.count * 64)).filter { online[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }
    // LOCAL_DISTANCE and REMOTE_DISTANCE, where the firmware says nothing.
    func plain(_ node: Int) -> UInt8 { node == number ? 10 : 20 }
    guard (1...1024).contains(count), number < count else { return nodes.map { "\(plain($0))" }.joined(separator: " ") }
    let table = try kernel.addressSpace.pointer(at: kernel.symbol("numa_distance", for: "the distances of nodes"))
    let row = try kernel.addressSpace.read(table + number * count, count: count)
    return nodes.map { "\(row[safe: $0] ?? plain($0))" }.joined(separator: " ")
  }

  private struct Zone: KernelShape {
    static let type = "zone"
    let managed = Field<UInt64>("managed_pages.counter"), counters = Field<[UInt64]>("vm_stat")
    let cpus = Field<VirtualAddress>("per_cpu_zonestats", before: "5.14, 28f836b6777b", "pageset")
  }

  /// The zones of a node, and the counters that it has as a whole.
  private static func counters(_ number: Int, _ kernel: Kernel) throws -> (zones: Structs<Zone>, node: [UInt64]) {
    let address = try node(number, kernel)
    let layout = try kernel.types.structure("pglist_data")
    let shape = try kernel.bound(Zone.self)
    let count = try Int(kernel.addressSpace.load(address + layout.field("nr_zones").offset, as: Int32.self))
    let first = address + (try layout.field("node_zones").offset)
    let zones = kernel.addressSpace.read(shape, at: (0..<max(0, min(count, 8))).map { first + $0 * shape.size })
    let field = try layout.field("vm_stat")
    return (zones, try kernel.addressSpace.read(address + field.offset, count: min(4096, field.size)).words)
  }

  /// Source: `node_read_meminfo`.
  static func memory(_ number: Int, _ kernel: Kernel) throws -> [UInt8] {
    let (zones, node) = try counters(number, kernel)
    let types = kernel.types
    /// A counter of the node or of its zones; nil where this kernel has none of this name.
    func item(_ name: String) throws -> UInt64? {
      func positive(_ value: UInt64) -> UInt64 { UInt64(max(0, Int64(bitPattern: value))) }
      if let index = types.enumerator(name, of: "node_stat_item"), (0..<256).contains(index) {
        return positive(node[safe: Int(index)] ?? 0)
      }
      guard let index = types.enumerator(name, of: "zone_stat_item"), (0..<256).contains(index) else { return nil }
      return try zones.reduce(0 as UInt64) { $0 &+ positive(try $1.counters[safe: Int(index)] ?? 0) }
    }
    var text = ProcText()
    func line(_ name: String, _ kibibytes: UInt64) {
      text.line("Node \(number) \(ProcText.filled(name + ":", 15)) \(ProcText.padded("\(kibibytes)", 8)) kB")
    }
    func pages(_ name: String, _ counters: String...) throws {
      var (sum, isKnown): (UInt64, Bool) = (0, false)
      for counter in counters { if let value = try item(counter) { (sum, isKnown) = (sum &+ value, true) } }
      if isKnown { line(name, sum &* 4) }
    }
    let total = try zones.reduce(0 as UInt64) { $0 &+ (try $1.managed) }
    let free = try item("NR_FREE_PAGES") ?? 0
    line("MemTotal", total &* 4)
    line("MemFree", free &* 4)
    line("MemUsed", (total &- free) &* 4)
    // CONFIG_SWAP.
    try pages("SwapCached", "NR_SWAPCACHE")
    try pages("Active", "NR_ACTIVE_ANON", "NR_ACTIVE_FILE")
    try pages("Inactive", "NR_INACTIVE_ANON", "NR_INACTIVE_FILE")
    try pages("Active(anon)", "NR_ACTIVE_ANON")
    try pages("Inactive(anon)", "NR_INACTIVE_ANON")
    try pages("Active(file)", "NR_ACTIVE_FILE")
    try pages("Inactive(file)", "NR_INACTIVE_FILE")
    try pages("Unevictable", "NR_UNEVICTABLE")
    try pages("Mlocked", "NR_MLOCK")
    try pages("Dirty", "NR_FILE_DIRTY")
    try pages("Writeback", "NR_WRITEBACK")
    try pages("FilePages", "NR_FILE_PAGES")
    try pages("Mapped", "NR_FILE_MAPPED")
    try pages("AnonPages", "NR_ANON_MAPPED")
    try pages("Shmem", "NR_SHMEM")
    line("KernelStack", try item("NR_KERNEL_STACK_KB") ?? 0)
    try pages("PageTables", "NR_PAGETABLE")
    try pages("SecPageTables", "NR_SECONDARY_PAGETABLE")
    line("NFS_Unstable", 0)
    line("Bounce", (try item("NR_BOUNCE") ?? 0) &* 4)
    line("WritebackTmp", (try item("NR_WRITEBACK_TEMP") ?? 0) &* 4)
    try pages("KReclaimable", "NR_SLAB_RECLAIMABLE_B", "NR_KERNEL_MISC_RECLAIMABLE")
    try pages("Slab", "NR_SLAB_RECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE_B")
    try pages("SReclaimable", "NR_SLAB_RECLAIMABLE_B")
    try pages("SUnreclaim", "NR_SLAB_UNRECLAIMABLE_B")
    // Counted in pages of 2 MiB until 5.11.
    let scale: UInt64 = kernel.symbols.address(of: "node_page_state_pages") == nil ? 512 : 1
    for (name, counter) in [
      ("AnonHugePages", "NR_ANON_THPS"), ("ShmemHugePages", "NR_SHMEM_THPS"), ("ShmemPmdMapped", "NR_SHMEM_PMDMAPPED"),
      ("FileHugePages", "NR_FILE_THPS"), ("FilePmdMapped", "NR_FILE_PMDMAPPED"),
    ] {
      if let value = try item(counter) { line(name, value &* 4 &* scale) }
    }
    try pages("Unaccepted", "NR_UNACCEPTED")
    try addHugePages(number, kernel, to: &text)
    return text.bytes
  }

  private struct HugePages: KernelShape {
    static let type = "hstate"
    let total = Field<RawBytes>("nr_huge_pages_node"), free = Field<RawBytes>("free_huge_pages_node")
    let surplus = Field<RawBytes>("surplus_huge_pages_node")
  }

  /// Source: mm/hugetlb.c, `hugetlb_report_node_meminfo`.
  private static func addHugePages(_ number: Int, _ kernel: Kernel, to text: inout ProcText) throws {
    guard let start = kernel.symbols.address(of: "hstates"), let shape = try? kernel.bound(HugePages.self) else {
      return
    }
    // HUGE_MAX_HSTATE is 2 on x86-64.
    let chosen = min(1, Int(try kernel.number("default_hstate_idx")))
    let pages = kernel.addressSpace.read(shape, at: [start + chosen * shape.size])[0]
    for (name, bytes) in [
      ("HugePages_Total:", try pages.total), ("HugePages_Free: ", try pages.free),
      ("HugePages_Surp: ", try pages.surplus),
    ] {
      text.line("Node \(number) \(name) \(ProcText.padded("\(bytes.bytes.words32[safe: number] ?? 0)", 5))")
    }
  }

  /// Source: `node_read_numastat`; mm/vmstat.c, `fold_vm_numa_events`.
  static func allocations(_ number: Int, _ kernel: Kernel) throws -> [UInt8] {
    let (zones, _) = try counters(number, kernel)
    let zone = try kernel.types.structure("zone")
    let names = ["numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node"]
    let items = ["NUMA_HIT", "NUMA_MISS", "NUMA_FOREIGN", "NUMA_INTERLEAVE_HIT", "NUMA_LOCAL", "NUMA_OTHER"]
    let indices = try items.map { Int(max(0, min(63, try kernel.constant($0)))) }
    // Events since 5.14, counters before.
    let field = try zone.field("vm_numa_event", or: "vm_numa_stat")
    let perCPU = try kernel.types.structure(zone.hasField("vm_numa_event") ? "per_cpu_zonestat" : "per_cpu_pageset")
    let own = try perCPU.field(zone.hasField("vm_numa_event") ? "vm_numa_event" : "vm_numa_stat_diff")
    let width = own.elementSize
    let cpus = try kernel.cpus().filter(\.isOnline)
    var sums = [UInt64](repeating: 0, count: items.count)
    for item in zones {
      let words = try kernel.addressSpace.read(item.address + field.offset, count: min(512, field.size)).words
      for (index, place) in indices.enumerated() { sums[index] &+= words[safe: place] ?? 0 }
      let variable = try item.cpus
      guard variable.rawValue != 0 else { continue }
      for cpu in cpus {
        let bytes = try kernel.addressSpace.read(cpu.address(of: variable) + own.offset, count: min(512, own.size))
        for (index, place) in indices.enumerated() {
          for byte in 0..<width where place * width + byte < bytes.count {
            sums[index] &+= UInt64(bytes[place * width + byte]) << UInt64(byte * 8)
          }
        }
      }
    }
    return zip(names, sums).flatMap { Array("\($0) \($1)\n".utf8) }
  }
}
