import Memory
import TaskViews

/// A thread as /proc shows it: what the list of tasks has of it, and what only single files show.
///
/// Shared, since it is looked up for each file that tools ask for, and has much to copy.
final class ProcessRecord: Sendable {
  let task: KernelTask
  /// What else belongs to it, or why it cannot be read.
  let details: Result<Details, MemoryFault>
  /// Whether its own user may look into it.
  let isReadable: Bool

  init(task: KernelTask, details: Result<Details, MemoryFault>) {
    (self.task, self.details) = (task, details)
    // Bits 0 and 1 of the flags of memory: 1 is SUID_DUMP_USER.
    isReadable = (try? details.get())?.memory.map { $0.flags & 3 == 1 } ?? false
  }

  /// The numbers of a `struct pid`, by level of pid namespaces, the initial one's first.
  typealias Numbers = [(number: Int32, namespace: VirtualAddress)]

  struct Details: Sendable {
    var flags: UInt64 = 0
    var exitCode: Int32 = 0
    var exitSignal: Int32 = 0
    var minorFaults: UInt64 = 0
    var majorFaults: UInt64 = 0
    var realTimePriority: UInt64 = 0
    var policy: UInt64 = 0
    var guestTime: UInt64 = 0
    var numaGroup: Int32 = 0
    var voluntarySwitches: UInt64 = 0
    var involuntarySwitches: UInt64 = 0
    var pending: UInt64 = 0
    var blocked: UInt64 = 0
    var ignored: UInt64 = 0
    var caught: UInt64 = 0
    var tracer: Int32 = 0
    var cpus: [UInt64] = []
    var memoryNodes: [UInt64] = []
    var atomicFlags: UInt64 = 0
    var seccompMode: Int32 = 0
    var seccompFilters: Int32?
    var blockDelay: UInt64 = 0
    /// `shstk`, `wrss`; nil where the kernel knows no such features.
    var features: UInt64?
    var lockedFeatures: UInt64 = 0
    var inputOutput = InputOutput()
    var pids: Pids?
    var process: Process?
    var memory: Memory?
    var umask: Int32?
    var working: VirtualPath?
    var root: VirtualPath?
    /// Room in its table of files, zero where it has none any more.
    var descriptors: UInt64 = 0
    var groups: [UInt32] = []
    var capabilities: [UInt64] = []
    /// Signals that wait for its user.
    var queuedSignals: Int64 = 0
  }

  /// Where a file is, as the kernel's `struct path` says.
  struct VirtualPath: Sendable {
    var mount: VirtualAddress
    var dentry: VirtualAddress
  }

  /// Its numbers in each namespace that sees it.
  struct Pids: Sendable {
    var own: Numbers = []
    var process: Numbers = []
    var group: Numbers = []
    var session: Numbers = []
  }

  /// The fields of `task_io_accounting`, in the order of /proc/PID/io.
  struct InputOutput: Sendable {
    var counters = [UInt64](repeating: 0, count: 7)

    static func += (total: inout InputOutput, more: InputOutput) {
      for index in total.counters.indices { total.counters[index] &+= more.counters[index] }
    }
  }

  /// What the threads of a process share: `signal_struct`.
  struct Process: Sendable {
    var flags: UInt64
    var groupExitCode: Int32
    var minorFaults, majorFaults, childMinorFaults, childMajorFaults: UInt64
    var childUserTime, childSystemTime, guestTime, childGuestTime: UInt64
    /// Pairs of the limits in force and the highest to be had, by RLIMIT_*.
    var limits: [UInt64]
    var pending: UInt64
    var oomScoreAdjustment: Int16
    var inputOutput: InputOutput
    var isDumpingCore: Bool
    /// The controlling terminal's device number, as `stat` shows it, and the group in its foreground.
    var terminal: UInt64 = 0
    var terminalGroup: Int32 = -1
  }

  /// Of `mm_struct`; addresses in bytes, sizes in pages where not said otherwise.
  struct Memory: Sendable {
    var address: VirtualAddress
    var codeStart, codeEnd, stackStart, dataStart, dataEnd, heapStart: UInt64
    var argumentStart, argumentEnd, environmentStart, environmentEnd: UInt64
    var total, highestTotal, highestResident, locked, pinned, data, code, stack: UInt64
    /// Bytes.
    var pageTables: UInt64
    var filePages, anonymousPages, sharedPages, swappedPages: UInt64
    var hugePages: UInt64
    var flags: UInt64
    var isDumpingCore: Bool
    var untagMask: UInt64?
    var executable: VirtualAddress

    var resident: UInt64 { filePages &+ anonymousPages &+ sharedPages }
    /// Bytes of the program's own code.
    var text: UInt64 { ((codeEnd &+ 4095) & ~4095) &- (codeStart & ~4095) }
  }
}
