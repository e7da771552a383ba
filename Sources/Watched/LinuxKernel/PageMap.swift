import Binding
import KernelInfo
package import Memory
package import Paging

/// The memory map: the array of `struct page`, one for each page frame, and so the way from a description to its page.
///
/// Source: include/asm-generic/memory_model.h, `__page_to_pfn` with CONFIG_SPARSEMEM_VMEMMAP.
package struct PageMap: KernelReader {
  package static let subject = "the memory map"

  private let base: VirtualAddress?
  private let defaultBase: VirtualAddress
  package let pageSize: Int

  package init(kernel: Kernel) throws {
    base = kernel.symbols.address(of: "vmemmap_base")
    // Without KASLR the memory map starts where Documentation/arch/x86/x86_64/mm.rst says.
    defaultBase = VirtualAddress(kernel.found.pagingLevels == 5 ? 0xffd4_0000_0000_0000 : 0xffff_ea00_0000_0000)
    pageSize = try kernel.types.structure("page").size
    guard pageSize > 0 else { throw KernelError(Self.subject, .inconsistent("struct page has no size")) }
  }

  /// Where the array starts. Cost: a read.
  package func start(in space: AddressSpace) throws(MemoryFault) -> VirtualAddress {
    guard let base else { return defaultBase }
    let bytes = try space.read(base, count: 8)
    return try ByteReader(bytes.span.bytes).pointer(0)
  }

  /// The page that `page` describes, where the array starts at `start`; nil where it points between two descriptions.
  package func physicalAddress(ofPage page: VirtualAddress, start: VirtualAddress) -> PhysicalAddress? {
    guard page >= start else { return nil }
    let (frame, rest) = page.distance(from: start).quotientAndRemainder(dividingBy: UInt64(pageSize))
    // Physical addresses have 52 bits at most.
    return rest == 0 && frame < 1 << 40 ? PhysicalAddress(frame << 12) : nil
  }
}
