public import LinuxKernel
public import Memory
public import TaskViews

/// What of a task is read on demand alone.
public struct TaskDetails: Sendable {
  /// What to read.
  public struct Parts: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let environment = Parts(rawValue: 1)
    public static let namespaces = Parts(rawValue: 2)
    public static let controlGroups = Parts(rawValue: 4)
    /// Capabilities, the seccomp mode, and whether privileges can still be gained.
    public static let privileges = Parts(rawValue: 8)
  }

  /// Sets of capabilities, bit n for capability n, as /proc/PID/status shows them.
  public struct Capabilities: Hashable, Sendable {
    public var inheritable: UInt64
    public var permitted: UInt64
    public var effective: UInt64
    public var bounding: UInt64
    public var ambient: UInt64
  }

  public struct Privileges: Hashable, Sendable {
    public var capabilities: Capabilities
    /// Whether execve gives no more rights than there are.
    public var noNewPrivileges: Bool
    /// 0: none, 1: strict, 2: filters.
    public var seccompMode: Int
    public var seccompFilters: Int
  }

  /// The environment's bytes as /proc/PID/environ gives them; empty for kernel threads and zombies.
  public var environmentBytes: [UInt8] = []
  /// Why the environment is not whole.
  public var environmentFault: KernelTask.CommandLineFault?
  /// Those that it is in; none of a task that has given them back since it ends.
  public var namespaces: [NamespaceKind: NamespaceID] = [:]
  /// One for each hierarchy, as /proc/PID/cgroup lists them.
  public var controlGroups: [ControlGroupPlace] = []
  public var privileges: Privileges?

  /// The environment cut into its strings.
  public var environment: [[UInt8]] {
    guard !environmentBytes.isEmpty else { return [] }
    var strings = environmentBytes.split(separator: 0, omittingEmptySubsequences: false).map(Array.init)
    if environmentBytes.last == 0 { strings.removeLast() }
    return strings
  }
}

/// The details of tasks, in the order in which the tasks were given.
public struct TaskDetailTable: Faulted {
  public internal(set) var details: [TaskDetails]
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
