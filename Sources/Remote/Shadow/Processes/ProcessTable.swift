import Binding
import LinuxKernel
import Memory
import ProcessViews
import Synchronization
import TaskViews

/// All threads of a host at one moment, with what the files of /proc/PID show of them.
struct ProcessTable: Faulted {
  /// In ascending order of thread ids.
  var records: [ProcessRecord]
  var faults: [MemoryFault]
  private let environments = Environments()
  private var places: [Int32: Int]
  private var threads: [Int32: [Int]]

  init(records: [ProcessRecord], faults: [MemoryFault]) {
    self.records = records
    self.faults = faults
    places = Dictionary(
      records.enumerated().map { ($1.task.tid, $0) }, uniquingKeysWith: { first, _ in first })
    threads = Dictionary(grouping: records.indices) { records[$0].task.tgid }
  }

  /// The thread with this id.
  subscript(tid: Int32) -> ProcessRecord? { places[tid].map { records[$0] } }

  /// The threads of a process, in ascending order.
  func threads(of tgid: Int32) -> [ProcessRecord] { (threads[tgid] ?? []).map { records[$0] } }

  /// The ids of the processes, in ascending order.
  var processes: [Int32] { records.filter(\.task.isLeader).map(\.task.tgid) }
}

extension ProcessTable {
  /// The environment of one of its threads.
  ///
  /// Who asks for that of a second one goes through all of them, and then all are read at once: one by one they would cost several
  /// round trips each.
  func environment(of record: ProcessRecord, _ kernel: Kernel) throws -> TaskDetails {
    let known = environments.state.withLock { state in
      defer { state.hasOne = true }
      if state.all == nil, state.hasOne {
        let all = try? kernel.details(of: records.map(\.task), .environment)
        let found = zip(records, all?.details ?? []).map { ($0.task.tid, $1) }
        state.all = Dictionary(found, uniquingKeysWith: { first, _ in first })
      }
      return state.all?[record.task.tid]
    }
    // One that had to be cut, for all of them were too long, is whole by itself.
    if let known, known.environmentFault != .truncated { return known }
    let table = try kernel.details(of: [record.task], .environment).whole()
    guard let details = table.details.first else { throw ShadowError.missing }
    return details
  }

  /// What is read only where somebody asks for it.
  private final class Environments: Sendable {
    let state = Mutex<(hasOne: Bool, all: [Int32: TaskDetails]?)>((false, nil))
  }
}

extension Kernel {
  /// All threads, with what the files of /proc/PID show.
  ///
  /// Cost: that of ``tasks(_:)`` and a dozen round trips.
  func processTable() throws(KernelError) -> ProcessTable {
    try read(with: ProcessReader.self) { reader in
      let tasks = try self.tasks(TaskQuery(includesThreads: true))
      let found = reader.read(tasks.tasks, in: addressSpace)
      return ProcessTable(records: found.records, faults: found.faults)
    }
  }
}
