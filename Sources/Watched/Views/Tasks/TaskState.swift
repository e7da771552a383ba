/// What a task is doing, as the letter that /proc and ps show.
///
/// Source: the kernel's `task_state_array` (fs/proc/array.c) and `__task_state_index` (include/linux/sched.h).
public enum TaskState: Character, Sendable, CaseIterable {
  case running = "R"
  case sleeping = "S"
  case diskSleep = "D"
  case stopped = "T"
  case tracingStop = "t"
  case dead = "X"
  case zombie = "Z"
  case parked = "P"
  case idle = "I"

  /// The state that a task's `__state` and `exit_state` add up to.
  public init(state: UInt64, exitState: UInt64) {
    // Bits of __state, the same in all kernels from 6.1 on; macros, so BTF does not carry them.
    let uninterruptible: UInt64 = 0x2
    let noLoad: UInt64 = 0x400
    let rtLockWait: UInt64 = 0x1000
    let frozen: UInt64 = 0x8000
    let reported: UInt64 = 0x7f

    if state & (rtLockWait | frozen) != 0 {
      self = .diskSleep
    } else if state & (uninterruptible | noLoad) == uninterruptible | noLoad {
      self = .idle
    } else {
      switch (state | exitState) & reported {
      case 0: self = .running
      case 0x1: self = .sleeping
      case 0x2...0x3: self = .diskSleep
      case 0x4...0x7: self = .stopped
      case 0x8...0xf: self = .tracingStop
      case 0x10...0x1f: self = .dead
      case 0x20...0x3f: self = .zombie
      default: self = .parked
      }
    }
  }
}
