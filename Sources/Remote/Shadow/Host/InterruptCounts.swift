import KernelInfo
import LinuxKernel
import MachineViews
import Memory

/// How often each interrupt came, by number: the line `intr` of /proc/stat.
enum InterruptCounts {
  /// The variable with the number of interrupts that there may be; its name changed in 6.13.
  static func variable(_ kernel: Kernel) -> String {
    kernel.symbols.address(of: "total_nr_irqs") == nil ? "nr_irqs" : "total_nr_irqs"
  }

  static func read(_ kernel: Kernel) throws -> [UInt64] {
    // NR_IRQS is 64 Ki and some at most.
    var counts = [UInt64](repeating: 0, count: min(Int(try kernel.number(variable(kernel))), 1 << 17))
    for line in try kernel.interrupts().whole().lines {
      guard let number = Int(line.name), counts.indices.contains(number) else { continue }
      counts[number] = line.counts.reduce(0, &+) & 0xffff_ffff
    }
    return counts
  }
}
