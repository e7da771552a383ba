import Host
import Region
import Synchronization
import Verbs

/// Tries to make a connection until it has one, at growing intervals, on a thread of its own.
final class VerbsReinforcement: Sendable {
  private let isStopped = Atomic<Bool>(false)
  private let found = Locked<QueuePair?>(nil)

  /// Between two attempts, in nanoseconds.
  private static let shortestPause: UInt64 = 250_000_000
  private static let longestPause: UInt64 = 15_000_000_000
  /// How soon the thread notices that it is to end, in nanoseconds.
  private static let slice: UInt64 = 50_000_000

  /// Returns nil where no thread can be had.
  init?(_ join: @escaping @Sendable () -> QueuePair?) {
    // The thread may be in the middle of an attempt when nobody wants its connection any more: it ends by itself.
    let thread = try? DedicatedThread(name: "grass-verbs-join") { [self] in run(join) }
    guard let thread else { return nil }
    thread.detach()
  }

  /// The connection, once there is one.
  func take() -> QueuePair? {
    found.withLock { path in
      defer { path = nil }
      return path
    }
  }

  func stop() { isStopped.store(true, ordering: .relaxed) }

  private func run(_ join: () -> QueuePair?) {
    var pause = Self.shortestPause
    while true {
      for _ in 0..<pause / Self.slice {
        if isStopped.load(ordering: .relaxed) { return }
        SystemCall.sleep(nanoseconds: Self.slice)
      }
      if let path = join() {
        found.withLock { $0 = path }
        return
      }
      pause = min(pause * 2, Self.longestPause)
    }
  }
}
