import Binding
public import LinuxKernel
import Memory

/// How much work waited for a resource: what /proc/pressure shows.
public struct Pressure: Sendable {
  public enum Resource: String, Sendable, CaseIterable {
    case cpu, memory, io, irq
  }

  /// The share of time in which tasks waited.
  public struct Stall: Sendable {
    /// Percent of the last 10, 60 and 300 seconds, as of the kernel's last update, which it makes every two seconds
    /// while there is work.
    public var averages: [Double]
    /// Microseconds since boot.
    public var total: UInt64
  }

  public var resource: Resource
  /// Some task waited; nil where the kernel does not say, as of interrupts.
  public var some: Stall?
  /// No task could go on. Of the CPUs the kernel counts it, too, but prints zero in /proc/pressure.
  public var full: Stall?
}

extension Kernel {
  /// The pressure of the host as a whole, by resource.
  ///
  /// - Throws: ``KernelError`` also where the kernel was built or booted without pressure information.
  ///
  /// Cost: one round trip where the memory is remote.
  public func pressure() throws(KernelError) -> [Pressure] {
    let reader = try reader(PressureReader.self)
    return try KernelError.reading(subject(of: PressureReader.self)) { try reader.read(in: addressSpace) }
  }
}
