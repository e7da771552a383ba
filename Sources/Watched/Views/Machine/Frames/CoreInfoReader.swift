import Binding
public import KernelInfo
public import LinuxKernel
import Memory
import Paging

extension Kernel {
  /// The kernel's VMCOREINFO note: the one that it was found by, else the one that its own pointer leads to.
  ///
  /// Kernels before 6.0 do not say in it where their symbols lie, and so are found another way. Nil where there is none, or
  /// another kernel's. Cost: none, or three round trips. Source: kernel/vmcore_info.c, `vmcoreinfo_note`.
  public func coreInfo() -> VMCoreInfo? {
    if let known = found.coreInfo { return known }
    guard let symbol = symbols.address(of: "vmcoreinfo_note") else { return nil }
    do throws(MemoryFault) {
      let place = try addressSpace.pointer(at: symbol)
      let header = try addressSpace.read(place, count: CoreInfoNote.headerSize)
      guard let count = CoreInfoNote.textLength(ByteReader(header.span.bytes), 0) else { return nil }
      let note = VMCoreInfo(text: try addressSpace.read(place + CoreInfoNote.headerSize, count: count))
      return note.release == release ? note : nil
    } catch {
      return nil
    }
  }
}
