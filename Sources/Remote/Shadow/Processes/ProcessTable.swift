import Binding
import LinuxKernel
import Memory
import TaskViews

/// All threads of a host at one moment, with what the files of /proc/PID show of them.
struct ProcessTable: Faulted {
  /// In ascending order of thread ids.
  var records: [ProcessRecord]
  var faults: [MemoryFault]
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
