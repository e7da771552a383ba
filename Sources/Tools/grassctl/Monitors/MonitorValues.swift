import KernelViews
import Records
import Remote

// What the views of a kernel call what a monitor found.

extension ThreadList.Thread {
  var letter: TaskState { TaskState(state: UInt64(state), exitState: UInt64(exitState)) }

  /// PF_KTHREAD (include/linux/sched.h).
  static let kernelFlag: UInt32 = 0x20_0000
}

extension PanicState.Line {
  var record: LogRecord {
    LogRecord(
      sequence: sequence, time: time, level: LogRecord.Level(rawValue: level) ?? .debug, facility: facility,
      caller: caller, text: text)
  }
}
