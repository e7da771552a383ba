import LinuxKernel
import Memory
import Synchronization

/// The watched host as the files of one tree read it.
///
/// Processes are read all at once and kept for a moment: a tool that goes through them file by file would otherwise read each
/// of them several times, and see each at another time.
final class ShadowHost: Sendable {
  let kernel: Kernel
  /// What holds for as long as this kernel runs.
  let constants: HostConstants
  private let kept = Mutex<Kept?>(nil)

  private struct Kept {
    var table: ProcessTable
    var read: ContinuousClock.Instant
  }

  /// How long processes are kept: shorter than people and tools notice.
  private static let moment = Duration.milliseconds(100)

  init(_ kernel: Kernel) throws(KernelError) {
    self.kernel = kernel
    constants = try HostConstants(kernel)
  }

  /// The processes as they are now, or were a moment ago.
  ///
  /// Others who ask meanwhile wait for the same reading.
  func processes() throws -> ProcessTable {
    try kept.withLock { kept in
      if let kept, ContinuousClock.now - kept.read < Self.moment { return kept.table }
      let table = try kernel.processTable()
      kept = Kept(table: table, read: .now)
      return table
    }
  }

  /// A thread, where there still is one of this id.
  func thread(_ tid: Int32) throws -> ProcessRecord {
    guard let record = try processes()[tid] else { throw ShadowError.missing }
    return record
  }
}
