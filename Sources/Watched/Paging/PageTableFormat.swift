public import Memory

/// How an architecture's page tables are laid out, as data: one walker serves them all.
public struct PageTableFormat: Hashable, Sendable {
  /// The levels of tables, the root included.
  public let levels: Int
  /// Address bits that select an entry in a table of any level.
  public let indexBits: Int
  /// Address bits within the smallest page.
  public let pageBits: Int
  /// The bits of an entry that hold a physical address.
  public let addressMask: UInt64
  /// The bit of an entry that says that it is in use.
  public let presentMask: UInt64
  /// The bit of an entry above level 1 that says that it maps a large page instead of naming a table.
  public let largePageMask: UInt64
  /// The highest level at which a large page may stand.
  public let largestPageLevel: Int

  /// Four levels, 48 bits of virtual address: every x86-64 processor.
  ///
  /// Source: Intel SDM volume 3, 4.5; the kernel's arch/x86/include/asm/pgtable_types.h.
  public static let x86_64FourLevel = PageTableFormat(
    levels: 4, indexBits: 9, pageBits: 12, addressMask: 0x000f_ffff_ffff_f000, presentMask: 1, largePageMask: 1 << 7,
    largestPageLevel: 3)

  /// Five levels, 57 bits of virtual address: x86-64 with LA57.
  public static let x86_64FiveLevel = PageTableFormat(
    levels: 5, indexBits: 9, pageBits: 12, addressMask: 0x000f_ffff_ffff_f000, presentMask: 1, largePageMask: 1 << 7,
    largestPageLevel: 3)

  /// Bits of virtual address that are translated.
  public var virtualBits: Int { levels * indexBits + pageBits }
  /// Bytes in the smallest page.
  public var pageSize: Int { 1 << pageBits }

  /// Whether the bits above the translated ones all equal the highest translated one.
  @inlinable
  public func isCanonical(_ address: VirtualAddress) -> Bool {
    let shift = 64 - virtualBits
    return UInt64(bitPattern: Int64(bitPattern: address.rawValue << shift) >> shift) == address.rawValue
  }

  /// The number of low address bits that a table of `level` leaves untranslated.
  @inlinable
  func shift(level: Int) -> Int { pageBits + (level - 1) * indexBits }

  /// The offset in bytes, within a table of `level`, of the entry for `address`.
  @inlinable
  func entryOffset(of address: VirtualAddress, level: Int) -> Int {
    Int(address.rawValue >> UInt64(shift(level: level))) & ((1 << indexBits) - 1) &* 8
  }
}
