import Glibc
public import KernelViews
public import LinuxKernel
import Synchronization

/// One look at a host: what detectors ask views for is read once and shared by all of them.
public final class Look: Sendable {
  public let kernel: Kernel
  /// When it was taken.
  public let moment: Finding.Moment
  /// What was learned of the host before; nil where nothing was.
  public let baseline: Baseline?
  /// What was found in the host's texts before; nil where they are looked through in any case.
  let seen: SeenTexts?
  private let answers = Mutex<[String: any Sendable]>([:])

  /// Begins a look: the clock is read now, all else when it is asked for.
  public init(at kernel: Kernel, baseline: Baseline? = nil, seen: SeenTexts? = nil) {
    self.kernel = kernel
    self.seen = seen
    self.baseline = baseline
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    moment = Finding.Moment(
      guest: try? kernel.uptime(), utc: Double(now.tv_sec) + Double(now.tv_nsec) / 1e9)
  }

  /// The same moment and host, read in another way: every address by the page tables.
  func throughPageTables() -> Look { Look(at: kernel.walkingPageTables(), moment: moment, baseline: baseline) }

  private init(at kernel: Kernel, moment: Finding.Moment, baseline: Baseline?) {
    self.kernel = kernel
    seen = nil
    self.moment = moment
    self.baseline = baseline
  }

  /// What `read` gives, once for this look.
  ///
  /// - Throws: what `read` throws, each time it is asked for.
  public func once<Answer: Sendable>(
    _ name: String, _ read: (Kernel) throws(KernelError) -> Answer
  ) throws(KernelError) -> Answer {
    if let known = answers.withLock({ $0[name] }) as? Result<Answer, KernelError> { return try known.get() }
    let result = Result { () throws(KernelError) in try read(kernel) }
    answers.withLock { $0[name] = result }
    return try result.get()
  }

  public func tasks() throws(KernelError) -> TaskTable {
    try once("tasks") { kernel throws(KernelError) in try kernel.tasks() }
  }
  public func modules() throws(KernelError) -> ModuleTable {
    try once("modules") { kernel throws(KernelError) in try kernel.modules() }
  }
  public func hooks() throws(KernelError) -> HookTable {
    try once("hooks") { kernel throws(KernelError) in try kernel.hooks(Set(Hook.Kind.allCases)) }
  }
  public func bpf() throws(KernelError) -> BPFTable {
    try once("bpf") { kernel throws(KernelError) in try kernel.bpf() }
  }
  public func host() throws(KernelError) -> HostInfo {
    try once("host") { kernel throws(KernelError) in try kernel.host() }
  }
  public func log() throws(KernelError) -> KernelLog {
    try once("log") { kernel throws(KernelError) in try kernel.log() }
  }
  public func locks() throws(KernelError) -> LockTable {
    try once("locks") { kernel throws(KernelError) in try kernel.locks() }
  }
  public func workQueues() throws(KernelError) -> WorkQueueTable {
    try once("workqueues") { kernel throws(KernelError) in try kernel.workQueues() }
  }
  public func vmStatistics() throws(KernelError) -> VMStatistics {
    try once("vmstat") { kernel throws(KernelError) in try kernel.vmStatistics() }
  }
  public func controlGroups() throws(KernelError) -> ControlGroupTable {
    try once("cgroups") { kernel throws(KernelError) in try kernel.controlGroups() }
  }
  public func sockets() throws(KernelError) -> SocketTable {
    try once("sockets") { kernel throws(KernelError) in try kernel.sockets() }
  }
  public func openFiles() throws(KernelError) -> OpenFileTable {
    try once("files") { kernel throws(KernelError) in try kernel.openFiles() }
  }
  public func processors() throws(KernelError) -> ProcessorSample {
    try once("processors") { kernel throws(KernelError) in try kernel.processors() }
  }
  public func network() throws(KernelError) -> NetworkConfiguration {
    try once("network") { kernel throws(KernelError) in try kernel.network() }
  }
  /// What the first process has mounted.
  public func mounts() throws(KernelError) -> MountTable {
    try once("mounts") { kernel throws(KernelError) in try kernel.mounts() }
  }
  public func stacks() throws(KernelError) -> StackTable {
    let tasks = try tasks().tasks
    return try once("stacks") { kernel throws(KernelError) in try kernel.stacks(of: tasks) }
  }
}
