import Memory
public import Monitor

/// How each CPU spent its time since the host booted, by number: what `monitors/cpu.c` gives.
public struct CPUUsage: ModuleView {
  /// Nanoseconds, named as in /proc/stat.
  public struct CPU: Hashable, Sendable {
    public let number: Int
    public let isOnline: Bool
    public let user, nice, system, idle, iowait, irq, softirq, steal, guest, guestNice: UInt64

    /// The names of /proc/stat, in its order, with the values.
    public var times: [(name: String, nanoseconds: UInt64)] {
      [
        ("user", user), ("nice", nice), ("system", system), ("idle", idle), ("iowait", iowait), ("irq", irq),
        ("softirq", softirq), ("steal", steal), ("guest", guest), ("guest_nice", guestNice),
      ]
    }
  }

  public let cpus: [CPU]
  public static let module = "cpu"

  public init?(_ result: MonitorResult) {
    let cpus = Self.records(result, kind: 1, size: 88) { reader throws(MemoryFault) in
      CPU(
        number: Int(try reader.u32(0)), isOnline: try reader.u32(4) != 0, user: try reader.u64(8),
        nice: try reader.u64(16), system: try reader.u64(24), idle: try reader.u64(32), iowait: try reader.u64(40),
        irq: try reader.u64(48), softirq: try reader.u64(56), steal: try reader.u64(64), guest: try reader.u64(72),
        guestNice: try reader.u64(80))
    }
    guard let cpus else { return nil }
    self.cpus = cpus.sorted { $0.number < $1.number }
  }
}
