import Binding
import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// The lines of /proc/meminfo: those of the view, and the others.
///
/// Source: fs/proc/meminfo.c, `meminfo_proc_show`; mm/hugetlb.c, `hugetlb_report_meminfo`; arch/x86/mm/pat/set_memory.c,
/// `arch_report_meminfo`.
struct MemoryFile: KernelReader {
  static let subject = "the lines of /proc/meminfo"

  private struct Counter: KernelShape {
    static let type = "percpu_counter"
    let count = Field<Int64>("count"), own = Field<VirtualAddress>("counters")
  }

  private struct HugePages: KernelShape {
    static let type = "hstate"
    let order = Field<UInt64>("order"), total = Field<UInt64>("nr_huge_pages"), free = Field<UInt64>("free_huge_pages")
    let reserved = Field<UInt64>("resv_huge_pages"), surplus = Field<UInt64>("surplus_huge_pages")
  }

  private let zoneItems, nodeItems: [String: Int]
  private let counter: Bound<Counter>, hugePages: Bound<HugePages>?

  private static let items = [
    "NR_SECONDARY_PAGETABLE", "NR_BOUNCE", "NR_WRITEBACK_TEMP", "NR_ANON_THPS", "NR_SHMEM_THPS", "NR_SHMEM_PMDMAPPED",
    "NR_FILE_THPS", "NR_FILE_PMDMAPPED", "NR_UNACCEPTED", "NR_FREE_CMA_PAGES", "NR_BALLOON_PAGES",
  ]

  init(kernel: Kernel) throws {
    let types = kernel.types
    func items(_ enumeration: String) -> [String: Int] {
      Dictionary(
        uniqueKeysWithValues: Self.items.compactMap { name in
          types.enumerator(name, of: enumeration).flatMap { (0..<256).contains($0) ? (name, Int($0)) : nil }
        })
    }
    (zoneItems, nodeItems) = (items("zone_stat_item"), items("node_stat_item"))
    counter = try Bound(types)
    hugePages = try? Bound(types)
  }

  func bytes(_ kernel: Kernel) throws -> [UInt8] {
    let (info, fault) = try kernel.memoryInfo()
    if let fault { throw fault }
    let symbols = kernel.symbols
    /// A variable of so many bytes; nil where this kernel has it not.
    func value(_ name: String, _ size: Int = 8) throws -> UInt64? {
      guard symbols.address(of: name) != nil else { return nil }
      return size == 4 ? UInt64(try kernel.number(name)) : try kernel.words(name, 1)[0]
    }
    let zone = try kernel.words("vm_zone_stat", (zoneItems.values.max() ?? 0) + 1)
    let node = try kernel.words("vm_node_stat", (nodeItems.values.max() ?? 0) + 1)
    func item(_ name: String) -> UInt64? {
      let raw = nodeItems[name].map { node[$0] } ?? zoneItems[name].map { zone[$0] }
      return raw.map { UInt64(max(0, Int64(bitPattern: $0))) }
    }

    var text = ProcText()
    func line(_ name: String, kibibytes value: UInt64) {
      text.line("\(ProcText.filled(name + ":", 16))\(ProcText.padded("\(value)", 8)) kB")
    }
    func line(_ name: String, pages: UInt64) { line(name, kibibytes: pages &* 4) }
    for (name, bytes) in info.lines {
      line(name, kibibytes: bytes / 1024)
      // CONFIG_ZSWAP, from 5.19 on.
      if name == "SwapFree", kernel.types.enumerator("ZSWPIN") != nil, let stored = try value("zswap_stored_pages", 4) {
        let size = try value("zswap_pool_total_size")
        guard stored == 0 || size != nil else { throw ShadowError.unreadable("the size of zswap's pool is not kept") }
        line("Zswap", kibibytes: (size ?? 0) >> 10)
        line("Zswapped", pages: stored)
      }
    }
    if let pages = item("NR_SECONDARY_PAGETABLE") { line("SecPageTables", pages: pages) }
    line("NFS_Unstable", pages: 0)
    line("Bounce", pages: item("NR_BOUNCE") ?? 0)
    line("WritebackTmp", pages: item("NR_WRITEBACK_TEMP") ?? 0)

    let huge = try hugePages.flatMap { try readHugePages($0, kernel) }
    let (total, swap) = ((info["MemTotal"] ?? 0) / 4096, (info["SwapTotal"] ?? 0) / 4096)
    let room: UInt64
    if let fixed = try value("sysctl_overcommit_kbytes"), fixed != 0 {
      room = fixed / 4
    } else {
      let ratio = try value("sysctl_overcommit_ratio", 4) ?? 50
      room = (total &- min(total, huge?.pages ?? 0)) &* ratio / 100
    }
    line("CommitLimit", pages: room &+ swap)
    line("Committed_AS", pages: try committed(kernel))
    // VMALLOC_SIZE_TB is 32 and 12800 (arch/x86/include/asm/pgtable_64_types.h), less a byte.
    let area: UInt64 = (kernel.addressSpace.format.levels == 5 ? 12800 : 32) << 40
    line("VmallocTotal", kibibytes: (area - 1) >> 10)
    line("VmallocUsed", pages: try value("nr_vmalloc_pages") ?? 0)
    line("VmallocChunk", pages: 0)
    line(
      "Percpu", pages: (try value("pcpu_nr_populated") ?? 0) &* (try value("pcpu_nr_units", 4) ?? 0))
    if let poisoned = try value("num_poisoned_pages") {
      text.line("HardwareCorrupted: \(ProcText.padded("\(poisoned &* 4)", 5)) kB")
    }
    for (name, counter) in [
      ("AnonHugePages", "NR_ANON_THPS"), ("ShmemHugePages", "NR_SHMEM_THPS"), ("ShmemPmdMapped", "NR_SHMEM_PMDMAPPED"),
      ("FileHugePages", "NR_FILE_THPS"), ("FilePmdMapped", "NR_FILE_PMDMAPPED"),
    ] {
      if let pages = item(counter) { line(name, pages: pages) }
    }
    // The variable is there also without CONFIG_CMA.
    if symbols.address(of: "cma_alloc") != nil, let pages = try value("totalcma_pages") {
      line("CmaTotal", pages: pages)
      line("CmaFree", pages: item("NR_FREE_CMA_PAGES") ?? 0)
    }
    if let pages = item("NR_UNACCEPTED") { line("Unaccepted", pages: pages) }
    if let pages = item("NR_BALLOON_PAGES") { line("Balloon", pages: pages) }
    if let huge { for (name, value) in huge.lines { text.line("\(ProcText.filled(name + ":", 16))\(value)") } }
    // By level: of 4 KiB, 2 MiB, 1 GiB.
    let direct = try kernel.words("direct_pages_count", 4)
    line("DirectMap4k", kibibytes: direct[1] &<< 2)
    line("DirectMap2M", kibibytes: direct[2] &<< 11)
    if try value("direct_gbpages", 4) ?? 0 != 0 { line("DirectMap1G", kibibytes: direct[3] &<< 20) }
    return text.bytes
  }

  /// The exact sum, as `percpu_counter_sum_positive` makes it.
  private func committed(_ kernel: Kernel) throws -> UInt64 {
    let address = try kernel.symbol("vm_committed_as", for: Self.self)
    let space = kernel.addressSpace
    let counter = space.read(counter, at: [address])[0]
    var sum = try counter.count
    let own = try counter.own
    var batch = ReadBatch<VirtualAddress>()
    let cpus = try kernel.cpus().filter(\.isOnline)
    for cpu in cpus { batch.add(cpu.address(of: own), count: 4) }
    space.read(&batch)
    for index in cpus.indices { sum &+= Int64(try batch.reader(index).load(0, as: Int32.self)) }
    return UInt64(max(0, sum))
  }

  /// The pages in huge pages of all sizes, and the lines about those of the default size.
  private func readHugePages(
    _ shape: Bound<HugePages>, _ kernel: Kernel
  ) throws -> (pages: UInt64, lines: [(String, String)])? {
    guard let start = kernel.symbols.address(of: "hstates") else { return nil }
    // HUGE_MAX_HSTATE is 2 on x86-64.
    let count = min(Int(try kernel.number("hugetlb_max_hstate")), 2)
    let chosen = Int(try kernel.number("default_hstate_idx"))
    var pages: UInt64 = 0
    var lines: [(String, String)] = []
    for state in kernel.addressSpace.read(shape, at: (0..<count).map { start + $0 * shape.size }) {
      let order = min(try state.order, 30)
      pages &+= try state.total &<< order
      guard state.index == chosen else { continue }
      func count(_ value: UInt64) -> String { "   " + ProcText.padded("\(value)", 5) }
      lines = [
        ("HugePages_Total", count(try state.total)), ("HugePages_Free", count(try state.free)),
        ("HugePages_Rsvd", count(try state.reserved)), ("HugePages_Surp", count(try state.surplus)),
        ("Hugepagesize", ProcText.padded("\(4 << order)", 8) + " kB"),
      ]
    }
    if lines.isEmpty { return nil }
    lines.append(("Hugetlb", ProcText.padded("\(pages &* 4)", 8) + " kB"))
    return (pages, lines)
  }
}

extension Kernel {
  /// The first `count` words of the variable `name`.
  ///
  /// Cost: a read.
  func words(_ name: String, _ count: Int) throws -> [UInt64] {
    try addressSpace.read(try symbol(name, for: "'\(name)'"), count: count * 8).words
  }
}
