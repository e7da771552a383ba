import CRecords

/// Whether the host died, and the last it said: what `monitors/panic.c` gives.
public struct PanicState: MonitorRecords {
  /// A record of the kernel log.
  public struct Line: Hashable, Sendable {
    /// Its number since boot.
    public let sequence: UInt64
    /// Nanoseconds since boot.
    public let time: UInt64
    public let caller: UInt32
    /// printk's level, 0 (emergency) to 7 (debug).
    public let level: UInt8
    public let facility: UInt8
    /// Its text, of which the monitor gives 512 bytes at most.
    public let text: [UInt8]
  }

  /// The CPU that panicked, nil as long as none did.
  public let panicCPU: Int?
  /// Whether a CPU is just printing an oops.
  public let isInOops: Bool
  /// Bits as in /proc/sys/kernel/tainted.
  public let taint: UInt64
  /// The newest records of the log, oldest first.
  public let lines: [Line]
  public static let monitor = "panic"

  public init?(_ result: MonitorResult) {
    guard let states = result.records(of: GRASS_PANIC_STATE, as: grass_panic_state.self), let state = states.first,
      states.count == 1,
      let lines = result.records(of: GRASS_PANIC_LINE, as: grass_panic_line.self, followedBy: Int(GRASS_PANIC_TEXT)),
      // A text ends in its record.
      lines.allSatisfy({ line, rest in Int(line.length) <= rest.count })
    else { return nil }
    panicCPU = state.panic_cpu < 0 ? nil : Int(state.panic_cpu)
    isInOops = state.oops_in_progress != 0
    taint = state.tainted
    self.lines = lines.map { line, rest -> Line in
      let text = Array(rest.prefix(Int(line.length)))
      return Line(
        sequence: line.sequence, time: line.time, caller: line.caller, level: line.level, facility: line.facility,
        text: text)
    }.sorted { $0.sequence < $1.sequence }
  }
}
