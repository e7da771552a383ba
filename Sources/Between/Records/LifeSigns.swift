import CRecords

/// One look at whether the host lives: what `monitors/life.c` gives.
///
/// Two of them tell.
public struct LifeSigns: MonitorRecords {
  public struct CPU: Hashable, Sendable {
    public let number: Int
    public let isOnline: Bool
    /// Tasks that run or want to.
    public let runnable: Int
    /// Whether it runs its idle task.
    public let isIdle: Bool
    /// How often it went from one task to another.
    public let switches: UInt64
    /// Its scheduler's clock in nanoseconds, which moves with every tick and every switch.
    public let clock: UInt64
  }

  /// Clock ticks of the kernel.
  public let jiffies: UInt64
  /// The CPU that panicked, nil as long as none did.
  public let panicCPU: Int?
  public let cpus: [CPU]
  public static let monitor = "life"

  public init?(_ result: MonitorResult) {
    guard let hosts = result.records(of: GRASS_LIFE_HOST, as: grass_life_host.self), let host = hosts.first,
      hosts.count == 1, let cpus = result.records(of: GRASS_LIFE_CPU, as: grass_life_cpu.self)
    else { return nil }
    jiffies = host.jiffies
    panicCPU = host.panic_cpu < 0 ? nil : Int(host.panic_cpu)
    self.cpus = cpus.map { cpu in
      CPU(
        number: Int(cpu.cpu), isOnline: cpu.is_online != 0, runnable: Int(cpu.runnable), isIdle: cpu.is_idle != 0,
        switches: cpu.switches, clock: cpu.clock)
    }.sorted { $0.number < $1.number }
  }

  /// What two looks say.
  public enum Verdict: Hashable, Sendable {
    case alive
    /// The CPUs of these numbers have work and do nothing: no tick, no switch. The others go on.
    case stuck(cpus: [Int])
    /// Neither ticks nor switches anywhere. Within a few seconds, any kernel that lives has some, be it idle.
    case still
    case panicked(cpu: Int)
  }

  /// Tells from an earlier look what became of the host.
  ///
  /// The longer ago that was, the surer: a CPU needs a tick between the two, and an idle kernel may do without one for
  /// some seconds.
  public func verdict(since earlier: LifeSigns) -> Verdict {
    if let panicCPU { return .panicked(cpu: panicCPU) }
    let before = Dictionary(earlier.cpus.map { ($0.number, $0) }) { first, _ in first }
    var hasMoved = jiffies != earlier.jiffies
    var stuck: [Int] = []
    for cpu in cpus where cpu.isOnline {
      guard let old = before[cpu.number], old.isOnline else { continue }
      if (old.switches, old.clock) != (cpu.switches, cpu.clock) {
        hasMoved = true
      } else if !old.isIdle, !cpu.isIdle {
        stuck.append(cpu.number)
      }
    }
    if !hasMoved { return .still }
    return stuck.isEmpty ? .alive : .stuck(cpus: stuck)
  }
}
