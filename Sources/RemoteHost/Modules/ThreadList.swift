import Memory
public import Monitor

/// The host's tasks, threads included, by id: what `monitors/ps.c` gives.
public struct ThreadList: ModuleView {
  public struct Thread: Hashable, Sendable {
    /// Its own id and its process's.
    public let tid, tgid: Int32
    /// The id of its process's parent.
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
  public static let module = "ps"

  public init?(_ result: MonitorResult) {
    let threads = Self.records(result, kind: 1, size: 64) { reader throws(MemoryFault) in
      Thread(
        tid: try reader.load(0), tgid: try reader.load(4), ppid: try reader.load(8), uid: try reader.u32(12),
        state: try reader.u16(16), exitState: try reader.u16(18), flags: try reader.u32(20),
        startTime: try reader.u64(24), userTime: try reader.u64(32), systemTime: try reader.u64(40),
        comm: try reader.cString(48, limit: 16))
    }
    guard let threads else { return nil }
    self.threads = threads.sorted { $0.tid < $1.tid }
  }
}
