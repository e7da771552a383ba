import KernelInfo
public import LinuxKernel

/// What is to be known of a host as a whole.
public struct HostInfo: Sendable {
  /// As uname shows them.
  public var sysname: String
  public var nodename: String
  public var release: String
  public var version: String
  public var machine: String
  /// Nanoseconds since boot at the kernel's last clock tick: on a dead or idle host this stands still.
  public var uptime: UInt64
  /// Seconds since 1970 at the same tick.
  public var wallClock: Int64
  /// Load averages of 1, 5 and 15 minutes.
  public var load: [Double]
  public var onlineCPUs: Int
  public var possibleCPUs: Int
  public var cpuModel: String
  public var commandLine: [UInt8]
  /// The taint letters, `G` and blanks left out as in an oops message; empty if not tainted.
  public var taint: String
  public var panic: Panic?
  public var memory: MemoryInfo
  public var pagingLevels: Int
  /// What could not be had: each part named here is left empty above, and the others hold.
  public var faults: [KernelError] = []

  /// How the kernel died.
  public struct Panic: Sendable {
    public var cpu: Int
    /// The message after `Kernel panic - not syncing: `; nil if the log no longer has it or cannot be read.
    public var message: String?
  }
}

/// Memory as in /proc/meminfo, all in bytes.
public struct MemoryInfo: Sendable {
  /// The main lines in /proc/meminfo's order: its names, and bytes. A line that could not be worked out is left out.
  public var lines: [(name: String, bytes: UInt64)] = []

  public subscript(name: String) -> UInt64? { lines.first { $0.name == name }?.bytes }
}
