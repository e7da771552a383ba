/// CPU time as the kernel accounts it, in nanoseconds, and as it reports it.
struct CPUTime: Sendable {
  var user: UInt64
  var system: UInt64
  /// What the scheduler measured: exact where the two above are sampled.
  var total: UInt64

  static let zero = CPUTime(user: 0, system: 0, total: 0)

  static func += (lhs: inout CPUTime, rhs: CPUTime) {
    lhs.user &+= rhs.user
    lhs.system &+= rhs.system
    lhs.total &+= rhs.total
  }

  /// The exact total split in the ratio of the samples, never less than what was reported before.
  ///
  /// Source: the kernel's `cputime_adjust` (kernel/sched/cputime.c).
  func adjusted(previous: (user: UInt64, system: UInt64)) -> (user: UInt64, system: UInt64) {
    if previous.user &+ previous.system >= total { return previous }
    var system = self.system
    if system == 0 {
      system = 0
    } else if user == 0 {
      system = total
    } else {
      let sum = self.system &+ user
      let product = self.system.multipliedFullWidth(by: total)
      // The quotient fits because the system time is part of the sum; hostile values may deny that.
      system = sum > product.high ? sum.dividingFullWidth(product).quotient : total
      system = min(system, total)
    }
    system = max(system, previous.system)
    var user = total &- min(system, total)
    if user < previous.user {
      user = previous.user
      system = total &- min(user, total)
    }
    return (user, system)
  }
}
