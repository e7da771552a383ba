import Glibc
import KernelViews
public import LinuxKernel
import Memory
public import Records
public import Views

/// The last words of a kernel with their stacks unwound: what a device kept, and what this side knows of the kernel's build.
public struct LastWordsReport: Sendable {
  public let words: LastWords
  /// Of each task its stack, in their order.
  public let stacks: [KernelStack]
  /// What those who read it ought to know: what could not be read, and where symbols come from.
  public let notes: [String]

  /// Unwinds the stacks.
  ///
  /// - Parameters:
  ///   - words: what the device kept.
  ///   - live: the kernel that is in the host's memory now. Where it is still the one that the words are of, its modules tell
  ///     their symbols, too.
  ///   - known: where builds are kept, for a boot that is over.
  public init(_ words: LastWords, live: Kernel?, known: BuildFolder?) {
    self.words = words
    let head = words.head
    var notes: [String] = []
    if head.faulted > 0 {
      notes.append(
        "\(head.faulted) \(head.faulted == 1 ? "part" : "parts") could not be gathered whole"
          + (head.faults.first.map { ": \($0)" } ?? ""))
    }
    let saved = words.tasks.map { task in
      SavedStack(
        tid: task.pid, tgid: task.tgid, comm: task.comm, stack: task.stack,
        pointer: task.stackPointer.map { VirtualAddress($0) }, start: VirtualAddress(task.stackStart),
        bytes: task.stackBytes, passing: task.role.contains(.panicked) ? ["panic", "vpanic"] : [])
    }
    let modules = words.modules.map {
      SavedModule(name: $0.name, address: VirtualAddress($0.address), text: $0.text)
    }
    func unwound(by kernel: Kernel, isGone: Bool) -> StackTable? {
      do throws(KernelError) {
        let table = try kernel.stacks(saved: saved, modules: isGone ? modules : nil)
        notes += table.faults.map { "\($0)" }
        return table
      } catch {
        notes.append("\(error)")
        return nil
      }
    }
    var table: StackTable?
    if let live, Self.isSameBoot(live, words) {
      table = unwound(by: live, isGone: false)
    } else if let kept = known?.kernel(release: head.release, buildID: head.buildID, slide: head.slide) {
      table = unwound(by: kept, isGone: true)
      if table != nil {
        notes.append(
          "that boot is over: symbols are kept ones of its build, and code of modules is told by their names only")
      }
    } else {
      notes.append(
        "that boot is over, and no symbols of Linux \(head.release) are kept here: stacks are addresses only. They are kept by "
          + "looking at a host of that build once, without --no-known.")
    }
    stacks =
      table?.stacks
      ?? words.tasks.map { task in
        KernelStack(unread: task.pid, tgid: task.tgid, comm: task.comm)
      }
    self.notes = notes
  }

  /// Whether the kernel that is there now is the one that said these words, and nothing of it was overwritten since.
  private static func isSameBoot(_ kernel: Kernel, _ words: LastWords) -> Bool {
    let head = words.head
    guard kernel.release == head.release, kernel.found.slide == head.slide,
      head.buildID.isEmpty || (kernel.found.buildID ?? "") == head.buildID,
      Text.bootID(head.boot) == kernel.bootID
    else { return false }
    // A boot of which nobody has asked the id: its clock goes on, another one's began anew.
    return ((try? kernel.uptime()) ?? 0) >= words.state.now
  }
}

// MARK: - Of a finding

extension LastWordsReport {
  /// Whether last words are kept of what a device found.
  public static func areKept(of record: FindingRecord) -> Bool { DeviceDetectors.areWordsKept(record.detector) }

  /// Those that were kept when a device found something, among all that there are.
  public static func head(of record: FindingRecord, among heads: [LastWords.Head]) -> LastWords.Head? {
    // The same finding in a later boot has the same identity, and is made later.
    heads.filter {
      $0.finding == record.identity && $0.boot == record.boot && $0.taken.device >= record.first.device
    }.min { $0.number < $1.number }
  }

  /// What a finding says of them.
  public static func evidence(_ head: LastWords.Head) -> Finding.Evidence {
    .init("last words that the device kept", seen: "grassctl last-words \(head.number)")
  }
}

// MARK: - As people read it

extension LastWordsReport {
  /// What the finding was that they were taken of.
  public static func cause(_ head: LastWords.Head) -> String { DeviceDetectors.name(head.detector) }

  /// One line about words that were not read yet.
  public static func line(_ head: LastWords.Head) -> String {
    let boot = Text.bootID(head.boot).map { ", boot \($0)" } ?? ""
    return "last words \(head.number) (\(cause(head))) of Linux \(Array(head.release.utf8).printable)\(boot), taken "
      + "\(Self.date(head.taken.utc)), \(Text.seconds(head.taken.guest)) s after it booted"
  }

  /// The whole of it: what happened, the log's end, CPUs, tasks and stacks.
  ///
  /// `tail` says how many records of the log; nil for all that were kept.
  public func text(tail: Int?) -> String {
    let state = words.state
    var text = "\(Self.line(words.head))\n"
    text +=
      state.panicCPU.map { "the kernel panicked on CPU \($0)" }
      ?? "no CPU panicked\(state.isInOops ? ", one was in an oops" : "")"
    text +=
      ", taint \(Self.taint(state.taint)), \(state.threads) tasks of \(state.forks) since boot, "
      + "\(state.freePages / 256) MiB free, \(state.killsForMemory) killed for memory\n"
    let lines = tail.map { words.lines.suffix($0) } ?? words.lines[...]
    text += "\nLOG, the newest \(lines.count) of \(words.lines.count) records that were kept\n"
    for line in lines { for part in line.record.lines { text += part.printable + "\n" } }
    text += "\nCPU ONLINE     PID RUNNABLE    SWITCHES       CLOCK  NEXT TIMER\n"
    for cpu in words.cpus {
      text += Self.columns([
        ("\(cpu.number)", 3), (cpu.isOnline ? "yes" : "no", 6), ("\(cpu.pid)", 7), ("\(cpu.runnable)", 8),
        ("\(cpu.switches)", 11),
        (Text.seconds(cpu.clock), 11), (cpu.hasTimer ? Text.seconds(cpu.nextEvent) : "-", 11),
      ])
    }
    text += "\nS     PID    PPID   UID CPU  CPU TIME COMMAND\n"
    for task in words.tasks {
      text += Self.columns(
        [
          ("\(task.letter)", 1), ("\(task.pid)", 7), ("\(task.ppid)", 7), ("\(task.uid)", 5),
          (task.cpu.map { "\($0)" } ?? "-", 3),
          (Text.seconds(task.utime &+ task.stime), 9),
        ], last: task.comm.printable)
    }
    for (task, stack) in zip(words.tasks, stacks) {
      let id = task.pid == task.tgid ? "\(task.pid)" : "\(task.tgid)/\(task.pid)"
      text += "\n\(id) \(task.comm.printable) (\(Self.why(task)))\n"
      for frame in stack.frames { text += "  \(frame.isGuess ? "? " : "")\(Self.name(frame))\n" }
      if case .broken(let fault) = stack.ending { text += "  (no further: \(fault))\n" }
      if stack.frames.isEmpty, task.stackBytes.isEmpty { text += "  (none)\n" }
    }
    return text
  }

  private static func columns(_ columns: [(text: String, width: Int)], last: String? = nil) -> String {
    let cells = columns.map { String(repeating: " ", count: max(0, $0.width - $0.text.utf8.count)) + $0.text }
    return (cells + (last.map { [$0] } ?? [])).joined(separator: " ") + "\n"
  }

  private static func why(_ task: LastWords.Task) -> String {
    let cpu = task.cpu.map { " on CPU \($0)" } ?? ""
    if task.role.contains(.panicked) { return "panicked\(cpu)" }
    if task.role.contains(.running) {
      return "ran\(cpu): its place was in registers, and what lies innermost may be of calls that had ended"
    }
    return "could not be woken"
  }

  private static func name(_ frame: KernelStack.Frame) -> String {
    guard let place = frame.place else {
      return "\(frame.address)\(frame.module.map { " [\($0.printable)]" } ?? "")"
    }
    return Array(place.description.utf8).printable
  }

  /// The letters that the kernel prints for its taint (Documentation/admin-guide/tainted-kernels.rst).
  private static func taint(_ bits: UInt64) -> String {
    let letters = Array("PFSRMBUDAWCIOELKXTN")
    let set = (0..<64).filter { bits >> UInt64($0) & 1 == 1 }
    return set.isEmpty ? "none" : set.map { $0 < letters.count ? String(letters[$0]) : "\($0)" }.joined()
  }

  private static func date(_ nanoseconds: UInt64) -> String {
    var seconds = time_t(clamping: nanoseconds / 1_000_000_000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return "\(Int(parts.tm_year) + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
      + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
  }
}

extension LastWords.Line {
  fileprivate var record: LogRecord {
    LogRecord(
      sequence: sequence, time: time, level: .init(rawValue: level & 7) ?? .debug, facility: facility, caller: caller,
      text: text)
  }
}

extension LastWords.CPU {
  /// Whether its timer was set: KTIME_MAX is no time.
  fileprivate var hasTimer: Bool { nextEvent != 0 && nextEvent < UInt64(Int64.max) }
}

extension LastWords.Task {
  /// The letter that ps shows.
  fileprivate var letter: Character { TaskState(state: UInt64(state), exitState: UInt64(exitState)).rawValue }
}

// MARK: - As JSON has it

extension LastWordsReport {
  /// What is said of words that were not read yet.
  public static func value(_ head: LastWords.Head) -> ViewValue { .object(members(head)) }

  private static func members(_ head: LastWords.Head) -> [ViewValue.Member] {
    [
      .init("number", head.number), .init("cause", cause(head)), .init("kernel", Array(head.release.utf8)),
      .init("build", head.buildID), .init("boot", Text.bootID(head.boot)),
      .init(
        "taken",
        ViewValue.object([
          .init("guest", Double(head.taken.guest) / 1e9), .init("utc", Double(head.taken.utc) / 1e9),
        ])),
    ]
  }

  /// One object; every number as the kernel has it, times in nanoseconds where their names say so.
  public var value: ViewValue {
    let (head, state) = (words.head, words.state)
    return .object(
      Self.members(head) + [
        .init("panic_cpu", state.panicCPU), .init("oops_in_progress", state.isInOops), .init("tainted", state.taint),
        .init("threads", state.threads), .init("forks", state.forks), .init("free_pages", state.freePages),
        .init("oom_kills", state.killsForMemory), .init("jiffies", state.ticks),
        .init("log", ViewValue.list(words.lines.map(Self.value))),
        .init("cpus", ViewValue.list(words.cpus.map(Self.value))),
        .init("tasks", ViewValue.list(zip(words.tasks, stacks).map(Self.value))),
        .init("modules", ViewValue.list(words.modules.map { .bytes($0.name) })),
        .init("notes", ViewValue.list(notes.map { .text($0) })),
      ])
  }

  private static func value(_ line: LastWords.Line) -> ViewValue {
    .object([
      .init("seq", line.sequence), .init("ts_nsec", line.time), .init("level", line.level),
      .init("facility", line.facility), .init("caller_id", line.caller), .init("text", line.text),
    ])
  }

  private static func value(_ cpu: LastWords.CPU) -> ViewValue {
    .object([
      .init("cpu", cpu.number), .init("online", cpu.isOnline), .init("pid", cpu.pid), .init("runnable", cpu.runnable),
      .init("switches", cpu.switches),
      .init("clock_nsec", cpu.clock), .init("next_event_nsec", cpu.nextEvent),
    ])
  }

  private static func value(_ task: LastWords.Task, _ stack: KernelStack) -> ViewValue {
    var roles: [String] = []
    if task.role.contains(.panicked) { roles.append("panicked") }
    if task.role.contains(.running) { roles.append("running") }
    if task.role.contains(.waiting) { roles.append("waiting") }
    let error: ViewValue = if case .broken(let fault) = stack.ending { .text("\(fault)") } else { .absent }
    return .object([
      .init("pid", task.pid), .init("tgid", task.tgid), .init("ppid", task.ppid), .init("comm", task.comm),
      .init("state", task.letter), .init("uid", task.uid), .init("cpu", task.cpu),
      .init("roles", ViewValue.list(roles.map { .text($0) })), .init("start_nsec", task.start),
      .init("utime_nsec", task.utime), .init("stime_nsec", task.stime),
      .init("stack", ViewValue.list(stack.frames.map { .text(name($0)) })),
      .init(
        "guessed", ViewValue.list(stack.frames.indices.filter { stack.frames[$0].isGuess }.map { .signed(Int64($0)) })),
      .init("addresses", ViewValue.list(stack.frames.map { $0.address.viewValue })), .init("error", error),
    ])
  }
}
