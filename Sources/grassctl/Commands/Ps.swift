import ArgumentParser
import KernelViews

struct Ps: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists processes, and threads on request.",
    discussion: """
      RSS and VSZ are in KiB; START is in seconds since boot; TIME is minutes:seconds of CPU time. Names of kernel \
      threads stand in brackets. In JSON, keys and units are those of /proc/PID/stat and /proc/PID/status; a byte that \
      is not UTF-8 is written as \\udcXX, which Python's surrogateescape gives back.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Flag(name: [.customShort("T"), .long], help: "List every thread.")
  var threads = false

  @Option(name: .shortAndLong, help: "Only this process.")
  var pid: Int32?

  func run() throws {
    let kernel = try source.openKernel()
    var table = try reporting { try kernel.tasks(TaskQuery(includesThreads: threads)) }
    if let pid { table.tasks.removeAll { $0.tgid != pid } }
    if output.json {
      writeOutput(JSON.lines(table.tasks.map { json(of: $0) }))
    } else {
      writeOutput(text(of: table.tasks))
    }
    for task in table.mismatches {
      writeNote(
        "process \(task.tgid) (\(task.comm.printable)) is in the "
          + (task.sources.contains(.taskList)
            ? "task list but not in the pid table" : "pid table but not in the task list")
          + ": it is starting or ending, or it is being hidden")
    }
    if !table.faults.isEmpty {
      writeNote("\(table.faults.count) entries led to no task, for example: \(table.faults[0])")
      throw ExitStatus.partial
    }
  }

  private func text(of tasks: [KernelTask]) -> String {
    var table = Table(
      [("UID", .right), ("PID", .right)] + (threads ? [("TID", .right)] : [])
        + [
          ("PPID", .right), ("S", .left), ("NI", .right), ("CPU", .right), ("VSZ", .right), ("RSS", .right),
          ("TTY", .left), ("START", .right), ("TIME", .right), ("COMMAND", .left),
        ])
    for task in tasks {
      let time = threads ? task.userTime &+ task.systemTime : task.processUserTime &+ task.processSystemTime
      table.add(
        ["\(task.euid)", "\(task.tgid)"] + (threads ? ["\(task.tid)"] : [])
          + [
            "\(task.ppid)", String(task.state.rawValue), "\(task.nice)", "\(task.cpu)", "\(task.virtualPages &* 4)",
            "\(task.residentPages &* 4)", task.tty.map { Array($0.utf8).printable } ?? "?",
            Self.hundredths(task.startTime), Self.minutes(time), command(of: task),
          ])
    }
    return table.text()
  }

  private func command(of task: KernelTask) -> String {
    if task.commandLine.isEmpty || (threads && !task.isLeader) { return "[\(task.comm.printable)]" }
    let line = task.arguments.map(\.printable).joined(separator: " ")
    return task.commandLineFault == nil ? line : line + " …"
  }

  static func hundredths(_ nanoseconds: UInt64) -> String {
    let fraction = nanoseconds / 10_000_000 % 100
    return "\(nanoseconds / 1_000_000_000).\(fraction < 10 ? "0" : "")\(fraction)"
  }

  static func minutes(_ nanoseconds: UInt64) -> String {
    let seconds = nanoseconds / 1_000_000_000
    return "\(seconds / 60):\(seconds % 60 < 10 ? "0" : "")\(seconds % 60)"
  }

  /// Nanoseconds in the clock ticks of /proc: USER_HZ is 100 on every x86-64 kernel.
  private static func ticks(_ nanoseconds: UInt64) -> JSON { .unsigned(nanoseconds / 10_000_000) }

  private func json(of task: KernelTask) -> JSON {
    let user = threads ? task.userTime : task.processUserTime
    let system = threads ? task.systemTime : task.processSystemTime
    var members: [(String, JSON)] = [
      ("pid", .integer(threads ? task.tid : task.tgid)), ("tgid", .integer(task.tgid)), ("ppid", .integer(task.ppid)),
      ("uid", .integer(task.uid)), ("euid", .integer(task.euid)), ("suid", .integer(task.suid)),
      ("fsuid", .integer(task.fsuid)), ("gid", .integer(task.gid)), ("egid", .integer(task.egid)),
      ("sgid", .integer(task.sgid)), ("fsgid", .integer(task.fsgid)), ("state", .string(String(task.state.rawValue))),
      ("comm", .bytes(task.comm)), ("cmdline", .array(task.arguments.map { .bytes($0) })),
      ("starttime", Self.ticks(task.startTime)), ("utime", Self.ticks(user)), ("stime", Self.ticks(system)),
      ("rss", .unsigned(task.residentPages)), ("vsize", .unsigned(task.virtualPages &* 4096)),
      ("tty", task.tty.map { .string($0) } ?? .null), ("nice", .integer(task.nice)),
      ("priority", .integer(task.priority)),
      ("processor", .integer(task.cpu)), ("num_threads", .integer(task.threadCount)),
      ("kthread", .bool(task.isKernelThread)), ("task_struct", .string("\(task.address)")),
    ]
    switch task.commandLineFault {
    case .unreadable(let fault)?: members.append(("cmdline_error", .string("\(fault)")))
    case .truncated?: members.append(("cmdline_error", .string("longer than what is read at most")))
    case nil: break
    }
    if task.isLeader, task.sources != [.pidTable, .taskList] {
      members.append(("only_in", .string(task.sources.contains(.taskList) ? "task_list" : "pid_table")))
    }
    return .object(members)
  }
}
