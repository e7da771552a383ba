import Glibc
import Host
import Region

/// How long to look again and again before going to sleep: waking up from sleep costs more than a short answer takes.
///
/// What is short depends on the machine and the way: it is learned from how long waits took before.
struct SpinBudget {
  private var begin: UInt64 = 0
  private var looks: UInt32 = 0
  private var end: UInt64 = 0
  /// How long waits take, as far as they were worth spinning, in nanoseconds.
  private var usual: UInt64 = 0

  /// In nanoseconds.
  private static let least: UInt64 = 30_000
  private static let most: UInt64 = 1_000_000

  /// Begins a wait.
  mutating func start() {
    begin = SystemCall.monotonicNanoseconds()
    end = begin + min(max(4 * usual, Self.least), Self.most)
  }

  /// Ends a wait.
  ///
  /// The next ones spin some times as long as waits took of late. A wait that took longer than the most that is spun makes
  /// the next ones give up sooner.
  mutating func finish() {
    let elapsed = SystemCall.monotonicNanoseconds() - begin
    usual -= usual / 8
    if elapsed <= Self.most { usual += elapsed / 8 }
  }

  /// Whether to look again.
  ///
  /// Every so often it gives the processor to whoever else wants it: often that is the other side.
  mutating func mayContinue() -> Bool {
    guard SystemCall.monotonicNanoseconds() < end else { return false }
    looks &+= 1
    if looks % 4 == 0 { sched_yield() }
    return true
  }
}
