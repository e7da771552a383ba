import KernelInfo
public import LinuxKernel
import MachineViews
import Memory
import Paging

extension KernelFacts {
  /// What an image says of a kernel that was found.
  ///
  /// Cost: some round trips, for VMCOREINFO and for registers that CPUs saved.
  public init(_ kernel: Kernel) {
    // The banner ends with what uname -v prints.
    let version = kernel.found.banner.firstIndex(of: "#").map { String(kernel.found.banner[$0...].prefix(200)) } ?? ""
    self.init(
      coreInfo: kernel.coreInfo().map { Array($0.text.utf8) } ?? [], release: kernel.release, version: version,
      directMap: kernel.addressSpace.linearRanges.first { $0.physical.rawValue == 0 }?.start ?? VirtualAddress(0),
      physicalBase: kernel.found.physicalBase, registers: kernel.savedRegisters())
  }
}

extension Acquisition {
  /// What tells a boot of a kernel from others, its build and where it lies: an image that was begun is gone on with only where it is the same.
  public static func identity(of kernel: Kernel?) -> String {
    kernel.map { "Linux \($0.release) \($0.found.buildID ?? "") at \($0.found.rootPageTable)" } ?? "no kernel"
  }
}
