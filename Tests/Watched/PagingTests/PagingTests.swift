import Memory
import Samples
import Testing

@testable import Paging

/// Memory whose page tables a test writes entry by entry.
struct Tables {
  static let root = PhysicalAddress(0x1000)
  static let present: UInt64 = 1
  static let large: UInt64 = 1 << 7
  /// Bits that say nothing about the address: writable, user, accessed, dirty, and no-execute at the top.
  static let flags: UInt64 = 0x8000_0000_0000_0066

  private(set) var memory = SyntheticMemory([UInt8](repeating: 0, count: 16 << 12))

  /// Sets entry `index` of the table in page `page`.
  mutating func set(page: UInt64, _ index: UInt64, _ entry: UInt64) {
    memory.write(bytes(entry), at: PhysicalAddress(page << 12 + index * 8))
  }

  /// Maps the page at `address` to the physical page `target`, with tables in the pages from 1 on, one a level.
  mutating func map(_ address: UInt64, to target: UInt64, levels: Int, lastLevel: Int = 1, flags: UInt64 = flags) {
    for level in stride(from: levels, through: lastLevel, by: -1) {
      let table = UInt64(levels - level + 1)
      let next = level == lastLevel ? target | (level > 1 ? Self.large : 0) : (table + 1) << 12
      set(page: table, address >> UInt64(12 + 9 * (level - 1)) & 511, next | flags | Self.present)
    }
  }

  mutating func add(_ bytes: [UInt8], at address: UInt64) { memory.add(bytes, at: PhysicalAddress(address)) }

  func walker(_ format: PageTableFormat = .x86_64FourLevel) -> PageWalker {
    PageWalker(memory: memory, format: format)
  }

  func translate(
    _ address: UInt64, _ format: PageTableFormat = .x86_64FourLevel, root: PhysicalAddress = root
  ) -> Result<PageWalker.Mapping, MemoryFault> {
    walker(format).translate([(VirtualAddress(address), root)])[0]
  }
}

struct PageWalkTests {
  typealias Mapping = PageWalker.Mapping

  static let formats: [(PageTableFormat, UInt64)] = [
    (.x86_64FourLevel, 0xffff_8123_4567_8000), (.x86_64FourLevel, 0x0000_7fff_ffff_f000),
    (.x86_64FiveLevel, 0xff11_8123_4567_8000), (.x86_64FiveLevel, 0x00ff_ffff_ffff_f000),
  ]

  @Test(arguments: formats)
  func walksAllLevels(format: PageTableFormat, address: UInt64) {
    var tables = Tables()
    tables.map(address, to: 0xabcd_e000, levels: format.levels)
    let mapping = tables.translate(address + 0x123, format)
    #expect(mapping == .success(Mapping(physical: PhysicalAddress(0xabcd_e123), remaining: 0x1000 - 0x123)))
  }

  /// Large pages end the walk above the last level; bit 12 of their entry is the PAT bit, no address.
  @Test(arguments: [(2, 21), (3, 30)], [PageTableFormat.x86_64FourLevel, .x86_64FiveLevel])
  func walksLargePages(page: (level: Int, bits: Int), format: PageTableFormat) {
    var tables = Tables()
    let size = UInt64(1) << UInt64(page.bits)
    let pat: UInt64 = 1 << 12
    tables.map(
      0xffff_ffff_8000_0000, to: 5 * size | pat, levels: format.levels, lastLevel: page.level)
    let mapping = tables.translate(0xffff_ffff_8000_0000 + size - 0x10, format)
    #expect(mapping == .success(Mapping(physical: PhysicalAddress(6 * size - 0x10), remaining: 0x10)))
  }

  /// In a page of 4 KiB bit 7 is the PAT bit, not the mark of a large page.
  @Test func bitSevenAtTheLastLevelIsNoSize() {
    var tables = Tables()
    tables.map(0x1000, to: 0x8000, levels: 4, flags: 0)
    tables.set(page: 4, 1, 0x8000 | Tables.large | Tables.present)
    #expect(tables.translate(0x1008) == .success(Mapping(physical: PhysicalAddress(0x8008), remaining: 0xff8)))
  }

  @Test(arguments: [
    (PageTableFormat.x86_64FourLevel, 0x0000_8000_0000_0000 as UInt64), (.x86_64FourLevel, 0xffff_7fff_ffff_ffff),
    (.x86_64FourLevel, 0xff11_0000_0000_0000), (.x86_64FiveLevel, 0x0100_0000_0000_0000),
    (.x86_64FiveLevel, 0xfeff_ffff_ffff_ffff), (.x86_64FiveLevel, 0x8000_0000_0000_0000),
  ])
  func rejectsNonCanonicalAddress(format: PageTableFormat, address: UInt64) {
    let fault = MemoryFault(.virtual(VirtualAddress(address)), .notCanonical)
    #expect(Tables().translate(address, format) == .failure(fault))
  }

  @Test(arguments: 1...5)
  func reportsLevelThatIsNotPresent(level: Int) {
    var tables = Tables()
    let address: UInt64 = 0xffff_ffff_8000_0000
    tables.map(address, to: 0x8000, levels: 5)
    // Swapped out: everything but the present bit may be set.
    let entry: UInt64 = 0xdead_beef_0000_0f7e
    tables.set(page: UInt64(6 - level), address >> UInt64(12 + 9 * (level - 1)) & 511, entry)
    let fault = MemoryFault(.virtual(VirtualAddress(address)), .notPresent(level: level, entry: entry))
    #expect(tables.translate(address, .x86_64FiveLevel) == .failure(fault))
  }

  @Test(arguments: [(PageTableFormat.x86_64FourLevel, 4), (.x86_64FiveLevel, 4), (.x86_64FiveLevel, 5)])
  func refusesPagesThatAreTooLarge(format: PageTableFormat, level: Int) {
    var tables = Tables()
    tables.map(0, to: 0, levels: format.levels, lastLevel: level, flags: 0)
    let fault = MemoryFault(
      .virtual(VirtualAddress(8)), .badEntry(level: level, entry: Tables.large | Tables.present))
    #expect(tables.translate(8, format) == .failure(fault))
  }

  @Test(arguments: [PhysicalAddress(16 << 12), PhysicalAddress(.max - 7), PhysicalAddress(.max)])
  func reportsRootOutsideTheMemory(root: PhysicalAddress) {
    let fault = MemoryFault(.virtual(VirtualAddress(0)), .badEntry(level: 4, entry: root.rawValue))
    #expect(Tables().translate(0, root: root) == .failure(fault))
  }

  @Test func reportsTableOutsideTheMemory() {
    var tables = Tables()
    tables.set(page: 1, 0, 0x000f_ffff_ffff_f000 | Tables.present)
    let fault = MemoryFault(.virtual(VirtualAddress(0)), .badEntry(level: 3, entry: 0x000f_ffff_ffff_f000))
    #expect(tables.translate(0) == .failure(fault))
  }

  /// A root whose every entry names the root again: the walk ends in the root as a page, after four steps.
  @Test(arguments: [PageTableFormat.x86_64FourLevel, .x86_64FiveLevel])
  func endsInTablesThatNameThemselves(format: PageTableFormat) throws {
    var tables = Tables()
    for index: UInt64 in 0..<512 { tables.set(page: 1, index, 0x1000 | Tables.present) }
    for address: UInt64 in [0, 0x1234_5678_9abc, .max] {
      let mapping = try tables.translate(address, format).get()
      #expect(mapping.physical == PhysicalAddress(0x1000 | address & 0xfff))
    }
    // Reading much through them yields the table again and again, no more than was asked for.
    let space = AddressSpace(memory: tables.memory, format: format, root: Tables.root)
    #expect(try space.read(VirtualAddress(0x5000), count: 3 << 12).count == 3 << 12)
  }

  @Test func walksManyAtOnce() {
    var tables = Tables()
    tables.map(0x1000, to: 0x8000, levels: 4)
    let results = tables.walker().translate([
      (VirtualAddress(0x2000), Tables.root), (VirtualAddress(0x1010), Tables.root),
      (VirtualAddress(1 << 60), Tables.root), (VirtualAddress(0x1010), PhysicalAddress(0x9000)),
    ])
    #expect(
      results == [
        .failure(MemoryFault(.virtual(VirtualAddress(0x2000)), .notPresent(level: 1, entry: 0))),
        .success(Mapping(physical: PhysicalAddress(0x8010), remaining: 0xff0)),
        .failure(MemoryFault(.virtual(VirtualAddress(1 << 60)), .notCanonical)),
        .failure(MemoryFault(.virtual(VirtualAddress(0x1010)), .notPresent(level: 4, entry: 0))),
      ])
    #expect(tables.walker().translate([]).isEmpty)
  }
}

struct AddressSpaceTests {
  /// Three pages mapped in another order than they lie in, and a hole after them; each byte tells its page.
  static var space: AddressSpace {
    var tables = Tables()
    for (index, page) in [0x22_0000 as UInt64, 0x20_0000, 0x21_0000].enumerated() {
      tables.map(0x40_0000 + UInt64(index) << 12, to: page, levels: 4)
      tables.add([UInt8](repeating: UInt8(page >> 16), count: 4096), at: page)
    }
    return AddressSpace(memory: tables.memory, format: .x86_64FourLevel, root: Tables.root)
  }

  @Test func readsAcrossPages() throws {
    let bytes = try Self.space.read(VirtualAddress(0x40_0ffe), count: 4100)
    #expect(bytes == [0x22, 0x22] + [UInt8](repeating: 0x20, count: 4096) + [0x21, 0x21])
    #expect(try Self.space.read(VirtualAddress(0x40_0000), count: 0) == [])
    #expect(try Self.space.translate(VirtualAddress(0x40_1004)) == PhysicalAddress(0x20_0004))
  }

  @Test func failsWhereOnePageIsMissing() {
    let fault = #expect(throws: MemoryFault.self) { try Self.space.read(VirtualAddress(0x40_2fff), count: 2) }
    #expect(fault == MemoryFault(.virtual(VirtualAddress(0x40_3000)), .notPresent(level: 1, entry: 0)))
    let wrapping = #expect(throws: MemoryFault.self) { try Self.space.read(VirtualAddress(.max), count: 2) }
    #expect(wrapping?.place == .virtual(VirtualAddress(.max)))
  }

  /// A page that the tables map to where there is no memory.
  @Test func reportsPagesOutsideTheMemory() {
    var tables = Tables()
    tables.map(0x1000, to: 0x000f_ffff_ffff_f000, levels: 4)
    let space = AddressSpace(memory: tables.memory, format: .x86_64FourLevel, root: Tables.root)
    let fault = #expect(throws: MemoryFault.self) { try space.read(VirtualAddress(0x1004), count: 4) }
    #expect(fault == MemoryFault(.physical(PhysicalAddress(0x000f_ffff_ffff_f004)), .absent))
  }

  @Test func mixesLinearAndWalkedReads() throws {
    let walked = Self.space
    let space = AddressSpace(
      memory: walked.memory, format: .x86_64FourLevel, root: walked.root,
      linearRanges: [
        .init(start: VirtualAddress(0xffff_8880_0000_0000), count: 0x21_0004, physical: PhysicalAddress(0)),
        .init(start: VirtualAddress(.max - 3), count: 4, physical: PhysicalAddress(0x22_0000)),
      ])
    var batch = ReadBatch<VirtualAddress>()
    let linear = batch.add(VirtualAddress(0xffff_8880_0021_0000), count: 4)
    let paged = batch.add(VirtualAddress(0x40_0fff), count: 2)
    let beyond = batch.add(VirtualAddress(0xffff_8880_0021_0000), count: 5)
    let absent = batch.add(VirtualAddress(0xffff_8880_0020_fff0), count: 4)
    let last = batch.add(VirtualAddress(.max - 1), count: 2)
    space.read(&batch)
    #expect(try batch.reader(linear).copy() == [0x21, 0x21, 0x21, 0x21])
    #expect(try batch.reader(paged).copy() == [0x22, 0x20])
    // Not wholly in the range, so the tables decide.
    #expect(throws: MemoryFault.self) { try batch.reader(beyond).count }
    #expect(throws: MemoryFault.self) { try batch.reader(absent).count }
    #expect(try batch.reader(last).copy() == [0x22, 0x22])
    // And a batch of linear reads alone.
    #expect(try space.read(VirtualAddress(0xffff_8880_0020_0000), count: 1) == [0x20])
  }

  @Test(arguments: [
    (0x1000 as UInt64, 1, 0x9000 as UInt64?), (0x1fff, 1, 0x9fff), (0x1fff, 2, nil), (0x2000, 1, nil), (0xfff, 1, nil),
    (0x1000, 0x1000, 0x9000), (0x1000, 0x1001, nil), (0x1000, .max, nil), (.max, 1, nil),
  ])
  func linearRangeHoldsWhatLiesWhollyInIt(address: UInt64, count: Int, expected: UInt64?) {
    let range = AddressSpace.LinearRange(
      start: VirtualAddress(0x1000), count: 0x1000, physical: PhysicalAddress(0x9000))
    #expect(range.translate(VirtualAddress(address), count: count) == expected.map { PhysicalAddress($0) })
  }

  /// A range made of hostile numbers wraps, and is absent where it leads nowhere.
  @Test func linearRangesWrap() {
    let space = AddressSpace(
      memory: Tables().memory, format: .x86_64FourLevel, root: Tables.root,
      linearRanges: [.init(start: VirtualAddress(.max - 7), count: .max, physical: PhysicalAddress(.max - 7))])
    #expect(throws: MemoryFault.self) { try space.read(VirtualAddress(.max - 7), count: 8) }
    #expect((try? space.read(VirtualAddress(0), count: 8)) == [UInt8](repeating: 0, count: 8))
  }

  /// More than a batch may hold is refused as it is without translation.
  @Test func refusesHugeReads() {
    let fault = #expect(throws: MemoryFault.self) { try Self.space.read(VirtualAddress(0x40_0000), count: 1 << 40) }
    #expect(
      fault == MemoryFault(.virtual(VirtualAddress(0x40_0000)), .tooLarge(size: 1 << 40, room: 1 << 29)))
    var batch = ReadBatch<MemoryLocation>()
    batch.add(.virtual(VirtualAddress(8), root: Tables.root), count: .max)
    Self.space.walker.read(&batch)
    #expect(batch.faults[0]?.place == .virtual(VirtualAddress(8)))
  }
}
