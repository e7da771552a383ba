import Binding
import KernelInfo
public import LinuxKernel
public import Memory
import Paging

extension Kernel {
  /// The class of each page frame of the memory, by the kernel's own descriptions of them, its `struct page`.
  ///
  /// It is what the memory says of itself: whoever can write there can have a page look free that is not. Frames whose
  /// descriptions cannot be read are of no known class.
  ///
  /// - Throws: ``KernelError`` where this kernel does not say how it marks its pages. Cost: a 64th of the memory is read.
  public func frameMap() throws(KernelError) -> FrameMap {
    try reader(FrameClassReader.self).map(memory.segments, in: addressSpace)
  }
}

/// Reads what page frames are used for, by the rules by which makedumpfile leaves pages out.
///
/// Numbers of flags and types are those of the kernel's own enumerations, else those of its VMCOREINFO note. Types of pages lie in
/// the field of mappings' counts: each a bit that is cleared, so that a page of one type has one value, and from 6.12 on a number
/// in the uppermost byte. The order of pages that belong together lies beside the first page's description: a byte of its own
/// there, or from 6.6 on the low byte of the second page's flags.
/// Source: include/linux/page-flags.h, include/linux/mm_types.h, kernel/vmcore_info.c; makedumpfile, `__exclude_unnecessary_pages`.
struct FrameClassReader: KernelReader {
  static let subject = "the classes of page frames"

  /// A page's type, as its description has it.
  private struct PageType {
    let value: UInt32
    let mask: UInt32

    func matches(_ word: UInt32) -> Bool { word & mask == value }
  }

  /// How huge pages of processes are marked.
  private enum HugeMark {
    case type(PageType)
    /// A bit of the second page's flags.
    case secondFlag(UInt64)
    /// The byte at that offset from the first description says how they are given back, and has this value.
    case destructor(offset: Int, value: UInt8)
    case none
  }

  private let pages: PageMap
  private let flagsOffset, typeOffset, mappingOffset, privateOffset, compoundOffset: Int
  private let lru, privateFlag, swapCache, swapBacked, head: UInt64
  private let poison, slabFlag: UInt64
  private let free: PageType
  private let offline, unaccepted, slab, table: PageType?
  private let huge: HugeMark
  /// Where the order lies, from the first description on, and whether it is a byte of its own.
  private let orderOffset: Int
  /// The order that no block of free pages reaches.
  private let orderLimit: UInt64

  /// The lowest bit of a mapping: the page is of no file. Source: include/linux/page-flags.h, PAGE_MAPPING_ANON; no table of the
  /// kernel has it.
  private static let anonymous: UInt64 = 1

  init(kernel: Kernel) throws {
    let types = kernel.types
    let note = kernel.coreInfo()
    pages = try kernel.reader()
    let page = try types.structure("page")
    flagsOffset = try page.field("flags").offset
    typeOffset = try page.field("page_type", or: "_mapcount").offset
    mappingOffset = try page.field("mapping").offset
    privateOffset = try page.field("private").offset
    compoundOffset = pages.compound.offset
    guard (32...512).contains(pages.pageSize) else {
      throw KernelError(Self.subject, .inconsistent("struct page has \(pages.pageSize) bytes"))
    }

    /// The bit of a flag; none where this kernel has no such flag.
    func bit(_ name: String) -> UInt64 {
      guard let number = types.enumerator(name) ?? note?.number(name), (0..<64).contains(number) else { return 0 }
      return 1 << UInt64(number)
    }
    func required(_ name: String) throws -> UInt64 {
      let bit = bit(name)
      guard bit != 0 else {
        throw KernelError(Self.subject, .inconsistent("this kernel does not say which bit \(name) is"))
      }
      return bit
    }
    lru = try required("PG_lru")
    head = try required("PG_head")
    privateFlag = try required("PG_private")
    (swapCache, swapBacked) = (bit("PG_swapcache"), bit("PG_swapbacked"))
    (poison, slabFlag) = (bit("PG_hwpoison"), types.enumerator("PGTY_slab") == nil ? bit("PG_slab") : 0)

    /// A type by its number in the enumeration of types, else by the whole value in the note.
    func type(_ name: String, _ noted: String? = nil) -> PageType? {
      if let number = types.enumerator("PGTY_\(name)"), (0..<256).contains(number) {
        return PageType(value: UInt32(number) << 24, mask: 0xff00_0000)
      }
      guard let noted, let value = note?.number("PAGE_\(noted)_MAPCOUNT_VALUE") else { return nil }
      return PageType(value: UInt32(truncatingIfNeeded: value), mask: .max)
    }
    guard let free = type("buddy", "BUDDY") else {
      throw KernelError(
        Self.subject,
        .inconsistent("neither its types nor a VMCOREINFO note say how this kernel marks free pages"))
    }
    self.free = free
    offline = type("offline", "OFFLINE")
    unaccepted = type("unaccepted", "UNACCEPTED")
    slab = type("slab", "SLAB")
    table = type("table")

    let folio = try? types.structure("folio")
    func folioOffset(_ name: String) -> Int? {
      guard let folio, folio.hasField(name) else { return nil }
      return try? folio.field(name).offset
    }
    // Where the second page of a folio is described, its members lie at offsets from the first.
    if page.hasField("compound_order") {
      orderOffset = pages.pageSize + (try page.field("compound_order").offset)
    } else {
      orderOffset = folioOffset("_folio_order") ?? folioOffset("_flags_1") ?? pages.pageSize + flagsOffset
    }
    let destructor =
      page.hasField("compound_dtor")
      ? pages.pageSize + (try page.field("compound_dtor").offset) : folioOffset("_folio_dtor")
    if let type = type("hugetlb", "HUGETLB") {
      huge = .type(type)
    } else if let destructor,
      let value = types.enumerator("HUGETLB_PAGE_DTOR") ?? note?.number("HUGETLB_PAGE_DTOR")
    {
      huge = .destructor(offset: destructor, value: UInt8(truncatingIfNeeded: value))
    } else {
      let flag = bit("PG_hugetlb")
      huge = flag != 0 ? .secondFlag(flag) : .none
    }

    let orders =
      (try? types.structure("zone").field("free_area").elementCount ?? nil) ?? note?.length("zone.free_area") ?? 0
    guard (1...32).contains(orders) else {
      throw KernelError(Self.subject, .inconsistent("its zones have free pages of \(orders) orders"))
    }
    orderLimit = UInt64(orders)
  }

  /// So many frames are described in one read: a section of the memory map, 2 MiB.
  private static let window = 32768
  /// So many descriptions are read by themselves where a window cannot be read: those of one page.
  private static let smallWindow = 64
  /// So many faults are kept.
  private static let mostFaults = 64

  /// A block of frames that belong together, as far as it was said to reach.
  private struct Block {
    var end: UInt64
    var kind: FrameClass
    /// Whether each of its pages but the first says that it is none.
    var hasTails = false
  }

  /// The most frames of which the classes are kept, 64 TiB of memory: who says how much there is may be wrong.
  private static let mostFrames: UInt64 = 1 << 34

  func map(_ segments: [MemorySegment], in space: AddressSpace) throws(KernelError) -> FrameMap {
    let count = segments.reduce(UInt64(0)) { $0 + min($1.count / FrameMap.frameSize, Self.mostFrames) }
    guard count <= Self.mostFrames else {
      throw KernelError(Self.subject, .inconsistent("the memory has \(count) frames, more than \(Self.mostFrames)"))
    }
    var map = FrameMap(of: segments)
    let start: VirtualAddress
    do throws(MemoryFault) { start = try pages.start(in: space) } catch {
      throw KernelError(Self.subject, .memory(error))
    }
    var faults: [MemoryFault] = []
    var block = Block(end: 0, kind: .unknown)
    for index in map.parts.indices {
      map.update(index) { first, classes in
        var done = 0
        while done < classes.count {
          let frame = first + UInt64(done)
          let count = min(Self.window - Int(frame % UInt64(Self.window)), classes.count - done)
          read(frame, count, start, space, into: &classes, at: done, &block, &faults)
          done += count
        }
      }
    }
    map.faults = faults
    return map
  }

  /// Reads the descriptions of `count` frames from `frame` on; in pieces where they cannot be read as a whole.
  private func read(
    _ frame: UInt64, _ count: Int, _ start: VirtualAddress, _ space: AddressSpace, into classes: inout [UInt8],
    at place: Int, _ block: inout Block, _ faults: inout [MemoryFault]
  ) {
    let size = pages.pageSize
    func address(_ frame: UInt64) -> VirtualAddress { start + Int(truncatingIfNeeded: frame &* UInt64(size)) }
    var batch = ReadBatch<VirtualAddress>()
    batch.add(address(frame), count: count * size)
    space.read(&batch)
    if batch.succeeded(0) {
      classify(batch, 0, frame, count, into: &classes, at: place, &block)
      return
    }
    var pieces = ReadBatch<VirtualAddress>()
    for offset in stride(from: 0, to: count, by: Self.smallWindow) {
      pieces.add(address(frame + UInt64(offset)), count: min(Self.smallWindow, count - offset) * size)
    }
    space.read(&pieces)
    for index in pieces.entries.indices {
      let offset = index * Self.smallWindow
      if let fault = pieces.faults[index] {
        if faults.count < Self.mostFaults { faults.append(fault) }
      } else {
        classify(
          pieces, index, frame + UInt64(offset), min(Self.smallWindow, count - offset), into: &classes,
          at: place + offset, &block)
      }
    }
  }

  private func classify(
    _ batch: borrowing ReadBatch<VirtualAddress>, _ entry: Int, _ frame: UInt64, _ count: Int,
    into classes: inout [UInt8], at place: Int, _ block: inout Block
  ) {
    guard let reader = try? batch.reader(entry) else { return }
    for index in 0..<count {
      let base = index * pages.pageSize
      guard let flags = try? reader.u64(base + flagsOffset), let kind = try? reader.u32(base + typeOffset),
        let compound = try? reader.u64(base + compoundOffset)
      else { return }
      let frame = frame + UInt64(index)
      if frame >= block.end || block.hasTails && compound & 1 == 0 {
        block = self.block(reader, base, frame, flags, kind, compound)
      }
      // Each page of a block can be broken by itself.
      classes[place + index] = (flags & poison != 0 ? .poisoned : block.kind).rawValue
    }
  }

  /// The block of frames that begins with the one described at `base`.
  private func block(
    _ reader: borrowing ByteReader, _ base: Int, _ frame: UInt64, _ flags: UInt64, _ kind: UInt32, _ compound: UInt64
  ) -> Block {
    func single(_ kind: FrameClass) -> Block { Block(end: frame + 1, kind: kind) }
    guard let mapping = try? reader.u64(base + mappingOffset), let own = try? reader.u64(base + privateOffset) else {
      return single(.unknown)
    }
    // What is not the first of its block belongs to one that was not seen.
    if compound & 1 == 1 { return single(.kernel) }
    func isStart(ofOrder order: UInt64) -> Bool { frame & ((1 << order) - 1) == 0 }
    if free.matches(kind), flags & slabFlag == 0 {
      guard own < orderLimit, isStart(ofOrder: own) else { return single(.kernel) }
      return Block(end: frame + (1 << own), kind: .free)
    }
    if let unaccepted, unaccepted.matches(kind), isStart(ofOrder: orderLimit - 1) {
      return Block(end: frame + (1 << (orderLimit - 1)), kind: .free)
    }
    var end = frame + 1
    var isHuge = false
    if flags & head != 0 {
      let order = UInt64((try? reader.u8(base + orderOffset)) ?? 0)
      if order < 32, isStart(ofOrder: order) { end = frame + (1 << order) }
      switch huge {
      case .destructor(let offset, let value): isHuge = (try? reader.u8(base + offset)) == value
      case .secondFlag(let flag):
        isHuge = ((try? reader.u64(base + pages.pageSize + flagsOffset)) ?? 0) & flag != 0
      case .type(let type): isHuge = type.matches(kind)
      case .none: break
      }
    }
    // Of huge pages, whose descriptions the kernel may spare, what is read for the later ones is that of the first.
    func block(_ kind: FrameClass) -> Block { Block(end: end, kind: kind, hasTails: !isHuge) }
    // Of a huge page only the first says that one is broken, not which.
    if flags & poison != 0, flags & head != 0 { return block(.poisoned) }
    let isSlab = slab?.matches(kind) ?? (flags & slabFlag != 0)
    let isAnonymous = !isSlab && mapping & Self.anonymous != 0
    let isSwapped = flags & swapCache != 0 && (swapBacked == 0 || flags & swapBacked != 0)
    if flags & lru != 0 || isSwapped, !isAnonymous { return block(flags & privateFlag != 0 ? .privateCache : .cache) }
    if isAnonymous || isHuge { return block(.user) }
    if offline?.matches(kind) ?? false { return block(.offline) }
    if isSlab { return block(.slab) }
    if table?.matches(kind) ?? false { return block(.pageTable) }
    return block(.kernel)
  }
}
