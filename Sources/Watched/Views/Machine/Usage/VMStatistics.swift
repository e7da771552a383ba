import Binding
import KernelInfo
public import LinuxKernel
public import Memory

/// A zone of a NUMA node's memory, as in /proc/zoneinfo. All numbers are pages of 4 KiB.
public struct MemoryZone: Sendable {
  public var node: Int
  public var name: [UInt8]
  public var free: UInt64
  /// The marks below which the kernel reclaims, boost included as it applies them.
  public var minimum: UInt64
  public var low: UInt64
  public var high: UInt64
  public var spanned: UInt64
  public var present: UInt64
  public var managed: UInt64
  /// The first page's frame number.
  public var start: UInt64
  /// The zone's own counters, by the names of /proc/zoneinfo.
  public var counters: [(name: String, value: UInt64)]
}

/// The counters of the kernel's memory management, and its zones.
public struct VMStatistics: Faulted {
  /// In the order of /proc/vmstat and by its names, without those few that it works out when asked, such as
  /// `nr_dirty_threshold`.
  public var counters: [(name: String, value: UInt64)] = []
  public var zones: [MemoryZone] = []
  public var faults: [MemoryFault] = []

  /// The counter of this name.
  public subscript(name: String) -> UInt64? { counters.first { $0.name == name }?.value }
}

extension Kernel {
  /// The counters of memory management.
  ///
  /// Cost: about six round trips where the memory is remote.
  public func vmStatistics() throws(KernelError) -> VMStatistics {
    let cpus = try cpus()
    return try read(with: VMStatisticsReader.self) { reader in try reader.read(cpus: cpus, in: addressSpace) }
  }
}
