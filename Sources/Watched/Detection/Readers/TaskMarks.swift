import Binding
import KernelInfo
public import LinuxKernel
import Memory

/// What detectors want to know of a task beside what ps shows.
public struct TaskMark: Sendable {
  public var task: KernelTask
  /// The bits of `__state`, and of `flags`.
  public var state: UInt64
  public var flags: UInt64
  /// How often it gave up a CPU by itself, and against its will.
  public var switches: UInt64
  /// How often it gave up a CPU by itself.
  public var voluntarySwitches: UInt64
  /// Nanoseconds, by the scheduler's clock, when its time on a CPU was last counted.
  public var lastRun: UInt64
  /// How often its process has called execve.
  public var executions: UInt64
  /// Its objective credentials, and those that it acts with at the moment.
  public var credentials: VirtualAddress
  public var effective: VirtualAddress
  /// Its `mm_struct`; null for kernel threads and for who has ended.
  public var memory: VirtualAddress
  /// Who the kernel accounts its processes to: `cred->user->uid`.
  public var accountedUser: UInt32
  public var effectiveCapabilities: UInt64
  public var permittedCapabilities: UInt64
  /// What of system calls it may do: 0 all, 1 few, 2 what its filters say; and its filters, null for none.
  public var seccompMode: UInt64
  public var seccompFilter: VirtualAddress
  /// Flags that are set one by one: bit 0 says that execve gives it no more rights than it has.
  public var atomicFlags: UInt64
  /// Whether another task traces it, and its flags of that.
  public var tracing: UInt64
  /// The user namespace that its capabilities are of.
  public var userNamespace: VirtualAddress

  /// What tells it from any other task of this boot.
  var key: String { "\(task.tid) \(task.startTime)" }

  /// Sleeps so that no signal wakes it, and counts as load: what the kernel itself calls hung after a while.
  public var isUninterruptible: Bool {
    // TASK_UNINTERRUPTIBLE without TASK_WAKEKILL, TASK_NOLOAD and TASK_FROZEN (include/linux/sched.h).
    state & 0x2 != 0 && state & (0x100 | 0x400 | 0x8000) == 0
  }
}

/// The marks of all tasks, threads too.
public struct TaskMarkTable: Faulted {
  public internal(set) var marks: [TaskMark] = []
  public internal(set) var faults: [MemoryFault] = []
  /// The scheduler's clock, of the CPU whose is furthest, in nanoseconds.
  public internal(set) var now: UInt64 = 0
}

private struct TaskMarkReader: KernelReader {
  static let subject = "what tasks do"

  struct Task: KernelShape {
    static let type = "task_struct"
    let state = Field<UInt64>("__state", before: "5.14, 2f064a59a11f", "state")
    let flags = Field<UInt64>("flags")
    let voluntary = Field<UInt64>("nvcsw")
    let involuntary = Field<UInt64>("nivcsw")
    let lastRun = Field<UInt64>("se.exec_start")
    let executions = Field<UInt64>("self_exec_id")
    let credentials = Field<VirtualAddress>("real_cred")
    let effective = Field<VirtualAddress>("cred")
    let memory = Field<VirtualAddress>("mm")
    let startTime = Field<UInt64>("start_boottime", before: "5.5", "real_start_time")
    let seccompMode = Field<UInt64>("seccomp.mode")
    let seccompFilter = Field<VirtualAddress>("seccomp.filter")
    let atomicFlags = Field<UInt64>("atomic_flags")
    let tracing = Field<UInt64>("ptrace")
  }

  struct Credentials: KernelShape {
    static let type = "cred"
    let user = Field<VirtualAddress>("user")
    // A struct with an array of two words before 6.3, one number since.
    let effective = Field<UInt64>("cap_effective")
    let permitted = Field<UInt64>("cap_permitted")
    let namespace = Field<VirtualAddress>("user_ns")
  }

  struct User: KernelShape {
    static let type = "user_struct"
    let uid = Field<UInt32>("uid.val")
  }

  /// What is wanted of one set of credentials.
  private struct Rights {
    var user: VirtualAddress
    var effective: UInt64
    var permitted: UInt64
    var namespace: VirtualAddress
  }

  struct RunQueue: KernelShape {
    static let type = "rq"
    let clock = Field<UInt64>("clock_task")
  }

  let task: Bound<Task>
  let credentials: Bound<Credentials>
  let user: Bound<User>
  let runQueue: Bound<RunQueue>
  let runQueues: VirtualAddress

  init(kernel: Kernel) throws {
    task = try Bound(kernel.types)
    credentials = try Bound(kernel.types)
    user = try Bound(kernel.types)
    runQueue = try Bound(kernel.types)
    runQueues = try kernel.symbol("runqueues", for: Self.self)
  }

  func read(_ kernel: Kernel) throws -> TaskMarkTable {
    let space = kernel.addressSpace
    let tasks = try kernel.tasks(TaskQuery(includesThreads: true, includesCommandLines: false))
    var table = TaskMarkTable()
    let cpus = try kernel.cpus()
    let queues = space.read(runQueue, at: cpus.map { runQueues + Int(bitPattern: UInt($0.offset)) })
    queues.forEach(&table.faults) { (queue) throws(MemoryFault) in table.now = max(table.now, try queue.clock) }
    let found = space.read(task, at: tasks.tasks.map(\.address)).compactMap(&table.faults) {
      (reading) throws(MemoryFault) -> TaskMark? in
      let task = tasks.tasks[reading.index]
      // Another task may have taken the memory since.
      guard try reading.startTime == task.startTime else { return nil }
      return TaskMark(
        task: task, state: try reading.state, flags: try reading.flags,
        switches: try reading.voluntary &+ reading.involuntary, voluntarySwitches: try reading.voluntary,
        lastRun: try reading.lastRun,
        executions: try reading.executions, credentials: try reading.credentials, effective: try reading.effective,
        memory: try reading.memory, accountedUser: .max, effectiveCapabilities: 0,
        permittedCapabilities: 0,
        seccompMode: try reading.seccompMode, seccompFilter: try reading.seccompFilter,
        atomicFlags: try reading.atomicFlags, tracing: try reading.tracing, userNamespace: VirtualAddress(0))
    }
    let sets = Array(Set(found.map(\.credentials)))
    var users: [VirtualAddress: Rights] = [:]
    space.read(credentials, at: sets).forEach(&table.faults) { (reading) throws(MemoryFault) in
      users[reading.address] = Rights(
        user: try reading.user, effective: try reading.effective, permitted: try reading.permitted,
        namespace: try reading.namespace)
    }
    let structs = Array(Set(users.values.map(\.user)))
    var numbers: [VirtualAddress: UInt32] = [:]
    space.read(user, at: structs).forEach(&table.faults) { (reading) throws(MemoryFault) in
      numbers[reading.address] = try reading.uid
    }
    table.marks = found.compactMap { mark in
      guard let set = users[mark.credentials], let uid = numbers[set.user] else { return nil }
      var mark = mark
      mark.accountedUser = uid
      mark.effectiveCapabilities = set.effective
      mark.permittedCapabilities = set.permitted
      mark.userNamespace = set.namespace
      return mark
    }
    return table
  }
}

extension Look {
  /// What tasks do.
  public func marks() throws(KernelError) -> TaskMarkTable {
    try once("marks") { kernel throws(KernelError) in
      try kernel.read(with: TaskMarkReader.self) { reader in try reader.read(kernel) }
    }
  }
}
