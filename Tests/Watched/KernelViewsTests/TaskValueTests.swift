import KernelViews
import Testing

@testable import Binding
@testable import CodeViews
@testable import LinuxKernel
@testable import MachineViews
@testable import NetworkViews
@testable import StorageViews
@testable import TaskViews
@testable import WaitingViews

struct TaskStateTests {
  /// The letters of the kernel's `task_state_array`, and the states that it shows under another one's.
  @Test(
    arguments: [
      (0x0, 0x0, .running), (0x1, 0, .sleeping), (0x2, 0, .diskSleep), (0x4, 0, .stopped), (0x8, 0, .tracingStop),
      (0x0, 0x10, .dead), (0x0, 0x20, .zombie), (0x40, 0, .parked),
      // Sleeps that do not count for the load; killable ones; waits for a lock of a realtime kernel; frozen ones.
      (0x402, 0, .idle), (0x102, 0, .diskSleep), (0x1000, 0, .diskSleep), (0x8000, 0, .diskSleep),
      (0x80, 0x10, .dead), (0x2000, 0, .running), (.max, .max, .diskSleep), (0x400, 0, .running),
    ] as [(UInt64, UInt64, TaskState)])
  func readsStates(state: UInt64, exitState: UInt64, expected: TaskState) {
    #expect(TaskState(state: state, exitState: exitState) == expected)
  }
}

struct CPUTimeTests {
  @Test func splitsTheExactTotalAsSampled() {
    let time = CPUTime(user: 30, system: 10, total: 100)
    #expect(time.adjusted(previous: (0, 0)) == (75, 25))
    // Never less than was reported before.
    #expect(time.adjusted(previous: (80, 10)) == (80, 20))
    #expect(time.adjusted(previous: (10, 40)) == (60, 40))
    #expect(time.adjusted(previous: (60, 60)) == (60, 60))
    #expect(CPUTime(user: 0, system: 1, total: 9).adjusted(previous: (0, 0)) == (0, 9))
    #expect(CPUTime(user: 1, system: 0, total: 9).adjusted(previous: (0, 0)) == (9, 0))
    #expect(CPUTime.zero.adjusted(previous: (0, 0)) == (0, 0))
  }

  /// No values trap, however they contradict each other.
  @Test func survivesAnyValues() {
    let values: [UInt64] = [0, 1, 2, 1 << 31, 1 << 32, 1 << 62, 1 << 63, .max - 1, .max]
    for user in values {
      for system in values {
        for total in values {
          let time = CPUTime(user: user, system: system, total: total)
          for previous in values {
            for other in values { _ = time.adjusted(previous: (previous, other)) }
          }
          var sum = time
          sum += time
          #expect(sum.user == user &* 2)
        }
      }
    }
  }
}

struct LogValueTests {
  @Test func ringsWrap() {
    #expect(LogReader.runs(from: 6, count: 4, size: 8) == [6..<8, 0..<2])
    #expect(LogReader.runs(from: 0, count: 8, size: 8) == [0..<8])
    #expect(LogReader.runs(from: 7, count: 1, size: 8) == [7..<8])
    #expect(LogReader.runs(from: 7, count: 8, size: 8) == [7..<8, 0..<7])
    #expect(LogReader.runs(from: 3, count: 0, size: 8) == [])
  }

  @Test(arguments: [
    (0 as UInt64, "    0.000000"), (1_999, "    0.000001"), (12_345_678_901, "   12.345678"),
    (123_456_000_000_000, "123456.000000"), (.max, "18446744073.709551"),
  ])
  func printsSeconds(nanoseconds: UInt64, expected: String) {
    #expect(LogRecord.seconds(nanoseconds) == expected)
  }
}

struct SocketValueTests {
  @Test(
    arguments: [(0, 1), (0xffff, 0x1_0000), (UInt64(Int.max), .max), (1 << 63, .max), (.max, .max)] as [(UInt64, Int)])
  func countsBuckets(mask: UInt64, expected: Int) {
    #expect(SocketReader.buckets(mask: mask) == expected)
  }
}
