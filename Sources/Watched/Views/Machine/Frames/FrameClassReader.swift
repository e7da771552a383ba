import Binding
import CLayouts
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
  /// - Parameter asksDevice: whether a device that can look at the descriptions itself is asked for what they say; what it says
  ///   nothing of is looked at from here.
  /// - Throws: ``KernelError`` where this kernel does not say how it marks its pages. Cost: a 64th of the memory is read; by a
  ///   device, a thirtieth of that comes from it at most.
  public func frameMap(asksDevice: Bool = true) throws(KernelError) -> FrameMap {
    let device = asksDevice ? memory as? any FrameDescribingMemory : nil
    return try reader(FrameClassReader.self).map(memory.segments, in: addressSpace, asking: device)
  }
}

/// Reads what page frames are used for.
///
/// Numbers of flags and types are those of the kernel's own enumerations, else those of its VMCOREINFO note. What they mean together
/// is said by `grass_frame.h`. The order of pages that belong together lies beside the first page's description: a byte of its own
/// there, or from 6.6 on the low byte of the second page's flags.
struct FrameClassReader: KernelReader {
  static let subject = "the classes of page frames"

  private let pages: PageMap
  private let flagsOffset, typeOffset, mappingOffset, privateOffset, compoundOffset: Int
  /// Where the second page's description says these, from the first one's on.
  private let orderOffset: Int
  private let destructorOffset: Int?
  private let rule: grass_frame_rule
  /// What the monitor `frames` has to be given; nil where four numbers cannot say it.
  private let arguments: [UInt64]?

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
    // A device knows no more than the types say.
    var isGivable = kernel.symbols.address(of: "vmemmap_base") != nil

    /// The bit of a flag; none where this kernel has no such flag.
    func bit(_ name: String) -> UInt64 {
      let typed = types.enumerator(name)
      guard let number = typed ?? note?.number(name), (0..<64).contains(number) else { return 0 }
      if typed == nil { isGivable = false }
      return 1 << UInt64(number)
    }
    func required(_ name: String) throws -> UInt64 {
      let bit = bit(name)
      guard bit != 0 else {
        throw KernelError(Self.subject, .inconsistent("this kernel does not say which bit \(name) is"))
      }
      return bit
    }
    var rule = grass_frame_rule()
    rule.lru = try required("PG_lru")
    rule.head = try required("PG_head")
    rule.private_data = try required("PG_private")
    (rule.swap_cache, rule.swap_backed) = (bit("PG_swapcache"), bit("PG_swapbacked"))
    (rule.poison, rule.slab) = (bit("PG_hwpoison"), types.enumerator("PGTY_slab") == nil ? bit("PG_slab") : 0)

    // A byte a type: 1 + the bit that is cleared.
    var given: UInt64 = 0
    /// A type by its number in the enumeration of types, else by the whole value in the note.
    func type(_ name: String, _ noted: String? = nil, place: UInt64) -> grass_page_type {
      if let number = types.enumerator("PGTY_\(name)"), (0..<256).contains(number) {
        return grass_page_type(value: UInt32(number) << 24, mask: 0xff00_0000)
      }
      guard let noted, let number = note?.number("PAGE_\(noted)_MAPCOUNT_VALUE") else { return grass_page_type() }
      let value = UInt32(truncatingIfNeeded: number)
      if (~value).nonzeroBitCount == 1 {
        given |= UInt64((~value).trailingZeroBitCount + 1) << (8 * place)
      } else {
        isGivable = false
      }
      return grass_page_type(value: value, mask: .max)
    }
    rule.free = type("buddy", "BUDDY", place: 0)
    guard rule.free.mask != 0 else {
      throw KernelError(
        Self.subject,
        .inconsistent("neither its types nor a VMCOREINFO note say how this kernel marks free pages"))
    }
    rule.offline = type("offline", "OFFLINE", place: 1)
    rule.unaccepted = type("unaccepted", "UNACCEPTED", place: 2)
    rule.slabs = type("slab", "SLAB", place: 3)
    rule.huge = type("hugetlb", "HUGETLB", place: 4)
    rule.table = type("table", place: 5)

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
    destructorOffset = destructor
    if destructor != nil, let value = types.enumerator("HUGETLB_PAGE_DTOR") ?? note?.number("HUGETLB_PAGE_DTOR") {
      rule.destructor = UInt32(UInt8(truncatingIfNeeded: value))
    }
    rule.second_huge = bit("PG_hugetlb")

    let orders =
      (try? types.structure("zone").field("free_area").elementCount ?? nil) ?? note?.length("zone.free_area") ?? 0
    guard (1...32).contains(orders) else {
      throw KernelError(Self.subject, .inconsistent("its zones have free pages of \(orders) orders"))
    }
    rule.orders = UInt32(orders)
    self.rule = rule
    arguments = isGivable ? [given, UInt64(rule.orders) | UInt64(rule.destructor) << 8] : nil
  }

  /// So many frames are described in one read: a section of the memory map, 2 MiB.
  private static let window = 32768
  /// So many a device is asked about at once.
  private static let question = 65536
  /// So many descriptions are read by themselves where a window cannot be read: those of one page.
  private static let smallWindow = 64
  /// So many faults are kept.
  private static let mostFaults = 64

  /// The most frames of which the classes are kept, 64 TiB of memory: who says how much there is may be wrong.
  private static let mostFrames: UInt64 = 1 << 34

  /// A walk over the frames in ascending order, and the block that it is in.
  private struct Walk {
    private var end: UInt64 = 0
    private var kind = UInt8(GRASS_FRAME_UNKNOWN.rawValue)
    /// Whether each of the block's frames but the first says that it is none.
    private var hasTails = false
    var faults: [MemoryFault] = []

    /// The class of a frame of whose description this is said.
    mutating func kind(of frame: UInt64, _ word: UInt32) -> UInt8 {
      if frame >= end || hasTails && word & GRASS_FRAME_TAIL.rawValue == 0 {
        let order = UInt64(word >> UInt32(GRASS_FRAME_ORDER_SHIFT.rawValue) & GRASS_FRAME_ORDER.rawValue)
        end = frame + 1 << order
        kind = UInt8(word & GRASS_FRAME_CLASS.rawValue)
        hasTails = word & GRASS_FRAME_HAS_TAILS.rawValue != 0
      }
      // Each page of a block can be broken by itself.
      return word & GRASS_FRAME_BROKEN.rawValue != 0 ? UInt8(GRASS_FRAME_POISONED.rawValue) : kind
    }
  }

  func map(
    _ segments: [MemorySegment], in space: AddressSpace, asking device: (any FrameDescribingMemory)?
  ) throws(KernelError) -> FrameMap {
    let count = segments.reduce(UInt64(0)) { $0 + min($1.count / FrameMap.frameSize, Self.mostFrames) }
    guard count <= Self.mostFrames else {
      throw KernelError(Self.subject, .inconsistent("the memory has \(count) frames, more than \(Self.mostFrames)"))
    }
    var map = FrameMap(of: segments)
    let start: VirtualAddress
    do throws(MemoryFault) { start = try pages.start(in: space) } catch {
      throw KernelError(Self.subject, .memory(error))
    }
    var walk = Walk()
    var device = arguments == nil ? nil : device
    for index in map.parts.indices {
      map.update(index) { first, classes in
        var done = 0
        while done < classes.count {
          let frame = first + UInt64(done)
          let window = device == nil ? Self.window : Self.question
          let count = min(window - Int(frame % UInt64(window)), classes.count - done)
          let runs = device?.frames(from: frame, count: count, arguments: arguments ?? [])
          if runs == nil { device = nil }
          fill(frame, count, runs ?? [], start, space, &classes, at: done, &walk)
          done += count
        }
      }
    }
    map.faults = walk.faults
    return map
  }

  /// Classes of `count` frames from `frame` on: those of `runs` as these say, the others by their descriptions.
  private func fill(
    _ frame: UInt64, _ count: Int, _ runs: [FrameRun], _ start: VirtualAddress, _ space: AddressSpace,
    _ classes: inout [UInt8], at place: Int, _ walk: inout Walk
  ) {
    var done = 0
    func read(to end: Int) {
      while done < end {
        let next = frame + UInt64(done)
        let count = min(Self.window - Int(next % UInt64(Self.window)), end - done)
        self.read(next, count, start, space, into: &classes, at: place + done, &walk)
        done += count
      }
    }
    // What a device says is taken in ascending order, as far as it was asked for.
    for run in runs where run.first >= frame + UInt64(done) && run.first < frame + UInt64(count) {
      read(to: Int(run.first - frame))
      for _ in 0..<min(run.count, count - done) {
        classes[place + done] = walk.kind(of: frame + UInt64(done), run.word)
        done += 1
      }
    }
    read(to: count)
  }

  /// Reads the descriptions of `count` frames from `frame` on; in pieces where they cannot be read as a whole.
  private func read(
    _ frame: UInt64, _ count: Int, _ start: VirtualAddress, _ space: AddressSpace, into classes: inout [UInt8],
    at place: Int, _ walk: inout Walk
  ) {
    let size = pages.pageSize
    // Whole groups: of a block's first page the next one's description is looked at, too.
    let lead = Int(frame % UInt64(Self.smallWindow))
    let first = start + Int(truncatingIfNeeded: (frame - UInt64(lead)) &* UInt64(size))
    let whole = (lead + count + Self.smallWindow - 1) / Self.smallWindow * Self.smallWindow
    var batch = ReadBatch<VirtualAddress>()
    batch.add(first, count: whole * size)
    space.read(&batch)
    if batch.succeeded(0) {
      classify(batch, 0, from: lead, frame, count, into: &classes, at: place, &walk)
      return
    }
    var pieces = ReadBatch<VirtualAddress>()
    for offset in stride(from: 0, to: whole, by: Self.smallWindow) {
      pieces.add(first + offset * size, count: Self.smallWindow * size)
    }
    space.read(&pieces)
    for index in pieces.entries.indices {
      // Of the frames that were asked for, those of this group.
      let (from, end) = (max(index * Self.smallWindow, lead), min((index + 1) * Self.smallWindow, lead + count))
      if let fault = pieces.faults[index] {
        if walk.faults.count < Self.mostFaults { walk.faults.append(fault) }
      } else {
        classify(
          pieces, index, from: from - index * Self.smallWindow, frame + UInt64(from - lead), end - from, into: &classes,
          at: place + from - lead, &walk)
      }
    }
  }

  /// Classes of `count` frames from `frame` on, whose descriptions lie one behind the other, the first of them number `from`.
  private func classify(
    _ batch: borrowing ReadBatch<VirtualAddress>, _ entry: Int, from: Int, _ frame: UInt64, _ count: Int,
    into classes: inout [UInt8], at place: Int, _ walk: inout Walk
  ) {
    guard let reader = try? batch.reader(entry) else { return }
    withUnsafePointer(to: rule) { rule in
      for index in 0..<count {
        let frame = frame + UInt64(index)
        guard let marks = marks(reader, (from + index) * pages.pageSize) else { return }
        let word = withUnsafePointer(to: marks) { grass_frame_word(rule, frame, $0) }
        classes[place + index] = walk.kind(of: frame, word)
      }
    }
  }

  private func marks(_ reader: borrowing ByteReader, _ base: Int) -> grass_frame_marks? {
    var marks = grass_frame_marks()
    do throws(MemoryFault) {
      marks.flags = try reader.u64(base + flagsOffset)
      marks.mapping = try reader.u64(base + mappingOffset)
      marks.own = try reader.u64(base + privateOffset)
      marks.compound = try reader.u64(base + compoundOffset)
      marks.type = try reader.u32(base + typeOffset)
    } catch { return nil }
    // The second page of what has one is beside the first, unless the memory lies.
    if marks.flags & rule.head != 0 {
      marks.order = UInt32((try? reader.u8(base + orderOffset)) ?? 0)
      marks.destructor = UInt32((destructorOffset.map { try? reader.u8(base + $0) } ?? nil) ?? 0)
      marks.second_flags = (try? reader.u64(base + pages.pageSize + flagsOffset)) ?? 0
    }
    return marks
  }
}
