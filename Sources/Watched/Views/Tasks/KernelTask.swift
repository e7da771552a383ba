public import Memory
import Views

/// One task: a thread of a process, or of the kernel. The thread whose ``tid`` is its ``tgid`` leads its process.
public struct KernelTask: Sendable {
  /// Where a task was found. One that is in the pid table but not in the task list, or the reverse, is being made,
  /// is exiting, or is being hidden.
  public struct Sources: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The pid table of the initial pid namespace, `init_pid_ns.idr`.
    public static let pidTable = Sources(rawValue: 1)
    /// The list of processes from `init_task.tasks`. Only leaders are in it.
    public static let taskList = Sources(rawValue: 2)
  }

  /// Why a command line is not whole.
  public enum CommandLineFault: Sendable, Hashable {
    /// Pages of it are not in memory, or its page tables do not lead there.
    case unreadable(MemoryFault)
    /// It is longer than what is read at most: ``TaskQuery/commandLineLimit`` bytes, or its share of
    /// ``TaskQuery/commandLineBudget``.
    case truncated
  }

  /// The address of its `task_struct`.
  public var address: VirtualAddress
  /// The thread's own id, in the initial pid namespace: `pid` of `task_struct`.
  public var tid: Int32
  /// The id of its process.
  public var tgid: Int32
  /// The process id of its parent.
  public var ppid: Int32
  /// Real, effective, saved and file-system user id.
  public var uid: UInt32
  public var euid: UInt32
  public var suid: UInt32
  public var fsuid: UInt32
  /// Real, effective, saved and file-system group id.
  public var gid: UInt32
  public var egid: UInt32
  public var sgid: UInt32
  public var fsgid: UInt32
  public var state: TaskState
  /// The name, as /proc/PID/comm shows it: for a kernel worker with what it works on. Any bytes but zero.
  public var comm: [UInt8]
  /// The command line's bytes as /proc/PID/cmdline gives them; empty for kernel threads and zombies.
  public var commandLine: [UInt8]
  public var commandLineFault: CommandLineFault?
  /// Nanoseconds from the boot to its start.
  public var startTime: UInt64
  /// Nanoseconds of CPU time in user mode and in the kernel: this thread's alone.
  public var userTime: UInt64
  public var systemTime: UInt64
  /// The same summed over the process, its dead threads included; zero for threads that do not lead.
  public var processUserTime: UInt64
  public var processSystemTime: UInt64
  /// Pages resident, in pages of 4 KiB.
  public var residentPages: UInt64
  /// Virtual memory, in pages of 4 KiB.
  public var virtualPages: UInt64
  /// The controlling terminal's name (`ttyS0`, `pts/1`), or nil.
  public var tty: String?
  /// Niceness, -20 to 19.
  public var nice: Int
  /// The priority as /proc/PID/stat shows it.
  public var priority: Int
  /// The CPU that it runs on or ran on last.
  public var cpu: UInt32
  /// The number of threads of its process.
  public var threadCount: Int
  public var isKernelThread: Bool
  public var sources: Sources

  public var isLeader: Bool { tid == tgid }
  /// Whether it leads a process that only one of pid table and task list knows.
  public var isMismatch: Bool { isLeader && sources != [.pidTable, .taskList] }

  /// The command line cut into its arguments. A title that the process wrote over them is one argument.
  public var arguments: [[UInt8]] {
    guard !commandLine.isEmpty else { return [] }
    var arguments = commandLine.split(separator: 0, omittingEmptySubsequences: false).map(Array.init)
    if commandLine.last == 0 { arguments.removeLast() }
    return arguments
  }

  /// What ps shows of it: the command line, with `…` behind it where it is not whole, or the name in brackets.
  package var command: String {
    guard !commandLine.isEmpty else { return "[\(comm.printable)]" }
    let line = arguments.map(\.printable).joined(separator: " ")
    return commandLineFault == nil ? line : line + " …"
  }
}
