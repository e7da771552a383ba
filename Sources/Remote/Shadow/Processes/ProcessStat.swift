import TaskViews

/// The line of /proc/PID/stat.
///
/// Source: fs/proc/array.c, `do_task_stat`, as it answers one who may see everything.
struct ProcessStat {
  let record: ProcessRecord
  /// The threads of the process where the whole process is shown; none for a thread's own line.
  let threads: [ProcessRecord]

  func bytes() throws -> [UInt8] {
    let (task, details) = (record.task, try record.details.get())
    let isWhole = !threads.isEmpty
    // What all threads have used together is known of the one that leads.
    let leader = threads.first(where: \.task.isLeader)?.task ?? task
    let (process, memory) = (details.process, details.memory)
    var exitCode = details.exitCode
    var (minor, major, guest) = (details.minorFaults, details.majorFaults, details.guestTime)
    if isWhole, let process {
      (minor, major, guest) = (process.minorFaults, process.majorFaults, process.guestTime)
      for thread in threads {
        let other = try thread.details.get()
        minor &+= other.minorFaults
        major &+= other.majorFaults
        guest &+= other.guestTime
      }
      // SIGNAL_STOP_STOPPED and SIGNAL_GROUP_EXIT (include/linux/sched/signal.h).
      if process.flags & 0x5 != 0 { exitCode = process.groupExitCode }
    }
    let count = process == nil ? 0 : task.threadCount
    let isWaiting = (!isWhole || count < 2) && !task.isRunning
    var text = ProcText("\(task.tid) (")
    text.add(task.comm)
    text.add(") \(task.state.rawValue) ")
    text.numbers([
      Int64(process == nil ? 0 : task.ppid), Int64(number(details.pids?.group)), Int64(number(details.pids?.session)),
      Int64(bitPattern: process?.terminal ?? 0), Int64(process?.terminalGroup ?? -1),
    ])
    text.add(" ")
    text.numbers([
      details.flags, minor, process?.childMinorFaults ?? 0, major, process?.childMajorFaults ?? 0,
      ProcText.ticks(isWhole ? leader.processUserTime : task.userTime),
      ProcText.ticks(isWhole ? leader.processSystemTime : task.systemTime),
      ProcText.ticks(process?.childUserTime ?? 0), ProcText.ticks(process?.childSystemTime ?? 0),
    ])
    text.add(" \(task.priority) \(task.nice) \(count) 0 ")
    text.numbers([
      ProcText.ticks(task.startTime), (memory?.total ?? 0) &* 4096, memory?.resident ?? 0,
      // RLIMIT_RSS is 5.
      process?.limits[safe: 10] ?? 0, memory?.codeStart ?? 0, memory?.codeEnd ?? 0, memory?.stackStart ?? 0,
      // The stack and instruction pointers, which are shown of dumping processes only.
      0, 0, details.pending & 0x7fff_ffff, details.blocked & 0x7fff_ffff, details.ignored & 0x7fff_ffff,
      details.caught & 0x7fff_ffff, isWaiting ? 1 : 0, 0, 0,
    ])
    text.add(" \(details.exitSignal) \(task.cpu) ")
    text.numbers([
      details.realTimePriority, details.policy, ProcText.ticks(details.blockDelay), ProcText.ticks(guest),
      ProcText.ticks(process?.childGuestTime ?? 0), memory?.dataStart ?? 0, memory?.dataEnd ?? 0,
      memory?.heapStart ?? 0, memory?.argumentStart ?? 0, memory?.argumentEnd ?? 0, memory?.environmentStart ?? 0,
      memory?.environmentEnd ?? 0,
    ])
    text.line(" \(exitCode)")
    return text.bytes
  }

  private func number(_ numbers: ProcessRecord.Numbers?) -> Int32 {
    guard let numbers, record.process != nil else { return -1 }
    return numbers.first?.number ?? 0
  }
}

extension ProcessRecord {
  /// What it shares with the other threads of its process; nil where it has been taken away from it.
  var process: Process? { (try? details.get())?.process }
}

extension KernelTask {
  /// Whether it runs or wants to.
  var isRunning: Bool { state == .running }
}

extension Array {
  subscript(safe index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}
