import Memory
public import Region

/// One look at whether the host lives: what `monitors/beacon.c` gives.
///
/// Two of them tell.
public struct LifeSigns: ModuleView {
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
  public static let module = "beacon"

  public init?(_ result: MonitorResult) {
    let hosts = Self.records(result, kind: 1, size: 16) { reader throws(MemoryFault) in
      (jiffies: try reader.u64(0), panicCPU: try reader.load(8, as: Int32.self))
    }
    let cpus = Self.records(result, kind: 2, size: 32) { reader throws(MemoryFault) in
      CPU(
        number: Int(try reader.u32(0)), isOnline: try reader.u32(4) != 0, runnable: Int(try reader.u32(8)),
        isIdle: try reader.u32(12) != 0, switches: try reader.u64(16), clock: try reader.u64(24))
    }
    guard let host = hosts?.first, hosts?.count == 1, let cpus else { return nil }
    jiffies = host.jiffies
    panicCPU = host.panicCPU < 0 ? nil : Int(host.panicCPU)
    self.cpus = cpus.sorted { $0.number < $1.number }
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
