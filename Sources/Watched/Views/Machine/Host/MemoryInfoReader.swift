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

  private let subject: String
  private let totalPages: VirtualAddress
  private let zoneCounters: VirtualAddress
  private let nodeCounters: VirtualAddress
  private let zoneItems: [String: Int]
  private let nodeItems: [String: Int]
  private let zoneCount: Int
  private let nodeCount: Int
  private let swapTotal: VirtualAddress?
  private let swapFree: VirtualAddress?
  private let reserve: VirtualAddress?
  private let nodes: NodeFields
  private let blockDevices: BlockDeviceFields?

  private struct NodeFields: Sendable {
    let table: VirtualAddress?
    let single: VirtualAddress?
    let zones: FieldLayout
    let zoneSize: Int
    let watermark: FieldLayout
    let low: Int
    let boost: FieldLayout?
  }

  private struct BlockDeviceFields: Sendable {
    let superblock: VirtualAddress
    let inodes: FieldLayout
    let selection: FieldSelection
    let next, mapping: FieldSelection.Field
    let link: Int
    let pageCount: FieldLayout
  }

  private static let itemNames = [
    "NR_FREE_PAGES", "NR_MLOCK", "NR_ACTIVE_ANON", "NR_INACTIVE_ANON", "NR_ACTIVE_FILE", "NR_INACTIVE_FILE",
    "NR_UNEVICTABLE", "NR_FILE_PAGES",
    "NR_SWAPCACHE", "NR_FILE_DIRTY", "NR_WRITEBACK", "NR_ANON_MAPPED", "NR_FILE_MAPPED", "NR_SHMEM",
    "NR_SLAB_RECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE_B", "NR_KERNEL_MISC_RECLAIMABLE", "NR_KERNEL_STACK_KB",
    "NR_PAGETABLE",
  ]

  init(kernel: Kernel) throws {
    let subject = kernel.subject(of: Self.self)
    self.subject = subject
    let types = kernel.types
    totalPages = try kernel.symbol("_totalram_pages", for: subject)
    zoneCounters = try kernel.symbol("vm_zone_stat", for: subject)
    nodeCounters = try kernel.symbol("vm_node_stat", for: subject)
    // Counters move from zones to nodes, as that of page tables did in 5.11: their enum says where each is.
    func items(_ enumeration: String) -> [String: Int] {
      Dictionary(
        uniqueKeysWithValues: Self.itemNames.compactMap { name in
          types.enumerator(name, of: enumeration).flatMap { (0..<256).contains($0) ? (name, Int($0)) : nil }
        })
    }
    zoneItems = items("zone_stat_item")
    nodeItems = items("node_stat_item")
    zoneCount = (zoneItems.values.max() ?? 0) + 1
    nodeCount = (nodeItems.values.max() ?? 0) + 1
    swapTotal = kernel.symbols.address(of: "total_swap_pages")
    swapFree = kernel.symbols.address(of: "nr_swap_pages")
    reserve = kernel.symbols.address(of: "totalreserve_pages")
    let node = try types.structure("pglist_data")
    let zone = try types.structure("zone")
    nodes = NodeFields(
      table: kernel.symbols.address(of: "node_data"), single: kernel.symbols.address(of: "contig_page_data"),
      zones: try node.field("node_zones"), zoneSize: zone.size, watermark: try zone.field("_watermark"),
      low: types.enumerator("WMARK_LOW").flatMap { (0..<8).contains($0) ? Int($0) : nil } ?? 1,
      boost: zone.hasField("watermark_boost") ? try zone.field("watermark_boost") : nil)
    if let superblock = kernel.symbols.address(of: "blockdev_superblock") {
      var inode = FieldSelection(try types.structure("inode"))
      let next = try inode.want("i_sb_list.next")
      let mapping = try inode.want("i_mapping")
      blockDevices = BlockDeviceFields(
        superblock: superblock, inodes: try types.structure("super_block").field("s_inodes"), selection: inode,
        next: next,
        mapping: mapping, link: next.offset, pageCount: try types.structure("address_space").field("nrpages"))
    } else {
      blockDevices = nil
    }
  }

  /// - Returns: the lines, and why those that depend on the list of block devices are missing, if they are.
  func read(in space: AddressSpace) throws -> (info: MemoryInfo, fault: KernelError?) {
    var batch = ReadBatch<VirtualAddress>()
    let total = batch.add(totalPages, count: 8)
    let zone = batch.add(zoneCounters, count: zoneCount * 8)
    let node = batch.add(nodeCounters, count: nodeCount * 8)
    let swap = swapTotal.map { batch.add($0, count: 8) }
    let free = swapFree.map { batch.add($0, count: 8) }
    let reserved = reserve.map { batch.add($0, count: 8) }
    let nodeTable = nodes.table.map { batch.add($0, count: 64 * 8) }
    space.read(&batch)

    func counter(_ entry: Int?, _ index: Int? = 0) throws -> UInt64 {
      guard let entry, let index else { return 0 }
      // Counters are folded in from each CPU's share, so a small one may read below zero for a moment.
      return UInt64(max(0, try batch.reader(entry).load(index * 8, as: Int64.self)))
    }
    func item(_ name: String) throws -> UInt64 {
      try nodeItems[name].map { try counter(node, $0) } ?? counter(zone, zoneItems[name])
    }

    var nodeAddresses = nodes.single.map { [$0] } ?? []
    if let nodeTable {
      for index in 0..<64 {
        let address = try batch.reader(nodeTable).pointer(index * 8)
        guard address.rawValue >> 63 == 1 else { break }
        nodeAddresses.append(address)
      }
    }
    let lowWatermark = try readLowWatermark(nodeAddresses, in: space)
    var buffers: UInt64? = 0
    var fault: KernelError?
    do throws(KernelError) {
      buffers = try KernelError.reading("the list of block devices") {
        try blockDevices.map { try readBuffers($0, in: space) } ?? 0
      }
    } catch {
      (buffers, fault) = (nil, error)
    }

    let freePages = try item("NR_FREE_PAGES")
    let reclaimableSlab = try item("NR_SLAB_RECLAIMABLE_B")
    let unreclaimableSlab = try item("NR_SLAB_UNRECLAIMABLE_B")
    let kernelReclaimable = try reclaimableSlab &+ item("NR_KERNEL_MISC_RECLAIMABLE")
    let activeFile = try item("NR_ACTIVE_FILE")
    let inactiveFile = try item("NR_INACTIVE_FILE")
    let activeAnonymous = try item("NR_ACTIVE_ANON")
    let inactiveAnonymous = try item("NR_INACTIVE_ANON")
    let swapCache = try item("NR_SWAPCACHE")
    let filePages = try item("NR_FILE_PAGES")

    var available = Int64(clamping: freePages) - Int64(clamping: try counter(reserved))
    let pageCache = activeFile &+ inactiveFile
    available &+= Int64(clamping: pageCache - min(pageCache / 2, lowWatermark))
    available &+= Int64(clamping: kernelReclaimable - min(kernelReclaimable / 2, lowWatermark))

    var info = MemoryInfo()
    func line(_ name: String, pages: UInt64) { info.lines.append((name, pages &* 4096)) }
    line("MemTotal", pages: try counter(total))
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
    line("Unevictable", pages: try item("NR_UNEVICTABLE"))
    line("Mlocked", pages: try item("NR_MLOCK"))
    line("SwapTotal", pages: try counter(swap))
    line("SwapFree", pages: try counter(free))
    line("Dirty", pages: try item("NR_FILE_DIRTY"))
    line("Writeback", pages: try item("NR_WRITEBACK"))
    line("AnonPages", pages: try item("NR_ANON_MAPPED"))
    line("Mapped", pages: try item("NR_FILE_MAPPED"))
    line("Shmem", pages: try item("NR_SHMEM"))
    line("KReclaimable", pages: kernelReclaimable)
    line("Slab", pages: reclaimableSlab &+ unreclaimableSlab)
    line("SReclaimable", pages: reclaimableSlab)
    line("SUnreclaim", pages: unreclaimableSlab)
    info.lines.append(("KernelStack", try item("NR_KERNEL_STACK_KB") &* 1024))
    line("PageTables", pages: try item("NR_PAGETABLE"))
    return (info, fault)
  }

  /// The sum over all zones of the watermark below which the kernel starts to reclaim, in pages.
  private func readLowWatermark(_ addresses: [VirtualAddress], in space: AddressSpace) throws -> UInt64 {
    var batch = ReadBatch<VirtualAddress>()
    let zones = nodes.zones.size / max(nodes.zoneSize, 1)
    for address in addresses {
      for zone in 0..<min(zones, 8) {
        let base = address + nodes.zones.offset + zone * nodes.zoneSize
        batch.add(base + nodes.watermark.offset + nodes.low * 8, count: 8)
        batch.add(base + (nodes.boost?.offset ?? nodes.watermark.offset), count: 8)
      }
    }
    space.read(&batch)
    var sum: UInt64 = 0
    for entry in stride(from: 0, to: batch.entries.count, by: 2) {
      sum &+= try batch.reader(entry).u64(0)
      if nodes.boost != nil { sum &+= try batch.reader(entry + 1).u64(0) }
    }
    return sum
  }

  /// The pages that cache block devices: the kernel, too, counts them by walking the list of those devices.
  private func readBuffers(_ devices: BlockDeviceFields, in space: AddressSpace) throws -> UInt64 {
    let pointer = try space.read(devices.superblock, count: 8)
    let head = try ByteReader(pointer.span.bytes).pointer(0) + devices.inodes.offset
    let first = try space.read(head, count: 8)
    var link = try ByteReader(first.span.bytes).pointer(0)
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
      var batch = ReadBatch<VirtualAddress>()
      let record = devices.selection.add(to: &batch, at: link - devices.link)
      space.read(&batch)
      mappings.append(try devices.selection.pointer(devices.mapping, record, batch))
      link = try devices.selection.pointer(devices.next, record, batch)
    }
    var batch = ReadBatch<VirtualAddress>()
    for mapping in mappings { batch.add(mapping + devices.pageCount.offset, count: 8) }
    space.read(&batch)
    var pages: UInt64 = 0
    for index in mappings.indices { pages &+= try batch.reader(index).u64(0) }
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
