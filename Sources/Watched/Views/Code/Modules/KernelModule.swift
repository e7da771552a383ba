public import LinuxKernel
public import Memory

/// A loaded module.
public struct KernelModule: Sendable {
  public enum State: String, Sendable, CaseIterable {
    case live = "Live"
    case coming = "Loading"
    case going = "Unloading"
    /// Its parts are being put in place.
    case unformed = "Unformed"
  }

  public let name: [UInt8]
  /// Where its `struct module` lies.
  public let address: VirtualAddress
  public let state: State?
  /// Bytes of memory that it takes, as /proc/modules counts them.
  public let size: UInt64
  /// How many users hold it, modules counted.
  public let references: Int
  /// The names of the modules that use it.
  public internal(set) var usedBy: [[UInt8]]
  /// Where its code starts, and how many bytes it has.
  public let text: VirtualAddress
  public let textSize: UInt64
  /// The bits of its taint (`TAINT_OUT_OF_TREE_MODULE` is bit 12).
  public let taints: UInt64

  /// A letter for each bit of its taint, as /proc/modules has them.
  ///
  /// Source: Documentation/admin-guide/tainted-kernels.rst, kernel/panic.c, `taint_flags`.
  public var taintLetters: String {
    let letters = "PFSRMBUDAWCIOELKXTNJ".enumerated().filter { taints >> UInt64($0.offset) & 1 != 0 }
    return String(letters.map(\.element))
  }
}

/// The modules of a kernel, in the order of its list: the newest first.
public struct ModuleTable: Faulted {
  public internal(set) var modules: [KernelModule] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
