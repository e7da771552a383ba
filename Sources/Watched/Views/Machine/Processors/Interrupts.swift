import Binding
public import LinuxKernel
public import Memory

/// A line of /proc/interrupts.
public struct InterruptLine: Sendable {
  /// The number of an interrupt, or a short name such as `LOC`.
  public var name: String
  /// How often it came, by ``InterruptTable/cpus``.
  public var counts: [UInt64]
  /// The controller and its own number for the interrupt; empty for those of the CPUs themselves.
  public var chip: [UInt8] = []
  public var hardwareNumber: UInt64?
  /// How it is triggered, as the controller's driver calls it.
  public var flow: [UInt8] = []
  /// Who handles it, or what it is.
  public var actions: [[UInt8]] = []
  /// The addresses of the handlers.
  public var handlers: [VirtualAddress] = []
}

/// The interrupts of a host.
public struct InterruptTable: Faulted {
  /// The CPUs that are online.
  public var cpus: [Int] = []
  public var lines: [InterruptLine] = []
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// The interrupts. Cost: about ten round trips where the memory is remote.
  public func interrupts() throws(KernelError) -> InterruptTable {
    let cpus = try cpus().filter(\.isOnline)
    return try read(with: InterruptReader.self) { reader in try reader.read(cpus, in: addressSpace) }
  }
}
