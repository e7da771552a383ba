import ArgumentParser
import KernelViews
import Output

struct Ps: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists processes, and threads on request.",
    discussion: """
      RSS and VSZ are in KiB; START is in seconds since boot; TIME is minutes:seconds of CPU time. Names of kernel \
      threads stand in brackets. In JSON, keys and units are those of /proc/PID/stat and /proc/PID/status; a byte that \
      is not UTF-8 is written as \\udcXX, which Python's surrogateescape gives back.

      --environ, --namespaces, --cgroup and --capabilities add what they are called after, below each process: as \
      /proc/PID/environ, the numbers of /proc/PID/ns, /proc/PID/cgroup, and of /proc/PID/status the capabilities, \
      NoNewPrivs and Seccomp. In JSON, ns, environ and cgroup are keys, the others as /proc/PID/status calls them.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Flag(name: [.customShort("T"), .long], help: "List every thread.")
  var threads = false

  @Option(name: .shortAndLong, help: "Only this process.")
  var pid: Int32?

  @Flag(name: [.customShort("H"), .long], help: "Parents before their children, as a tree.")
  var forest = false

  @Flag(name: .shortAndLong, help: "The environment, from the process's own memory.")
  var environ = false

  @Flag(name: .long, help: "The numbers of the namespaces that it is in.")
  var namespaces = false

  @Flag(name: .long, help: "The control groups that it is in.")
  var cgroup = false

  @Flag(name: .long, help: "Capabilities, seccomp mode, and whether privileges can be gained.")
  var capabilities = false

  private var parts: TaskDetails.Parts {
    [
      environ ? .environment : [], namespaces ? .namespaces : [], cgroup ? .controlGroups : [],
      capabilities ? .privileges : [],
    ]
  }

  func run() throws {
    let kernel = try source.openKernel()
    var table = try reporting { try kernel.tasks(TaskQuery(includesThreads: threads)) }
    if let pid { table.tasks.removeAll { $0.tgid != pid } }
    let tree = forest ? TaskForest(table.tasks) : nil
    let tasks = tree?.nodes.map(\.task) ?? table.tasks
    var details: [TaskDetails]?
    if !parts.isEmpty {
      let read = try reporting { try kernel.details(of: tasks, parts) }
      details = read.details
      table.faults += read.faults
    }
    if output.json {
      writeOutput(
        JSON.lines(tasks.enumerated().map { json(of: $1, details?[$0], depth: tree?.nodes[$0].depth) }))
    } else {
      writeOutput(text(of: tasks, tree, details))
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

  private func text(of tasks: [KernelTask], _ tree: TaskForest?, _ details: [TaskDetails]?) -> String {
    var table = Table(
      [("UID", .right), ("PID", .right)] + (threads ? [("TID", .right)] : [])
        + [
          ("PPID", .right), ("S", .left), ("NI", .right), ("CPU", .right), ("VSZ", .right), ("RSS", .right),
          ("TTY", .left), ("START", .right), ("TIME", .right), ("COMMAND", .left),
        ])
    for (index, task) in tasks.enumerated() {
      let branch = tree.map { Self.branch($0.nodes[index].continues) } ?? ""
      let time = threads ? task.userTime &+ task.systemTime : task.processUserTime &+ task.processSystemTime
      table.add(
        ["\(task.euid)", "\(task.tgid)"] + (threads ? ["\(task.tid)"] : [])
          + [
            "\(task.ppid)", String(task.state.rawValue), "\(task.nice)", "\(task.cpu)", "\(task.virtualPages &* 4)",
            "\(task.residentPages &* 4)", task.tty.map { Array($0.utf8).printable } ?? "?",
            Span.hundredths(task.startTime), Span.minutes(time), branch + command(of: task),
          ])
    }
    guard let details else { return table.text() }
    var text = ""
    // Headings, then a line for each task.
    for (index, line) in table.text().split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      if index > tasks.count { break }
      text += line + "\n"
      if index > 0 { text += lines(of: details[index - 1]).map { "      \($0)\n" }.joined() }
    }
    return text
  }

  /// The branches of a tree left of a name, as ps draws them.
  private static func branch(_ continues: [Bool]) -> String {
    guard !continues.isEmpty else { return "" }
    return continues.dropLast().map { $0 ? " |  " : "    " }.joined() + " \\_ "
  }

  private func lines(of details: TaskDetails) -> [String] {
    var lines: [String] = []
    if namespaces {
      lines.append(
        "ns: "
          + NamespaceKind.allCases.compactMap { kind in
            details.namespaces[kind].map { "\(kind.rawValue):[\($0.number)]" }
          }.joined(separator: " "))
    }
    if cgroup { lines += details.controlGroups.map { "cgroup: \($0.line.printable)" } }
    if let privileges = details.privileges {
      lines.append(Self.status(privileges).map { "\($0.name): \($0.text)" }.joined(separator: " "))
    }
    if environ {
      lines += details.environment.map { "environ: \($0.printable)" }
      if let fault = details.environmentFault { lines.append("environ: … (\(Self.reason(fault)))") }
    }
    return lines
  }

  /// Lines of /proc/PID/status, and whether they are numbers.
  private static func status(_ privileges: TaskDetails.Privileges) -> [(name: String, text: String, number: Int?)] {
    let sets = privileges.capabilities
    let capabilities = [
      ("CapInh", sets.inheritable), ("CapPrm", sets.permitted), ("CapEff", sets.effective), ("CapBnd", sets.bounding),
      ("CapAmb", sets.ambient),
    ].map { name, set -> (name: String, text: String, number: Int?) in
      let digits = String(set, radix: 16)
      return (name, String(repeating: "0", count: 16 - digits.count) + digits, nil)
    }
    let numbers = [
      ("NoNewPrivs", privileges.noNewPrivileges ? 1 : 0), ("Seccomp", privileges.seccompMode),
      ("Seccomp_filters", privileges.seccompFilters),
    ].map { name, number -> (name: String, text: String, number: Int?) in (name, "\(number)", number) }
    return capabilities + numbers
  }

  private static func reason(_ fault: KernelTask.CommandLineFault) -> String {
    switch fault {
    case .unreadable(let fault): "\(fault)"
    case .truncated: "longer than what is read at most"
    }
  }

  private func command(of task: KernelTask) -> String {
    if task.commandLine.isEmpty || (threads && !task.isLeader) { return "[\(task.comm.printable)]" }
    let line = task.arguments.map(\.printable).joined(separator: " ")
    return task.commandLineFault == nil ? line : line + " …"
  }

  /// Nanoseconds in the clock ticks of /proc: USER_HZ is 100 on every x86-64 kernel.
  private static func ticks(_ nanoseconds: UInt64) -> JSON { .unsigned(nanoseconds / 10_000_000) }

  private func json(of task: KernelTask, _ details: TaskDetails?, depth: Int?) -> JSON {
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
    if let fault = task.commandLineFault { members.append(("cmdline_error", .string(Self.reason(fault)))) }
    if task.isLeader, task.sources != [.pidTable, .taskList] {
      members.append(("only_in", .string(task.sources.contains(.taskList) ? "task_list" : "pid_table")))
    }
    if let depth { members.append(("depth", .integer(depth))) }
    if let details { members += self.members(of: details) }
    return .object(members)
  }

  private func members(of details: TaskDetails) -> [(String, JSON)] {
    var members: [(String, JSON)] = []
    if environ {
      members.append(("environ", .array(details.environment.map { .bytes($0) })))
      if let fault = details.environmentFault { members.append(("environ_error", .string(Self.reason(fault)))) }
    }
    if namespaces {
      members.append(
        (
          "ns",
          .object(
            NamespaceKind.allCases.compactMap { kind in
              details.namespaces[kind].map { (kind.rawValue, .unsigned($0.number)) }
            })
        ))
    }
    if cgroup { members.append(("cgroup", .array(details.controlGroups.map { .bytes($0.line) }))) }
    if let privileges = details.privileges {
      members += Self.status(privileges).map { line in
        (line.name, line.number.map { .integer($0) } ?? .string(line.text))
      }
    }
    return members
  }
}
