import Memory
import Testing

@testable import LinuxKernel

struct PageMapTests {
  /// What a page says of the first one that it belongs to: its address, or what makes that of the page's own.
  @Test(
    arguments: [
      // The lowest bit is clear: whatever lies there, the page is the first itself.
      (0xffff_ea00_0004_0000, 0xdead_4ead_0000_0000, 0xffff_ea00_0004_0000),
      // An address, with four and with five levels.
      (0xffff_ea00_0004_0080, 0xffff_ea00_0004_0001, 0xffff_ea00_0004_0000),
      (0xffd4_0000_0004_0080, 0xffd4_0000_0004_0001, 0xffd4_0000_0004_0000),
      // The masks for two pages, and for the 2^18 of 1 GiB, of 64 bytes each.
      (0xffff_ea00_0004_00c0, 0xffff_ffff_ffff_ff81, 0xffff_ea00_0004_0080),
      (0xffff_ea00_01ff_ffc0, 0xffff_ffff_ff00_0001, 0xffff_ea00_0100_0000),
    ] as [(UInt64, UInt64, UInt64)])
  func headsOfCompounds(page: UInt64, compound: UInt64, head: UInt64) {
    #expect(PageMap.head(of: VirtualAddress(page), compound: compound) == VirtualAddress(head))
  }
}
