import Binding
public import LinuxKernel
public import Memory

/// What to read of the tasks.
public struct TaskQuery: Sendable {
  /// All threads, or leaders alone.
  public var includesThreads: Bool
  /// Whether to read command lines from the processes' own memory.
  public var includesCommandLines: Bool
  /// Bytes read of one command line at most.
  public var commandLineLimit: Int
  /// Bytes read of all command lines together at most. Where they want more, the longest are cut to equal lengths, and
  /// say so. Real hosts need a few hundred bytes a process.
  public var commandLineBudget: Int

  public init(
    includesThreads: Bool = false, includesCommandLines: Bool = true, commandLineLimit: Int = 1 << 20,
    commandLineBudget: Int = 64 << 20
  ) {
    self.commandLineBudget = commandLineBudget
    self.includesThreads = includesThreads
    self.includesCommandLines = includesCommandLines
    self.commandLineLimit = commandLineLimit
  }
}

/// The tasks of a host, and what could not be read of them.
public struct TaskTable: Sendable {
  /// In ascending order of ``KernelTask/tid``.
  public var tasks: [KernelTask] = []
  /// What of pid table and task list led to no consistent task, or of a task could not be read, also when read again:
  /// on a live host tasks that ended meanwhile, in an image damage or deceit.
  public var faults: [MemoryFault] = []
  /// Processes that only one of pid table and task list knows.
  public var mismatches: [KernelTask] { tasks.filter(\.isMismatch) }
}

extension Kernel {
  /// The tasks of the host.
  ///
  /// Cost: about ten round trips where the memory is remote, however many tasks there are.
  public func tasks(_ query: TaskQuery = TaskQuery()) throws(KernelError) -> TaskTable {
    let reader = try reader(TaskReader.self)
    return try reader.read(query, in: addressSpace)
  }
}
