import Memory
public import Region

/// The main lines of /proc/meminfo, in its order: what `monitors/memory.c` gives.
public struct MemoryUsage: ModuleView {
  public let lines: [(name: String, bytes: UInt64)]
  public static let module = "memory"

  public subscript(name: String) -> UInt64? { lines.first { $0.name == name }?.bytes }

  private static let names = [
    "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "Active", "Inactive", "Active(anon)",
    "Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal", "SwapFree", "Dirty",
    "Writeback", "AnonPages", "Mapped", "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack",
    "PageTables",
  ]

  public init?(_ result: MonitorResult) {
    let records = Self.records(result, kind: 1, size: Self.names.count * 8) { reader throws(MemoryFault) in
      var values: [UInt64] = []
      for index in Self.names.indices { values.append(try reader.u64(index * 8)) }
      return values
    }
    guard let values = records?.first, records?.count == 1 else { return nil }
    lines = zip(Self.names, values).map { (name: $0, bytes: $1) }
  }
}
