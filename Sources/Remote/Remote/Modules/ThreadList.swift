import Memory
public import Region

/// The host's tasks, threads included, by id: what `monitors/ps.c` gives.
public struct ThreadList: ModuleView {
  public struct Thread: Hashable, Sendable {
    /// Its own id and its process's.
    public let tid, tgid: Int32
    /// The id of its process's parent, 0 where that has gone since.
    public internal(set) var ppid: Int32
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
  public static let module = "ps"

  public init?(_ result: MonitorResult) {
    var parents: [UInt64] = []
    var processes: [UInt64: Int32] = [:]
    let threads = Self.records(result, kind: 1, size: 80) { reader throws(MemoryFault) in
      let tgid: Int32 = try reader.load(20)
      processes[try reader.u64(0)] = tgid
      parents.append(try reader.u64(8))
      return Thread(
        tid: try reader.load(16), tgid: tgid, ppid: 0, uid: try reader.u32(24), state: try reader.u16(32),
        exitState: try reader.u16(34), flags: try reader.u32(28), startTime: try reader.u64(40),
        userTime: try reader.u64(48), systemTime: try reader.u64(56), comm: try reader.cString(64, limit: 16))
    }
    guard let threads else { return nil }
    // The first tasks' parent is the idle task, which is in no table.
    self.threads = zip(threads, parents).map { thread, parent in
      var thread = thread
      thread.ppid = processes[parent] ?? 0
      return thread
    }.sorted { $0.tid < $1.tid }
  }
}
