import CRecords

/// The main lines of /proc/meminfo, in its order: what `monitors/memory.c` gives.
public struct MemoryUsage: MonitorRecords {
  public let lines: [(name: String, bytes: UInt64)]
  public static let monitor = "memory"

  public subscript(name: String) -> UInt64? { lines.first { $0.name == name }?.bytes }

  public init?(_ result: MonitorResult) {
    guard let records = result.records(of: GRASS_MEMORY_USAGE, as: grass_memory_usage.self), let memory = records.first,
      records.count == 1
    else { return nil }
    lines = [
      ("MemTotal", memory.total), ("MemFree", memory.free), ("MemAvailable", memory.available),
      ("Buffers", memory.buffers), ("Cached", memory.cached), ("SwapCached", memory.swap_cached),
      ("Active", memory.active), ("Inactive", memory.inactive), ("Active(anon)", memory.active_anon),
      ("Inactive(anon)", memory.inactive_anon), ("Active(file)", memory.active_file),
      ("Inactive(file)", memory.inactive_file), ("Unevictable", memory.unevictable), ("Mlocked", memory.mlocked),
      ("SwapTotal", memory.swap_total), ("SwapFree", memory.swap_free), ("Dirty", memory.dirty),
      ("Writeback", memory.writeback), ("AnonPages", memory.anon), ("Mapped", memory.mapped), ("Shmem", memory.shmem),
      ("KReclaimable", memory.kernel_reclaimable), ("Slab", memory.slab), ("SReclaimable", memory.slab_reclaimable),
      ("SUnreclaim", memory.slab_unreclaimable), ("KernelStack", memory.kernel_stack),
      ("PageTables", memory.page_tables),
    ]
  }
}
