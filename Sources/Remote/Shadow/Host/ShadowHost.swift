import Glibc
import LinuxKernel
import Memory
import NetworkViews
import StorageViews
import Synchronization

/// The watched host as the files of one tree read it.
///
/// Processes are read all at once and kept for a moment: a tool that goes through them file by file would otherwise read each
/// of them several times, and see each at another time.
final class ShadowHost: Sendable {
  let kernel: Kernel
  /// What holds for as long as this kernel runs.
  let constants: HostConstants
  private let kept = Mutex<Kept<ProcessTable>?>(nil)
  private let keptSockets = Mutex<Kept<[NetworkSocket]>?>(nil)
  private let keptMounts = Mutex<Kept<[MountPoint]>?>(nil)

  struct Kept<Value: Sendable> {
    var value: Value
    var read: ContinuousClock.Instant
    /// How long reading it took.
    var cost: Duration

    /// For a tenth of a second, which people and tools do not notice; where reading takes longer, for so long that most of the time
    /// is not spent in it, a second at most.
    var isFresh: Bool { ContinuousClock.now - read < min(.seconds(1), max(.milliseconds(100), cost * 10)) }
  }

  /// What is kept, or else what `read` gives now; others who ask meanwhile wait for the same reading.
  func recent<Value: Sendable>(
    _ kept: borrowing Mutex<Kept<Value>?>, _ read: () throws -> Value
  ) throws -> Value {
    try kept.withLock { kept in
      if let kept, kept.isFresh { return kept.value }
      let start = ContinuousClock.now
      let value = try read()
      kept = Kept(value: value, read: .now, cost: .now - start)
      return value
    }
  }

  init(_ kernel: Kernel) throws(KernelError) {
    self.kernel = kernel
    constants = try HostConstants(kernel)
  }

  /// The processes as they are now, or were a moment ago.
  ///
  /// Others who ask meanwhile wait for the same reading.
  func processes() throws -> ProcessTable {
    try recent(kept) { try kernel.processTable() }
  }

  /// The mounts of the first process, likewise.
  func mounts() throws -> [MountPoint] {
    try recent(keptMounts) { try Self.whole { try kernel.mounts() }.mounts }
  }

  /// The sockets of all namespaces, without who has them open, likewise.
  func sockets() throws -> [NetworkSocket] {
    try recent(keptSockets) { try Self.whole { try kernel.socketsWithoutOwners() }.sockets }
  }

  /// How long is waited before what was torn is read anew: on a host that opens and closes all the time, each reading may meet a
  /// change, and a list that is long is torn more often.
  private static let pauses: [useconds_t] = [1000, 2000, 4000, 8000, 16000, 32000]

  /// What `read` gives, whole: read again, a moment later, while something of it is torn.
  static func whole<Answer: Faulted>(_ read: () throws -> Answer) throws -> Answer {
    for pause in pauses {
      let answer = try read()
      if answer.faults.isEmpty { return answer }
      usleep(pause)
    }
    return try read().whole()
  }

  /// A thread, where there still is one of this id.
  func thread(_ tid: Int32) throws -> ProcessRecord {
    guard let record = try processes()[tid] else { throw ShadowError.missing }
    return record
  }
}
