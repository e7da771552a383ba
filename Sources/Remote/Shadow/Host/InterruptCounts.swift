import KernelInfo
import LinuxKernel
import MachineViews
import Memory

/// How often each interrupt came, by number: the line `intr` of /proc/stat.
enum InterruptCounts {
  static func read(_ kernel: Kernel) throws -> [UInt64] {
    let name = kernel.symbols.address(of: "total_nr_irqs") == nil ? "nr_irqs" : "total_nr_irqs"
    // NR_IRQS is 64 Ki and some at most.
    var counts = [UInt64](repeating: 0, count: min(Int(try kernel.number(name)), 1 << 17))
    for line in try kernel.interrupts().whole().lines {
      guard let number = Int(line.name), counts.indices.contains(number) else { continue }
      counts[number] = line.counts.reduce(0, &+) & 0xffff_ffff
    }
    return counts
  }
}
