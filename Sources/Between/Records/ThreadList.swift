import CRecords

/// The host's tasks, threads included, by id: what `monitors/ps.c` gives.
public struct ThreadList: MonitorRecords {
  public struct Thread: Hashable, Sendable {
    /// Its own id and its process's.
    public let tid, tgid: Int32
    /// The id of its process's parent, 0 where that has gone since.
    public let ppid: Int32
    public let uid: UInt32
    /// The lower half of the kernel's `__state`, and its `exit_state`.
    public let state, exitState: UInt16
    /// The kernel's PF_ flags.
    public let flags: UInt32
    /// Nanoseconds from the host's boot to its start.
    public let startTime: UInt64
    /// Nanoseconds of CPU time.
    public let userTime, systemTime: UInt64
    /// The name, of 15 bytes at most.
    public let comm: [UInt8]
  }

  public let threads: [Thread]
  public static let monitor = "ps"

  public init?(_ result: MonitorResult) {
    guard let tasks = result.records(of: GRASS_PS_TASK, as: grass_ps_task.self) else { return nil }
    let processes = Dictionary(tasks.map { ($0.task, $0.tgid) }) { _, last in last }
    threads = tasks.map { task in
      Thread(
        // The first tasks' parent is the idle task, which is in no table.
        tid: task.pid, tgid: task.tgid, ppid: processes[task.parent] ?? 0, uid: task.uid, state: task.state,
        exitState: task.exit_state, flags: task.flags, startTime: task.start_boottime, userTime: task.utime,
        systemTime: task.stime, comm: withUnsafeBytes(of: task.comm) { Array($0.prefix { $0 != 0 }) })
    }.sorted { $0.tid < $1.tid }
  }
}
