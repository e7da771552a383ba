import CRecords

/// How each CPU spent its time since the host booted, by number: what `monitors/cpu.c` gives.
public struct CPUUsage: MonitorRecords {
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
  public static let monitor = "cpu"

  public init?(_ result: MonitorResult) {
    guard let cpus = result.records(of: GRASS_CPU_TIMES, as: grass_cpu_times.self) else { return nil }
    self.cpus = cpus.map { cpu in
      CPU(
        number: Int(cpu.cpu), isOnline: cpu.is_online != 0, user: cpu.user, nice: cpu.nice, system: cpu.system,
        idle: cpu.idle, iowait: cpu.iowait, irq: cpu.irq, softirq: cpu.softirq, steal: cpu.steal, guest: cpu.guest,
        guestNice: cpu.guest_nice)
    }.sorted { $0.number < $1.number }
  }

  /// What part of the time between two looks a CPU spent how.
  public struct Shares: Sendable {
    public let number: Int
    /// 0 to 1 each, and 1 together; guests' time is part of users'.
    ///
    /// Nil where the CPU counted no time.
    public let shares: [(name: String, share: Double?)]
  }

  /// Compares with an earlier look.
  ///
  /// CPUs that only one of them has are left out.
  public func shares(since earlier: CPUUsage) -> [Shares] {
    let before = Dictionary(earlier.cpus.map { ($0.number, $0) }) { first, _ in first }
    return cpus.compactMap { cpu in
      guard let old = before[cpu.number] else { return nil }
      // The share of the present in an idle CPU's time may shrink a little when it wakes.
      let spent = zip(cpu.times, old.times).map { now, then in
        (name: now.name, time: Double(now.nanoseconds > then.nanoseconds ? now.nanoseconds - then.nanoseconds : 0))
      }.filter { !$0.name.hasPrefix("guest") }
      let total = spent.reduce(0) { $0 + $1.time }
      return Shares(number: cpu.number, shares: spent.map { ($0.name, total > 0 ? $0.time / total : nil) })
    }
  }
}
