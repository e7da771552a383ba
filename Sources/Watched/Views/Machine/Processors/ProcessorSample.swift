import Binding
public import LinuxKernel
public import Memory

/// What one CPU did since the boot, and what waits for it.
public struct ProcessorState: Sendable {
  public var number: Int
  /// Nanoseconds by kind, in the order of ``ProcessorSample/kinds``.
  public var times: [UInt64]
  /// Tasks that run or want to.
  public var running: UInt64
  public var contextSwitches: UInt64
  /// The thread on the CPU.
  public var currentTID: Int32
  public var currentName: [UInt8]
}

/// All CPUs at one moment. Two of them tell what the CPUs did between.
public struct ProcessorSample: Faulted {
  /// The kinds of time that are work, as /proc/stat orders them; the rest of the uptime is idle.
  public static let kinds = ["user", "nice", "system", "irq", "softirq", "steal"]
  /// Nanoseconds from the boot to the kernel's last tick.
  public var uptime: UInt64
  public var cpus: [ProcessorState] = []
  public var faults: [MemoryFault] = []
}

extension Kernel {
  /// What the CPUs did since the boot. Cost: four round trips where the memory is remote.
  public func processors() throws(KernelError) -> ProcessorSample {
    let cpus = try cpus().filter(\.isOnline)
    return try read(with: ProcessorReader.self) { reader in try reader.read(cpus, in: addressSpace) }
  }
}
