public import Memory

/// What to read of the tasks.
public struct TaskQuery: Sendable {
  /// All threads, or leaders alone.
  public var includesThreads: Bool
  /// Whether to read command lines from the processes' own memory.
  public var includesCommandLines: Bool
  /// Bytes read of one command line at most.
  public var commandLineLimit: Int

  public init(includesThreads: Bool = false, includesCommandLines: Bool = true, commandLineLimit: Int = 1 << 20) {
    self.includesThreads = includesThreads
    self.includesCommandLines = includesCommandLines
    self.commandLineLimit = commandLineLimit
  }
}

/// The tasks of a host, and what could not be read of them.
public struct TaskTable: Sendable {
  /// In ascending order of ``KernelTask/tid``.
  public var tasks: [KernelTask] = []
  /// Entries of the pid table that led to no consistent task, also when read again: on a live host tasks that ended
  /// meanwhile, in an image damage or deceit.
  public var faults: [MemoryFault] = []
  /// Processes that only one of pid table and task list knows.
  public var mismatches: [KernelTask] { tasks.filter { $0.isLeader && $0.sources != [.pidTable, .taskList] } }
}

extension Kernel {
  /// The tasks of the host.
  ///
  /// Cost: about ten round trips where the memory is remote, however many tasks there are.
  public func tasks(_ query: TaskQuery = TaskQuery()) throws(KernelError) -> TaskTable {
    let reader = try taskReader.get { () throws(KernelError) in
      try KernelError.reading("the task table of Linux \(release)") { try TaskReader(kernel: self) }
    }
    return try reader.read(query, in: addressSpace)
  }
}
