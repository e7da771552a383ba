public import Foundation

/// A thread that starts processes and lives as long as this program.
///
/// QEMU asks the kernel to be killed when its parent dies (`setpriv --pdeathsig`), and the kernel takes the thread that
/// forked it for its parent. Threads of a pool come and go, so processes are started from this one.
public final class Spawner: @unchecked Sendable {
  // Sendable because the condition guards the jobs.
  public static let shared = Spawner()
  private let condition = NSCondition()
  private var jobs: [() -> Void] = []

  private init() {
    let thread = Thread { [self] in
      while true {
        condition.lock()
        while jobs.isEmpty { condition.wait() }
        let job = jobs.removeFirst()
        condition.unlock()
        job()
      }
    }
    thread.name = "lab spawner"
    thread.start()
  }

  /// Starts `process` from the spawner's thread.
  public func start(_ process: Process) throws {
    let done = DispatchSemaphore(value: 0)
    nonisolated(unsafe) var failure: (any Error)?
    condition.lock()
    jobs.append {
      do { try process.run() } catch { failure = error }
      done.signal()
    }
    condition.signal()
    condition.unlock()
    done.wait()
    if let failure {
      throw LabError("cannot start \(process.executableURL?.path ?? "a process"): \(failure); run scripts/setup")
    }
  }
}
