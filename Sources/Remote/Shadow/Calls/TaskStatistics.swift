import KernelInfo
import LinuxKernel
import Memory
import Paging
import TaskViews

/// What taskstats says of a thread or a process: what it used, and what it waited for.
///
/// The struct is the host's own, whose version programs read from it.
///
/// Source: kernel/taskstats.c, `fill_stats`; kernel/tsacct.c, `bacct_add_tsk` and `xacct_add_tsk`; kernel/delayacct.c,
/// `delayacct_add_tsk`.
struct TaskStatistics {
  private let host: ShadowHost
  private let layout: StructLayout
  private(set) var bytes: [UInt8]

  private init(_ host: ShadowHost) throws {
    self.host = host
    layout = try host.kernel.types.structure("taskstats")
    bytes = [UInt8](repeating: 0, count: min(layout.size, 4096))
    // The version went up with each of these; one number is all that says what follows (TASKSTATS_VERSION).
    let steps = [
      (9, "thrashing_count"), (10, "ac_btime64"), (11, "compact_count"), (12, "ac_tgid"), (13, "wpcopy_count"),
      (14, "irq_count"), (15, "cpu_delay_max"), (16, "cpu_delay_min"),
    ]
    let version = steps.last { layout.hasField($0.1) }?.0 ?? 8
    set("version", UInt64(version))
  }

  private mutating func set(_ name: String, _ value: UInt64) {
    guard let field = try? layout.field(name), field.offset + field.size <= bytes.count else { return }
    for index in 0..<min(8, field.size) {
      bytes[field.offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8))
    }
  }

  private func value(_ name: String) -> UInt64 {
    guard let field = try? layout.field(name), field.offset + 8 <= bytes.count else { return 0 }
    return bytes[field.offset..<field.offset + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// What a thread used.
  init(ofThread record: ProcessRecord, _ host: ShadowHost) throws {
    try self.init(host)
    let (task, details) = (record.task, try record.details.get())
    if let field = try? layout.field("ac_comm") {
      for (index, byte) in task.comm.prefix(max(0, field.size - 1)).enumerated() {
        bytes[field.offset + index] = byte
      }
    }
    set("ac_pid", UInt64(UInt32(bitPattern: task.tid)))
    set("ac_tgid", UInt64(UInt32(bitPattern: task.tgid)))
    set("ac_ppid", UInt64(UInt32(bitPattern: task.ppid)))
    set("ac_uid", UInt64(task.uid))
    set("ac_gid", UInt64(task.gid))
    set("ac_nice", UInt64(bitPattern: Int64(task.nice)))
    set("ac_sched", details.policy)
    // Times are in microseconds.
    let begun = host.constants.bootTime + Int64(task.startTime / 1_000_000_000)
    let now = UInt64(max(0, try host.kernel.monotonicTime()))
    let life = (now &- min(now, task.startTime)) / 1000
    set("ac_btime", UInt64(clamping: begun))
    set("ac_btime64", UInt64(clamping: begun))
    set("ac_etime", life)
    set("ac_utime", task.userTime / 1000)
    set("ac_stime", task.systemTime / 1000)
    set("ac_utimescaled", task.userTime / 1000)
    set("ac_stimescaled", task.systemTime / 1000)
    set("ac_minflt", details.minorFaults)
    set("ac_majflt", details.majorFaults)
    set("nvcsw", details.voluntarySwitches)
    set("nivcsw", details.involuntarySwitches)
    let names = ["read_char", "write_char", "read_syscalls", "write_syscalls", "read_bytes", "write_bytes"]
    for (name, value) in zip(names, details.inputOutput.counters) { set(name, value) }
    if details.inputOutput.counters.count > 6 { set("cancelled_write_bytes", details.inputOutput.counters[6]) }
    try addDelays(of: record)
  }

  /// What the threads of a process that are left used; of those that are gone the process keeps the sum.
  init(ofProcess threads: [ProcessRecord], _ host: ShadowHost) throws {
    try self.init(host)
    for thread in threads {
      let details = try thread.details.get()
      set("nvcsw", value("nvcsw") &+ details.voluntarySwitches)
      set("nivcsw", value("nivcsw") &+ details.involuntarySwitches)
      set("ac_utime", value("ac_utime") &+ thread.task.userTime / 1000)
      set("ac_stime", value("ac_stime") &+ thread.task.systemTime / 1000)
      try addDelays(of: thread)
    }
  }

  private mutating func addDelays(of record: ProcessRecord) throws {
    let kernel = host.kernel
    let task = try kernel.struct("task_struct", at: record.task.address)
    func add(_ name: String, _ more: UInt64, _ statistics: inout TaskStatistics) {
      statistics.set(name, statistics.value(name) &+ more)
    }
    add("cpu_run_real_total", record.task.userTime &+ record.task.systemTime, &self)
    add("cpu_scaled_run_real_total", record.task.userTime &+ record.task.systemTime, &self)
    add("cpu_run_virtual_total", try task.unsigned("se.sum_exec_runtime"), &self)
    if task.layout.hasField("sched_info.pcount") {
      add("cpu_count", try task.unsigned("sched_info.pcount"), &self)
      add("cpu_delay_total", try task.unsigned("sched_info.run_delay"), &self)
    }
    // Off by itself since 5.14: then there is nothing to be said.
    guard task.layout.hasField("delays"), case let place = try task.pointer("delays"), place.rawValue != 0 else {
      return
    }
    let delays = try kernel.struct("task_delay_info", at: place)
    for name in ["blkio", "swapin", "freepages", "thrashing", "compact", "wpcopy", "irq"]
    where delays.layout.hasField(name + "_count") {
      add(name + "_count", try delays.unsigned(name + "_count"), &self)
      add(name + "_delay_total", try delays.unsigned(name + "_delay"), &self)
    }
  }
}

extension HostAnswers {
  /// The `taskstats` of a thread, or of a process as a whole; nil where there is none of this number.
  public func taskStatistics(of number: Int32, isWhole: Bool) throws(ShadowError) -> [UInt8]? {
    try ShadowError.answering {
      let table = try host.processes()
      if isWhole {
        let threads = table.threads(of: number)
        return threads.isEmpty ? nil : try TaskStatistics(ofProcess: threads, host).bytes
      }
      return try table[number].map { try TaskStatistics(ofThread: $0, host).bytes }
    }
  }
}
