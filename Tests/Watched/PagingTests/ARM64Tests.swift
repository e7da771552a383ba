import Memory
import Samples
import Testing

@testable import Paging

/// Page tables as an arm64 kernel makes them: two roots, granules of three sizes, entries whose type depends on the level.
///
/// Source: Arm ARM D8.3; the kernel's arch/arm64/include/asm/pgtable-hwdef.h.
struct ARM64Tests {
  /// Of a table and of a page: in use, and bit 1.
  ///
  /// A block has that clear.
  static let table: UInt64 = 3
  static let page: UInt64 = 3
  static let block: UInt64 = 1
  /// Bits that say nothing of the address: UXN, PXN, contiguous, dirty; AF, inner shareable, an index of attributes.
  ///
  /// Of addresses of 52 bits with small granules, those of shareability are the highest.
  static func flags(_ format: PageTableFormat) -> UInt64 {
    [.arm64.size4K52Bits, .arm64.size16K52Bits].contains(format) ? 0x00f8_0000_0000_0404 : 0x00f8_0000_0000_0704
  }

  static let userRoot = PhysicalAddress(0x4000_0000)
  static let kernelRoot = PhysicalAddress(0x4100_0000)

  /// A memory in which the tables of each root follow it, 64 KiB apart.
  struct Tables {
    var memory = SyntheticMemory([])
    var pages: Set<UInt64> = []

    mutating func set(_ table: PhysicalAddress, _ index: Int, _ entry: UInt64) {
      let page = table.rawValue & ~0xffff
      if pages.insert(page).inserted { memory.add([UInt8](repeating: 0, count: 1 << 16), at: PhysicalAddress(page)) }
      memory.write(bytes(entry), at: table + index * 8)
    }

    /// Maps the page of `level` that holds `address`.
    mutating func map(
      _ address: VirtualAddress, to entry: UInt64, _ format: PageTableFormat, root: PhysicalAddress, level last: Int = 1
    ) {
      for level in stride(from: format.levels, through: last, by: -1) {
        let table = root + (format.levels - level) << 16
        let next = (table + 1 << 16).rawValue | ARM64Tests.table
        set(table, format.index(of: address, level: level), level == last ? entry : next)
      }
    }
  }

  /// A format, an address of each half, and the levels at which blocks may stand with their bits.
  static let shapes: [(PageTableFormat, user: UInt64, kernel: UInt64, levels: Int, blocks: [(Int, Int)])] = [
    (.arm64.size4K39Bits, 0x7f_ffff_f000, 0xffff_ff80_0800_0000, 3, [(2, 21), (3, 30)]),
    (.arm64.size4K48Bits, 0xaaaa_d0f0_1000, 0xffff_8000_0800_0000, 4, [(2, 21), (3, 30)]),
    (.arm64.size4K52Bits, 0xf_aaaa_d0f0_1000, 0xfff0_8000_0800_0000, 5, [(2, 21), (3, 30), (4, 39)]),
    (.arm64.size16K36Bits, 0xf_ffff_c000, 0xffff_fff0_0800_0000, 2, [(2, 25)]),
    (.arm64.size16K47Bits, 0x7fff_ffff_c000, 0xffff_8000_0800_0000, 3, [(2, 25)]),
    (.arm64.size16K48Bits, 0xaaaa_d0f0_0000, 0xffff_8000_0800_0000, 4, [(2, 25)]),
    (.arm64.size16K52Bits, 0xf_aaaa_d0f0_0000, 0xfff0_8000_0800_0000, 4, [(2, 25), (3, 36)]),
    (.arm64.size64K42Bits, 0x3ff_ffff_0000, 0xffff_fc00_0800_0000, 2, [(2, 29)]),
    (.arm64.size64K48Bits, 0xaaaa_d0f0_0000, 0xffff_8000_0800_0000, 3, [(2, 29)]),
    (.arm64.size64K52Bits, 0xf_aaaa_d0f0_0000, 0xfff0_8000_0800_0000, 3, [(2, 29), (3, 42)]),
  ]

  @Test(arguments: shapes)
  func walksEachHalfFromItsRoot(
    format: PageTableFormat, user: UInt64, kernel: UInt64, levels: Int, blocks: [(Int, Int)]
  ) throws {
    #expect(format.levels == levels)
    var tables = Tables()
    tables.map(VirtualAddress(user), to: 0x8_0000_0000 | Self.flags(format) | Self.page, format, root: Self.userRoot)
    tables.map(
      VirtualAddress(kernel), to: 0x9_0000_0000 | Self.flags(format) | Self.page, format, root: Self.kernelRoot)
    let space = AddressSpace(
      memory: tables.memory, format: format, root: Self.userRoot, upperRoot: Self.kernelRoot)
    #expect(try space.translate(VirtualAddress(user) + 0x123) == PhysicalAddress(0x8_0000_0123))
    #expect(try space.translate(VirtualAddress(kernel) + 0x123) == PhysicalAddress(0x9_0000_0123))
    // What is in the one half is not in the other.
    let fault = #expect(throws: MemoryFault.self) {
      try space.walker.translate([(VirtualAddress(kernel), Self.userRoot)])[0].get()
    }
    #expect(fault?.place == .virtual(VirtualAddress(kernel)))
    // All bits above the translated ones are the same.
    for wrong in [user | 1 << 63, kernel & ~(1 << 63), user | 1 << UInt64(format.virtualBits)] {
      let fault = #expect(throws: MemoryFault.self) { try space.translate(VirtualAddress(wrong)) }
      #expect(fault?.reason == .notCanonical)
    }
  }

  @Test(arguments: shapes)
  func walksBlocks(
    format: PageTableFormat, user: UInt64, kernel: UInt64, levels: Int, blocks: [(Int, Int)]
  ) {
    for level in 2...max(2, levels) {
      var tables = Tables()
      tables.map(
        VirtualAddress(kernel), to: Self.flags(format) | Self.block, format, root: Self.kernelRoot, level: level)
      let result = PageWalker(memory: tables.memory, format: format)
        .translate([(VirtualAddress(kernel), Self.kernelRoot)])[0]
      if let bits = blocks.first(where: { $0.0 == level })?.1 {
        let offset = kernel & (1 << UInt64(bits) - 1)
        #expect(
          result == .success(.init(physical: PhysicalAddress(offset), remaining: 1 << bits - Int(offset))))
      } else {
        #expect(
          throws: MemoryFault(.virtual(VirtualAddress(kernel)), .badEntry(level: level, entry: Self.flags(format) | 1))
        ) {
          try result.get()
        }
      }
    }
  }

  /// At the last level an entry without bit 1 is reserved, and without bit 0 not in use.
  @Test func knowsTheTypeByTheLevel() {
    let format = PageTableFormat.arm64.size4K48Bits
    #expect(format.entry(0x8000_0001, level: 1) == .impossible)
    #expect(format.entry(0x8000_0003, level: 1) == .page(PhysicalAddress(0x8000_0000)))
    #expect(format.entry(0x8000_0002, level: 1) == .notPresent)
    #expect(format.entry(0x8000_0003, level: 2) == .table(PhysicalAddress(0x8000_0000)))
    #expect(format.entry(0x8000_0001, level: 4) == .impossible)
  }

  /// Addresses of 52 bits have their highest bits elsewhere in an entry.
  @Test(arguments: [
    (PageTableFormat.arm64.size4K52Bits, 0x0001_2345_6789_a303 as UInt64, 0x000d_2345_6789_a000 as UInt64),
    (.arm64.size16K52Bits, 0x0001_2345_6789_8203, 0x0009_2345_6789_8000),
    (.arm64.size64K48Bits, 0x0000_2345_6789_a003, 0x000a_2345_6789_0000),
  ])
  func findsTheHighestBits(format: PageTableFormat, entry: UInt64, address: UInt64) {
    #expect(format.entry(entry, level: 1) == .page(PhysicalAddress(address)))
  }
}
