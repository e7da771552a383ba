import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import TaskViews

/// How much of what a process has mapped is in memory, and whose it is: page by page, out of its page tables and what the kernel says
/// of each page.
///
/// Source: fs/proc/task_mmu.c, `smaps_account`, `smaps_pte_entry`, `smaps_pmd_entry`, `smaps_hugetlb_range`, `gather_stats`.
struct MemoryUse {
  /// Bytes, and shares in 4096ths of a byte: what `mem_size_stats` counts.
  struct Count {
    var resident: UInt64 = 0, sharedClean: UInt64 = 0, sharedDirty: UInt64 = 0
    var privateClean: UInt64 = 0, privateDirty: UInt64 = 0
    var referenced: UInt64 = 0, anonymous: UInt64 = 0, merged: UInt64 = 0, lazilyFreed: UInt64 = 0
    var hugeAnonymous: UInt64 = 0, hugeShared: UInt64 = 0, hugeFile: UInt64 = 0
    var sharedHugetlb: UInt64 = 0, privateHugetlb: UInt64 = 0
    var swapped: UInt64 = 0, swappedShare: UInt64 = 0
    var share: UInt64 = 0, anonymousShare: UInt64 = 0, fileShare: UInt64 = 0, memoryShare: UInt64 = 0
    var dirtyShare: UInt64 = 0, lockedShare: UInt64 = 0

    static func += (total: inout Count, more: Count) {
      let paths: [WritableKeyPath<Count, UInt64>] = [
        \.resident, \.sharedClean, \.sharedDirty, \.privateClean, \.privateDirty, \.referenced, \.anonymous, \.merged,
        \.lazilyFreed, \.hugeAnonymous, \.hugeShared, \.hugeFile, \.sharedHugetlb, \.privateHugetlb, \.swapped,
        \.swappedShare, \.share, \.anonymousShare, \.fileShare, \.memoryShare, \.dirtyShare, \.lockedShare,
      ]
      for path in paths { total[keyPath: path] &+= more[keyPath: path] }
    }
  }

  /// What `numa_maps` counts, in pages.
  struct NodeCount {
    var pages: UInt64 = 0, anonymous: UInt64 = 0, dirty: UInt64 = 0, swapCache: UInt64 = 0, active: UInt64 = 0
    var writeback: UInt64 = 0
    var mostMappings: Int32 = 0
    var byNode: [Int: UInt64] = [:]
  }

  let areas: [MappedAreas.Area]
  private(set) var counts: [Count]
  private(set) var nodeCounts: [NodeCount]

  private let descriptions: PageDescriptions
  private let kernel: Kernel
  private let swaps: SwapUse
  /// Frames of zeros, which count for nobody.
  private let zeroes: Set<UInt64>

  // Bits of page table entries (arch/x86/include/asm/pgtable_types.h): present, accessed, dirty, dirty in another place since 6.6,
  // special, protected from all.
  private static let present: UInt64 = 1, accessed: UInt64 = 0x20, dirty: UInt64 = 0x40 | 1 << 58,
    special: UInt64 = 0x200
  private static let protected: UInt64 = 0x100
  private static let frameMask: UInt64 = 0x000f_ffff_ffff_f000
  // Of areas (include/linux/mm.h): VM_SHARED, VM_WRITE, VM_PFNMAP, VM_LOCKED.
  private static let shared: UInt64 = 8, writable: UInt64 = 2, frames: UInt64 = 0x400, locked: UInt64 = 0x2000

  /// Looks at all that the process with this `mm_struct` has mapped.
  ///
  /// Cost: two round trips for each 256 KiB of page tables, and a 64th of what is mapped is read.
  init(of space: VirtualAddress, _ kernel: Kernel) throws {
    self.kernel = kernel
    descriptions = try kernel.reader()
    swaps = SwapUse(kernel)
    let (areas, root) = try kernel.reader(MappedAreas.self).read(space, kernel)
    self.areas = areas
    counts = Array(repeating: Count(), count: areas.count)
    nodeCounts = Array(repeating: NodeCount(), count: areas.count)
    zeroes = Set(
      try ["zero_pfn", "huge_zero_pfn"].filter { kernel.symbols.address(of: $0) != nil }
        .map { try kernel.words($0, 1)[0] })
    guard case .physical(let place) = kernel.addressSpace.location(of: root, count: 4096) else {
      throw ShadowError.unreadable("the root page table lies outside the kernel's direct map")
    }
    try addFiles()
    // What is mapped by the frame is not the process's (`walk_page_test`).
    let walked = areas.filter { $0.flags & Self.frames == 0 }.map(\.range)
    try PageTables(kernel).forEachPart(root: place, ranges: walked) { entries in try add(entries) }
  }

  /// Swapped pages of files in memory, which no page table knows of.
  ///
  /// Source: `smap_gather_stats`, `shmem_swap_usage`.
  private mutating func addFiles() throws {
    for (index, area) in areas.enumerated() {
      guard let file = area.file, let swapped = file.swapped, swapped > 0 else { continue }
      let isWhole = area.offset == 0 && Int64(clamping: area.range.count) >= file.size
      guard isWhole, area.flags & Self.shared != 0 || area.flags & Self.writable == 0 else {
        throw ShadowError.unreadable("which of a file's swapped pages a mapping of a part of it has")
      }
      counts[index].swapped &+= swapped &* 4096
    }
  }

  private mutating func add(_ entries: [PageTables.Entry]) throws {
    var mapped: [(area: Int, entry: PageTables.Entry, frame: UInt64, isPresent: Bool)] = []
    var slots: [(area: Int, slot: SwapUse.Slot)] = []
    var wanted: Set<UInt64> = []
    var area = areas.startIndex
    if let first = entries.first {
      // The first area that ends behind the first entry's start.
      var (low, high) = (0, areas.count)
      while low < high {
        let middle = (low + high) / 2
        if areas[middle].range.upperBound <= first.start { low = middle + 1 } else { high = middle }
      }
      area = low
    }
    for entry in entries {
      while area < areas.count, areas[area].range.upperBound <= entry.start { area += 1 }
      guard area < areas.count else { break }
      guard areas[area].range.lowerBound < entry.start &+ entry.size, areas[area].flags & Self.frames == 0 else {
        continue
      }
      let isPresent = entry.value & (Self.present | Self.protected) != 0
      if isPresent {
        guard entry.value & Self.special == 0 else { continue }
        // What is not present has its frame inverted, so that no CPU speculates with it (`protnone_mask`).
        let bits = entry.value & Self.present == 0 ? ~entry.value : entry.value
        // The lowest bit of a large page's frame is not one of it (_PAGE_PAT_LARGE).
        let frame = (bits & Self.frameMask & ~(entry.size - 1)) >> 12
        if zeroes.contains(frame) { continue }
        mapped.append((area, entry, frame, true))
      } else {
        guard let slot = swaps.slot(entry.value) else { continue }
        switch slot {
        case .file: slots.append((area, slot))
        case .moving(let frame): mapped.append((area, entry, frame, false))
        }
      }
    }
    for item in mapped {
      let isWhole = areas[item.area].flags & MappedAreas.hugetlb != 0
      let pages = isWhole ? 1 : item.entry.size >> 12
      guard pages <= 1 << 18 else { throw ShadowError.unreadable("a page of \(item.entry.size) bytes") }
      for page in 0..<pages { wanted.insert(item.frame + page) }
    }
    let pages = try descriptions.read(wanted, kernel)
    for item in mapped {
      guard let first = pages[item.frame] else { continue }
      count(item.entry, first, pages, frame: item.frame, isPresent: item.isPresent, in: item.area)
    }
    for (item, uses) in zip(slots, try swaps.uses(of: slots.map(\.slot), kernel)) {
      counts[item.area].swapped &+= 4096
      counts[item.area].swappedShare &+= 4096 << 12 / UInt64(max(uses, 1))
    }
  }

  private mutating func count(
    _ entry: PageTables.Entry, _ first: PageDescriptions.Page, _ pages: [UInt64: PageDescriptions.Page], frame: UInt64,
    isPresent: Bool, in area: Int
  ) {
    let isDirty = entry.value & Self.dirty != 0 && isPresent
    let (flags, size) = (areas[area].flags, entry.size)
    let isSwapBacked = first.flags & descriptions.swapBacked != 0
    let isPageDirty = first.flags & descriptions.dirty != 0
    if isPresent, first.flags & descriptions.reserved == 0 { countNode(first, isDirty || isPageDirty, size, in: area) }
    if flags & MappedAreas.hugetlb != 0 {
      if first.mappings >= 2 { counts[area].sharedHugetlb &+= size } else { counts[area].privateHugetlb &+= size }
      return
    }
    var count = counts[area]
    if size > 4096 {
      if first.isAnonymous {
        count.hugeAnonymous &+= size
      } else if isSwapBacked {
        count.hugeShared &+= size
      } else {
        count.hugeFile &+= size
      }
    }
    if first.isAnonymous {
      count.anonymous &+= size
      if !isSwapBacked, !isDirty, !isPageDirty { count.lazilyFreed &+= size }
    }
    if first.isMerged { count.merged &+= size }
    count.resident &+= size
    if isPresent && entry.value & Self.accessed != 0
      || first.flags & (descriptions.young | descriptions.referenced) != 0
    {
      count.referenced &+= size
    }
    func add(_ bytes: UInt64, _ share: UInt64, isPrivate: Bool) {
      count.share &+= share
      if first.isAnonymous {
        count.anonymousShare &+= share
      } else if isSwapBacked {
        count.memoryShare &+= share
      } else {
        count.fileShare &+= share
      }
      if flags & Self.locked != 0 { count.lockedShare &+= share }
      if isDirty || isPageDirty {
        count.dirtyShare &+= share
        if isPrivate { count.privateDirty &+= bytes } else { count.sharedDirty &+= bytes }
      } else {
        if isPrivate { count.privateClean &+= bytes } else { count.sharedClean &+= bytes }
      }
    }
    if first.references == 1 || !isPresent {
      add(size, size << 12, isPrivate: true)
    } else {
      for page in 0..<size >> 12 {
        let mappings = pages[frame + page]?.mappings ?? 1
        add(4096, 4096 << 12 / UInt64(max(1, mappings)), isPrivate: mappings < 2)
      }
    }
    counts[area] = count
  }

  private mutating func countNode(_ page: PageDescriptions.Page, _ isDirty: Bool, _ size: UInt64, in area: Int) {
    let pages = areas[area].flags & MappedAreas.hugetlb != 0 ? 1 : size >> 12
    nodeCounts[area].pages &+= pages
    if isDirty { nodeCounts[area].dirty &+= pages }
    if page.flags & descriptions.swapCache != 0, page.flags & descriptions.swapBacked != 0 {
      nodeCounts[area].swapCache &+= pages
    }
    if page.flags & (descriptions.active | descriptions.unevictable) != 0 { nodeCounts[area].active &+= pages }
    if page.flags & descriptions.writeback != 0 { nodeCounts[area].writeback &+= pages }
    if page.isAnonymous { nodeCounts[area].anonymous &+= pages }
    nodeCounts[area].mostMappings = max(nodeCounts[area].mostMappings, page.mappings)
    nodeCounts[area].byNode[page.node, default: 0] &+= pages
  }
}

/// Places on swap devices, as entries of page tables that are not present name them.
///
/// Source: arch/x86/include/asm/pgtable_64.h, `__swp_type` and `__swp_offset`; include/linux/swap.h.
struct SwapUse {
  enum Slot {
    case file(number: Int, offset: UInt64)
    /// A page that is on its way from one frame to another.
    case moving(frame: UInt64)
  }

  private let table: VirtualAddress?
  /// How many swap files there may be; kinds above that are of other things (MAX_SWAPFILES).
  private let most: Int

  init(_ kernel: Kernel) {
    table = kernel.symbols.address(of: "swap_info")
    most = min(31, kernel.size(of: "swap_info") / 8)
  }

  /// Nil for what is neither: a page that is broken, or a mark of userfaultfd.
  func slot(_ entry: UInt64) -> Slot? {
    let kind = Int(entry >> 59)
    let offset = (~entry << 5) >> 14
    if kind < most { return .file(number: kind, offset: offset) }
    // SWP_HWPOISON is the first one, and SWP_MIGRATION_READ, SWP_MIGRATION_WRITE and, from 6.0 on, one more follow.
    return (most + 1...most + 3).contains(kind) && kind < 31 ? .moving(frame: offset & 0xff_ffff_ffff) : nil
  }

  /// How many entries of page tables name each of `slots`.
  func uses(of slots: [Slot], _ kernel: Kernel) throws -> [Int] {
    guard !slots.isEmpty else { return [] }
    guard let table else { throw ShadowError.unreadable("where the host keeps what it has swapped out") }
    let space = kernel.addressSpace
    let files = try space.pointers(inArrayAt: table, count: most)
    let maps = try kernel.pointers("swap_map", of: "swap_info_struct", at: files)
    var batch = ReadBatch<VirtualAddress>()
    for case .file(let number, let offset) in slots { batch.add(maps[number] + Int(clamping: offset), count: 1) }
    space.read(&batch)
    // What is kept beside the number: SWAP_HAS_CACHE and COUNT_CONTINUED.
    return try slots.indices.map { Int(try batch.reader($0).u8(0) & 0x3f) }
  }
}
