import CLayouts
public import Memory

/// How an architecture's page tables are laid out, as data: one walker serves them all.
///
/// What a format means stands in `grass_paging.h`, by which devices walk as well.
public struct PageTableFormat: Hashable, Sendable {
  /// The number that names the format in requests: `enum grass_page_format`.
  public let number: UInt32
  let layout: grass_page_layout
  /// The levels of tables, the root included.
  public let levels: Int
  /// Address bits within the smallest page.
  public let pageBits: Int

  private init(_ format: grass_page_format) {
    number = format.rawValue
    layout = grass_page_layout_of(number)
    levels = Int(layout.levels)
    pageBits = Int(layout.page_bits)
  }

  /// Four levels, 48 bits of virtual address: every x86-64 processor.
  public static let x86_64FourLevel = PageTableFormat(GRASS_PAGES_X86_64_4)
  /// Five levels, 57 bits of virtual address: x86-64 with LA57.
  public static let x86_64FiveLevel = PageTableFormat(GRASS_PAGES_X86_64_5)

  /// Formats of arm64, by the size of the smallest page and the bits of virtual address in each half.
  ///
  /// The lower half, a process's, and the upper one, the kernel's, have a root each.
  public static let arm64 = ARM64()

  public struct ARM64: Sendable {
    /// Pages of 4 KiB.
    public let size4K39Bits = PageTableFormat(GRASS_PAGES_ARM64_4K_39)
    public let size4K48Bits = PageTableFormat(GRASS_PAGES_ARM64_4K_48)
    public let size4K52Bits = PageTableFormat(GRASS_PAGES_ARM64_4K_52)
    /// Pages of 16 KiB.
    public let size16K36Bits = PageTableFormat(GRASS_PAGES_ARM64_16K_36)
    public let size16K47Bits = PageTableFormat(GRASS_PAGES_ARM64_16K_47)
    public let size16K48Bits = PageTableFormat(GRASS_PAGES_ARM64_16K_48)
    public let size16K52Bits = PageTableFormat(GRASS_PAGES_ARM64_16K_52)
    /// Pages of 64 KiB.
    public let size64K42Bits = PageTableFormat(GRASS_PAGES_ARM64_64K_42)
    public let size64K48Bits = PageTableFormat(GRASS_PAGES_ARM64_64K_48)
    public let size64K52Bits = PageTableFormat(GRASS_PAGES_ARM64_64K_52)
  }

  public static func == (left: Self, right: Self) -> Bool { left.number == right.number }
  public func hash(into hasher: inout Hasher) { hasher.combine(number) }

  /// Bits of virtual address that one root translates.
  public var virtualBits: Int { Int(grass_page_virtual_bits(layout)) }
  /// Bytes in the smallest page.
  public var pageSize: Int { 1 << pageBits }

  /// Whether the bits above the translated ones all equal the highest translated one; with two roots, each other.
  public func isCanonical(_ address: VirtualAddress) -> Bool { grass_page_is_canonical(layout, address.rawValue) }

  /// Whether `address` is translated by the second root, where the format has two.
  public func isUpper(_ address: VirtualAddress) -> Bool { grass_page_is_upper(layout, address.rawValue) }

  /// The index, within a table of `level`, of the entry for `address`; level 1 holds pages, the highest is the root.
  public func index(of address: VirtualAddress, level: Int) -> Int {
    Int(grass_page_index(layout, address.rawValue, UInt32(level)))
  }

  /// Bytes that a page of `level` has, or that a table's entry of `level` covers.
  public func coverage(level: Int) -> UInt64 { 1 << UInt64(grass_page_shift(layout, UInt32(level))) }

  /// Where the entry for `address` lies in the table at `table`.
  ///
  /// An entry lies at a multiple of its size: low bits of a root do not count.
  func place(of address: VirtualAddress, in table: PhysicalAddress, level: Int) -> PhysicalAddress {
    PhysicalAddress(grass_page_entry_place(layout, table.rawValue, address.rawValue, UInt32(level)))
  }

  /// What an entry of a page table says.
  public enum Entry: Hashable, Sendable {
    case notPresent
    /// It has bits that its level does not allow.
    case impossible
    case table(PhysicalAddress)
    /// A page, of ``coverage(level:)`` bytes.
    case page(PhysicalAddress)
  }

  /// Judges an entry of a table of `level`.
  public func entry(_ value: UInt64, level: Int) -> Entry {
    let kind = grass_page_entry_kind(layout, value, UInt32(level))
    switch kind {
    case GRASS_PAGE_TABLE, GRASS_PAGE_PAGE:
      let target = PhysicalAddress(grass_page_entry_target(layout, value, UInt32(level), kind))
      return kind == GRASS_PAGE_TABLE ? .table(target) : .page(target)
    case GRASS_PAGE_NOT_PRESENT: return .notPresent
    default: return .impossible
    }
  }
}
