import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// What the kernel's descriptions say of pages: of whom they are, and how often they are mapped.
///
/// Source: include/linux/mm_types.h, `struct page` and `struct folio`; include/linux/mm.h, `page_mapcount` and
/// `folio_precise_page_mapcount`; include/linux/page-flags.h.
struct PageDescriptions: KernelReader {
  static let subject = "the descriptions of pages"

  struct Page {
    /// Those of the first of the pages that belong together.
    var flags: UInt64
    var references: Int32
    /// How often page tables have it.
    var mappings: Int32
    /// The lowest bits of its mapping.
    var kind: UInt64
    var isLarge: Bool
    /// The node that it belongs to.
    var node: Int

    /// PAGE_MAPPING_ANON and PAGE_MAPPING_KSM, from include/linux/page-flags.h.
    var isAnonymous: Bool { kind & 1 != 0 }
    var isMerged: Bool { kind & 3 == 3 }
  }

  private struct Description: KernelShape {
    static let type = "page"
    let flags = Field<UInt64>("flags"), mapping = Field<UInt64>("mapping")
    let mappings = Field<Int32>("_mapcount.counter"), references = Field<Int32>("_refcount.counter")
    let wholeMappings = Field<Int32>(optional: "compound_mapcount.counter")
  }

  private struct Folio: KernelShape {
    static let type = "folio"
    let wholeMappings = Field<Int32>(optional: "_entire_mapcount.counter")
  }

  private let pages: PageMap
  private let description: Bound<Description>
  private let wholeMappings: Int?
  /// Bits of flags; zero where this kernel has no such flag.
  let dirty, referenced, young, swapBacked, swapCache, active, unevictable, writeback, reserved: UInt64
  private let head, doubleMapped: UInt64
  /// How many bits of the flags, the uppermost, say the node.
  private let nodeBits: UInt64

  init(kernel: Kernel) throws {
    let types = kernel.types
    pages = try kernel.reader()
    description = try Bound(types)
    // In the description of the second page.
    if description.wholeMappings.isPresent {
      wholeMappings = pages.pageSize + description.wholeMappings.offset
    } else {
      let folio: Bound<Folio>? = try? Bound(types)
      wholeMappings = folio.flatMap { $0.wholeMappings.isPresent ? $0.wholeMappings.offset : nil }
    }
    func bit(_ name: String) -> UInt64 {
      types.enumerator(name).flatMap { (0..<64).contains($0) ? 1 << UInt64($0) : nil } ?? 0
    }
    (dirty, referenced, young) = (bit("PG_dirty"), bit("PG_referenced"), bit("PG_young"))
    (swapBacked, active, unevictable) = (bit("PG_swapbacked"), bit("PG_active"), bit("PG_unevictable"))
    // Another name of PG_owner_priv_1.
    swapCache = bit("PG_swapcache")
    (writeback, reserved, head) = (bit("PG_writeback"), bit("PG_reserved"), bit("PG_head"))
    // Until 6.1 (6.2, dad6a5eb5556), and of the second page.
    doubleMapped = bit("PG_double_map")
    guard (32...512).contains(pages.pageSize), head != 0, swapBacked != 0 else {
      throw KernelError(Self.subject, .inconsistent("this kernel does not say how it describes pages"))
    }
    // A pointer for each of MAX_NUMNODES nodes (NODES_SHIFT).
    let nodes = kernel.size(of: "node_data") / 8
    nodeBits = (2...1024).contains(nodes) ? UInt64(63 - UInt64(nodes).leadingZeroBitCount) : 0
  }

  /// The pages of `frames`, by their numbers.
  ///
  /// Cost: two batches.
  func read(_ frames: Set<UInt64>, _ kernel: Kernel) throws -> [UInt64: Page] {
    let space = kernel.addressSpace
    let start = try pages.start(in: space)
    let size = UInt64(pages.pageSize)
    let sorted = frames.sorted()
    let descriptions = space.read(description, at: sorted.map { VirtualAddress(start.rawValue &+ $0 &* size) })
    let links = try links(of: descriptions.addresses, in: space)
    // The first page of those that belong together speaks for all of them, and the second has more to say.
    var heads: [VirtualAddress] = []
    var seen: Set<VirtualAddress> = []
    for (item, head) in zip(descriptions, links) where try head != item.address || item.flags & self.head != 0 {
      if seen.insert(head).inserted { heads.append(head) }
    }
    let first = space.read(description, at: heads)
    var whole: [VirtualAddress: (flags: UInt64, references: Int32, kind: UInt64, mappings: Int32, isDouble: Bool)] = [:]
    if !heads.isEmpty {
      var batch = ReadBatch<VirtualAddress>()
      for head in heads {
        batch.add(head + pages.pageSize + description.flags.offset, count: 8)
        batch.add(head + (wholeMappings ?? pages.pageSize), count: 4)
      }
      space.read(&batch)
      for item in first {
        let second = try batch.reader(item.index * 2).u64(0)
        let count = wholeMappings == nil ? 0 : try batch.reader(item.index * 2 + 1).load(0, as: Int32.self) &+ 1
        whole[item.address] = (
          try item.flags, try item.references, try item.mapping & 3, count,
          doubleMapped != 0 && second & doubleMapped != 0
        )
      }
    }
    var found: [UInt64: Page] = [:]
    found.reserveCapacity(sorted.count)
    for (item, head) in zip(descriptions, links) {
      var page = Page(
        flags: try item.flags, references: try item.references, mappings: try item.mappings &+ 1,
        kind: try item.mapping & 3, isLarge: false, node: 0)
      // Where it says what type the page has, it does not count (`page_mapcount_is_type`).
      if page.mappings < 0 { page.mappings = 0 }
      page.node = nodeBits == 0 ? 0 : Int(page.flags >> (64 - nodeBits))
      if let whole = whole[head] {
        (page.flags, page.references, page.kind, page.isLarge) = (whole.flags, whole.references, whole.kind, true)
        if doubleMapped == 0 {
          page.mappings &+= whole.mappings
        } else if page.isAnonymous {
          // Pages of files counted all until then.
          page.mappings = page.mappings &+ whole.mappings &- (whole.isDouble ? 1 : 0)
        }
      }
      found[sorted[item.index]] = page
    }
    return found
  }

  /// The first of the pages that each belongs to.
  private func links(of addresses: [VirtualAddress], in space: AddressSpace) throws -> [VirtualAddress] {
    var batch = ReadBatch<VirtualAddress>()
    for address in addresses { batch.add(address + pages.compound.offset, count: 8) }
    space.read(&batch)
    var links: [VirtualAddress] = []
    links.reserveCapacity(addresses.count)
    for (index, address) in addresses.enumerated() {
      links.append(PageMap.head(of: address, compound: try batch.reader(index).u64(0)))
    }
    return links
  }
}
