import Binding
package import KernelInfo
package import Memory
package import Paging

/// The memory map: the array of `struct page`, one for each page frame, and so the way from a description to its page.
///
/// Source: include/asm-generic/memory_model.h, `__page_to_pfn` with CONFIG_SPARSEMEM_VMEMMAP.
package struct PageMap: KernelReader {
  package static let subject = "the memory map"

  private let base: VirtualAddress?
  /// Where the array starts in a kernel without KASLR.
  package let defaultBase: VirtualAddress
  package let pageSize: Int
  /// What each page but the first of those that belong together has to say of the first.
  package let compound: FieldLayout

  package init(kernel: Kernel) throws {
    base = kernel.symbols.address(of: "vmemmap_base")
    // Without KASLR the memory map starts where Documentation/arch/x86/x86_64/mm.rst says.
    defaultBase = VirtualAddress(kernel.found.pagingLevels == 5 ? 0xffd4_0000_0000_0000 : 0xffff_ea00_0000_0000)
    let page = try kernel.types.structure("page")
    pageSize = page.size
    compound = try page.field("compound_head", or: "compound_info")
    guard pageSize > 0 else { throw KernelError(Self.subject, .inconsistent("struct page has no size")) }
  }

  /// Where the array starts.
  ///
  /// Cost: a read.
  package func start(in space: AddressSpace) throws(MemoryFault) -> VirtualAddress {
    guard let base else { return defaultBase }
    let bytes = try space.read(base, count: 8)
    return try ByteReader(bytes.span.bytes).pointer(0)
  }

  /// The first of the pages that `page` belongs to, itself where it belongs to no others.
  ///
  /// The lowest bit says that it is not the first; the rest is the first one's address or, from 7.1 on where descriptions
  /// have a power of two in size, the mask that makes it of the page's own address. Such masks have at least their upper
  /// half set, and no address of the memory map has.
  /// Source: include/linux/page-flags.h, `_compound_head`.
  ///
  /// `compound` is what the field ``compound`` of the page holds.
  package static func head(of page: VirtualAddress, compound: UInt64) -> VirtualAddress {
    guard compound & 1 == 1 else { return page }
    return VirtualAddress(compound >> 32 == 0xffff_ffff ? page.rawValue & (compound - 1) : compound - 1)
  }

  /// The page that `page` describes, where the array starts at `start`; nil where it points between two descriptions.
  package func physicalAddress(ofPage page: VirtualAddress, start: VirtualAddress) -> PhysicalAddress? {
    guard page >= start else { return nil }
    let (frame, rest) = page.distance(from: start).quotientAndRemainder(dividingBy: UInt64(pageSize))
    // Physical addresses have 52 bits at most.
    return rest == 0 && frame < 1 << 40 ? PhysicalAddress(frame << 12) : nil
  }
}
