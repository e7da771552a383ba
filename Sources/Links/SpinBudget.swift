import Glibc
import Mailbox

/// How long to look again and again before going to sleep: waking up from sleep costs more than a short answer takes.
struct SpinBudget {
  private let nanoseconds: UInt64
  private var end: UInt64 = 0

  init(nanoseconds: UInt64 = 30_000) { self.nanoseconds = nanoseconds }

  mutating func start() { end = SystemCall.monotonicNanoseconds() + nanoseconds }

  /// Whether to look again. Gives the processor to whoever else wants it: often that is the other side.
  func mayContinue() -> Bool {
    guard SystemCall.monotonicNanoseconds() < end else { return false }
    sched_yield()
    return true
  }
}
