import KernelInfo
import LinuxKernel
import MachineViews
import Memory
import Paging

/// The lines of /proc/vmstat: those of the view, and what the kernel works out when it is asked.
///
/// Source: mm/vmstat.c, `vmstat_start`; mm/page-writeback.c, `global_dirty_limits`.
enum VMStatFile {
  static func bytes(_ kernel: Kernel) throws -> [UInt8] {
    let statistics = try kernel.vmStatistics().whole()
    var text = ProcText()
    for counter in statistics.counters {
      // The first event comes behind the limits.
      if counter.name == "pgpgin" { try addLimits(statistics, kernel, &text) }
      text.line("\(counter.name) \(counter.value / MemoryCounters.divisor(of: counter.name))")
    }
    // A counter that is no more.
    text.line("nr_unstable 0")
    return text.bytes
  }

  private static func addLimits(_ statistics: VMStatistics, _ kernel: Kernel, _ text: inout ProcText) throws {
    let symbols = kernel.symbols
    func word(_ name: String) throws -> UInt64 {
      symbols.address(of: name) == nil ? 0 : try kernel.words(name, 1)[0]
    }
    func counter(_ name: String) -> UInt64 { statistics[name] ?? 0 }
    let free = counter("nr_free_pages")
    let pages =
      free &- min(free, try word("totalreserve_pages")) &+ counter("nr_inactive_file")
      &+ counter("nr_active_file") &+ 1
    /// In pages: a limit in bytes, or a part of the memory that may get dirty in 4096 parts.
    func limit(_ bytes: UInt64, _ ratio: UInt32) -> UInt64 {
      bytes != 0 ? bytes / 4096 &+ (bytes % 4096 == 0 ? 0 : 1) : UInt64(ratio) * 4096 / 100 &* pages / 4096
    }
    let dirty = min(limit(try word("vm_dirty_bytes"), try kernel.number("vm_dirty_ratio")), UInt64(UInt32.max))
    var background = limit(try word("dirty_background_bytes"), try kernel.number("dirty_background_ratio"))
    if background >= dirty { background = dirty / 2 }
    text.line("nr_dirty_threshold \(dirty)\nnr_dirty_background_threshold \(background)")
    // From 6.11 on; counters of pages like the others before they came there.
    for name in ["nr_memmap_pages", "nr_memmap_boot_pages"] where symbols.address(of: name) != nil {
      text.line("\(name) \(try word(name))")
    }
  }
}
