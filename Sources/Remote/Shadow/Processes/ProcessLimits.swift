/// The table of /proc/PID/limits.
///
/// Source: fs/proc/base.c, `proc_pid_limits`.
enum ProcessLimits {
  private static let names: [(name: String, unit: String?)] = [
    ("Max cpu time", "seconds"), ("Max file size", "bytes"), ("Max data size", "bytes"), ("Max stack size", "bytes"),
    ("Max core file size", "bytes"), ("Max resident set", "bytes"), ("Max processes", "processes"),
    ("Max open files", "files"), ("Max locked memory", "bytes"), ("Max address space", "bytes"),
    ("Max file locks", "locks"), ("Max pending signals", "signals"), ("Max msgqueue size", "bytes"),
    ("Max nice priority", nil), ("Max realtime priority", nil), ("Max realtime timeout", "us"),
  ]

  /// The table of `limits`: pairs of the limit in force and the highest to be had.
  static func bytes(_ limits: [UInt64]) -> [UInt8] {
    func row(_ name: String, _ soft: String, _ hard: String) -> String {
      "\(ProcText.filled(name, 25)) \(ProcText.filled(soft, 20)) \(ProcText.filled(hard, 20)) "
    }
    // RLIM_INFINITY.
    func value(_ limit: UInt64) -> String { limit == .max ? "unlimited" : "\(limit)" }
    var text = ProcText()
    text.line(row("Limit", "Soft Limit", "Hard Limit") + ProcText.filled("Units", 10))
    for (index, limit) in names.enumerated() where index * 2 + 1 < limits.count {
      let start = row(limit.name, value(limits[index * 2]), value(limits[index * 2 + 1]))
      text.line(start + (limit.unit.map { ProcText.filled($0, 10) } ?? ""))
    }
    return text.bytes
  }
}
