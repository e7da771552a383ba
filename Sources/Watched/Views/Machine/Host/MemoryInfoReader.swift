import Binding
import KernelInfo
public import LinuxKernel
import Memory
import Paging

/// Reads the main lines of /proc/meminfo from the counters they are made of.
///
/// Source: fs/proc/meminfo.c, `si_meminfo` and `si_mem_available` (mm/page_alloc.c, later mm/show_mem.c).
struct MemoryInfoReader: KernelReader {
  static let subject = "the memory counters"

  private struct Node: KernelShape {
    static let type = "pglist_data"
    // Four or five zones a node (enum zone_type).
    let zones = ArrayPlace("node_zones", most: 8)
  }

  private struct Zone: KernelShape {
    static let type = "zone"
    let marks = Field<[UInt64]>("_watermark")
    let boost = Field<UInt64>(optional: "watermark_boost")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let inodes = Place("s_inodes")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let next = Field<VirtualAddress>("i_sb_list.next")
    let mapping = Field<VirtualAddress>("i_mapping")
  }

  private struct Mapping: KernelShape {
    static let type = "address_space"
    let pages = Field<UInt64>("nrpages")
  }

  private let totalPages, swapTotal, swapFree, reserve: CounterArray
  private let zoneCounters, nodeCounters: CounterArray
  private let zoneItems, nodeItems: [String: Int]
  private let nodes: MemoryNodes
  private let node: Bound<Node>
  private let zone: Bound<Zone>
  private let lowMark: Int
  private let blockDevices: BlockDevices?

  private struct BlockDevices: Sendable {
    let pointer: VirtualAddress
    let superBlock: Bound<SuperBlock>
    let inode: Bound<Inode>
    let mapping: Bound<Mapping>
  }

  private static let itemNames = [
    "NR_FREE_PAGES", "NR_MLOCK", "NR_ACTIVE_ANON", "NR_INACTIVE_ANON", "NR_ACTIVE_FILE", "NR_INACTIVE_FILE",
    "NR_UNEVICTABLE", "NR_FILE_PAGES",
    "NR_SWAPCACHE", "NR_FILE_DIRTY", "NR_WRITEBACK", "NR_ANON_MAPPED", "NR_FILE_MAPPED", "NR_SHMEM",
    "NR_SLAB_RECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE_B", "NR_KERNEL_MISC_RECLAIMABLE", "NR_KERNEL_STACK_KB",
    "NR_PAGETABLE",
  ]

  init(kernel: Kernel) throws {
    let types = kernel.types
    // Counters move from zones to nodes, as that of page tables did in 5.11: their enum says where each is.
    func items(_ enumeration: String) -> [String: Int] {
      Dictionary(
        uniqueKeysWithValues: Self.itemNames.compactMap { name in
          types.enumerator(name, of: enumeration).flatMap { (0..<256).contains($0) ? (name, Int($0)) : nil }
        })
    }
    zoneItems = items("zone_stat_item")
    nodeItems = items("node_stat_item")
    totalPages = CounterArray(address: try kernel.symbol("_totalram_pages", for: Self.self), count: 1)
    zoneCounters = CounterArray(
      address: try kernel.symbol("vm_zone_stat", for: Self.self), count: (zoneItems.values.max() ?? 0) + 1)
    nodeCounters = CounterArray(
      address: try kernel.symbol("vm_node_stat", for: Self.self), count: (nodeItems.values.max() ?? 0) + 1)
    swapTotal = CounterArray(address: kernel.symbols.address(of: "total_swap_pages"), count: 1)
    swapFree = CounterArray(address: kernel.symbols.address(of: "nr_swap_pages"), count: 1)
    reserve = CounterArray(address: kernel.symbols.address(of: "totalreserve_pages"), count: 1)
    nodes = MemoryNodes(kernel: kernel)
    node = try Bound(types)
    zone = try Bound(types)
    lowMark = types.enumerator("WMARK_LOW").flatMap { (0..<8).contains($0) ? Int($0) : nil } ?? 1
    blockDevices = try kernel.symbols.address(of: "blockdev_superblock").map { pointer in
      BlockDevices(
        pointer: pointer, superBlock: try Bound(types), inode: try Bound(types), mapping: try Bound(types))
    }
  }

  /// - Returns: the lines, and why those that depend on the list of block devices are missing, if they are.
  func read(in space: AddressSpace) throws -> (info: MemoryInfo, fault: KernelError?) {
    var batch = ReadBatch<VirtualAddress>()
    let entries = [totalPages, swapTotal, swapFree, reserve, zoneCounters, nodeCounters].map { $0.add(to: &batch) }
    let table = nodes.add(to: &batch)
    space.read(&batch)
    let values = try entries.map { try $0.values(in: batch) }
    let (total, swap, free, reserved) = (values[0][0], values[1][0], values[2][0], values[3][0])
    func item(_ name: String) -> UInt64 {
      nodeItems[name].map { values[5][$0] } ?? zoneItems[name].map { values[4][$0] } ?? 0
    }
    let lowWatermark = try readLowWatermark(try nodes.addresses(table, in: batch), in: space)
    var buffers: UInt64? = 0
    var fault: KernelError?
    do throws(KernelError) {
      buffers = try KernelError.reading("the list of block devices") {
        try blockDevices.map { try readBuffers($0, in: space) } ?? 0
      }
    } catch {
      (buffers, fault) = (nil, error)
    }

    let freePages = item("NR_FREE_PAGES")
    let reclaimableSlab = item("NR_SLAB_RECLAIMABLE_B")
    let unreclaimableSlab = item("NR_SLAB_UNRECLAIMABLE_B")
    let kernelReclaimable = reclaimableSlab &+ item("NR_KERNEL_MISC_RECLAIMABLE")
    let activeFile = item("NR_ACTIVE_FILE")
    let inactiveFile = item("NR_INACTIVE_FILE")
    let activeAnonymous = item("NR_ACTIVE_ANON")
    let inactiveAnonymous = item("NR_INACTIVE_ANON")
    let swapCache = item("NR_SWAPCACHE")
    let filePages = item("NR_FILE_PAGES")

    var available = Int64(clamping: freePages) - Int64(clamping: reserved)
    let pageCache = activeFile &+ inactiveFile
    available &+= Int64(clamping: pageCache - min(pageCache / 2, lowWatermark))
    available &+= Int64(clamping: kernelReclaimable - min(kernelReclaimable / 2, lowWatermark))

    var info = MemoryInfo()
    func line(_ name: String, pages: UInt64) { info.lines.append((name, pages &* 4096)) }
    line("MemTotal", pages: total)
    line("MemFree", pages: freePages)
    line("MemAvailable", pages: UInt64(max(0, available)))
    if let buffers {
      line("Buffers", pages: buffers)
      line(
        "Cached",
        pages: UInt64(max(0, Int64(clamping: filePages) &- Int64(clamping: swapCache) &- Int64(clamping: buffers))))
    }
    line("SwapCached", pages: swapCache)
    line("Active", pages: activeAnonymous &+ activeFile)
    line("Inactive", pages: inactiveAnonymous &+ inactiveFile)
    line("Active(anon)", pages: activeAnonymous)
    line("Inactive(anon)", pages: inactiveAnonymous)
    line("Active(file)", pages: activeFile)
    line("Inactive(file)", pages: inactiveFile)
    line("Unevictable", pages: item("NR_UNEVICTABLE"))
    line("Mlocked", pages: item("NR_MLOCK"))
    line("SwapTotal", pages: swap)
    line("SwapFree", pages: free)
    line("Dirty", pages: item("NR_FILE_DIRTY"))
    line("Writeback", pages: item("NR_WRITEBACK"))
    line("AnonPages", pages: item("NR_ANON_MAPPED"))
    line("Mapped", pages: item("NR_FILE_MAPPED"))
    line("Shmem", pages: item("NR_SHMEM"))
    line("KReclaimable", pages: kernelReclaimable)
    line("Slab", pages: reclaimableSlab &+ unreclaimableSlab)
    line("SReclaimable", pages: reclaimableSlab)
    line("SUnreclaim", pages: unreclaimableSlab)
    info.lines.append(("KernelStack", item("NR_KERNEL_STACK_KB") &* 1024))
    line("PageTables", pages: item("NR_PAGETABLE"))
    return (info, fault)
  }

  /// The sum over all zones of the watermark below which the kernel starts to reclaim, in pages.
  private func readLowWatermark(_ addresses: [VirtualAddress], in space: AddressSpace) throws -> UInt64 {
    var sum: UInt64 = 0
    for zone in space.read(zone, at: addresses.flatMap { node.zones.places(of: $0) }) {
      let marks = try zone.marks
      guard lowMark < marks.count else {
        throw MemoryFault(.virtual(zone.address), .inconsistent("a zone with \(marks.count) watermarks"))
      }
      sum &+= marks[lowMark] &+ (try zone.boost)
    }
    return sum
  }

  /// The pages that cache block devices: the kernel, too, counts them by walking the list of those devices.
  private func readBuffers(_ devices: BlockDevices, in space: AddressSpace) throws(MemoryFault) -> UInt64 {
    let head = try space.pointer(at: devices.pointer) + devices.superBlock.inodes.offset
    var link = try space.pointer(at: head)
    var seen: Set<VirtualAddress> = []
    var mappings: [VirtualAddress] = []
    // A chain costs a round trip a member; hosts have a few dozen block devices.
    while link != head {
      guard seen.insert(link).inserted else {
        throw MemoryFault(.virtual(link), .inconsistent("a list that comes back to a member, not to its head"))
      }
      guard mappings.count < 4096 else {
        throw MemoryFault(.virtual(link), .inconsistent("a list of more than 4096 block devices"))
      }
      let inode = space.read(devices.inode, at: [link - devices.inode.next.offset])[0]
      mappings.append(try inode.mapping)
      link = try inode.next
    }
    var pages: UInt64 = 0
    for mapping in space.read(devices.mapping, at: mappings) { pages &+= try mapping.pages }
    return pages
  }
}

extension Kernel {
  /// The main lines of /proc/meminfo, and why those are missing that depend on the list of block devices, if they are.
  ///
  /// Cost: that of ``host()`` without the rest: a round trip for each block device and a few more.
  public func memoryInfo() throws(KernelError) -> (info: MemoryInfo, fault: KernelError?) {
    let reader = try reader(MemoryInfoReader.self)
    return try KernelError.reading(subject(of: MemoryInfoReader.self)) { try reader.read(in: addressSpace) }
  }
}
