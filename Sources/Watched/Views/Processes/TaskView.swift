public import LinuxKernel
public import Memory
public import TaskViews
public import Views

/// The tasks, as ps(1) lists them.
public struct TaskView: KernelView {
  /// A task, with what was asked for beside it.
  public struct Row: Sendable {
    public let task: KernelTask
    /// What options name; nil where none does.
    public internal(set) var details: TaskDetails?
    /// For each level of the tree above it, whether another branch follows further down; nil without a tree.
    public let branches: [Bool]?
  }

  public struct Options: ViewOptions {
    @ViewOption(short: "T", help: "List every thread.") public var threads = false
    @ViewOption(short: "p", selects: true, help: "Only this process.") public var pid: Int32?
    @ViewOption(short: "H", help: "Parents before their children, as a tree.") public var forest = false
    @ViewOption(short: "e", help: "The environment, from the process's own memory.") public var environ = false
    @ViewOption(help: "The numbers of the namespaces that it is in.") public var namespaces = false
    @ViewOption(help: "The control groups that it is in.") public var cgroup = false
    @ViewOption(help: "Capabilities, seccomp mode, and whether privileges can be gained.")
    public var capabilities = false

    public init() {}

    var parts: TaskDetails.Parts {
      [
        environ ? .environment : [], namespaces ? .namespaces : [], cgroup ? .controlGroups : [],
        capabilities ? .privileges : [],
      ]
    }
  }

  public static let name = "ps"
  public static let group = ViewGroup.processes
  public static let summary = "Lists processes, and threads on request."
  public static let discussion = """
    RSS and VSZ are in KiB; START is in seconds since boot; TIME is minutes:seconds of CPU time. Names of kernel \
    threads stand in brackets. In JSON, keys and units are those of /proc/PID/stat and /proc/PID/status; a byte that \
    is not UTF-8 is written as \\udcXX, which Python's surrogateescape gives back. Conditions and sorting go by JSON's \
    units.

    --environ, --namespaces, --cgroup and --capabilities add what they are called after, below each process: as \
    /proc/PID/environ, the numbers of /proc/PID/ns, /proc/PID/cgroup, and of /proc/PID/status the capabilities, \
    NoNewPrivs and Seccomp. In JSON, ns, environ and cgroup are keys, the others as /proc/PID/status calls them.
    """

  // MARK: Columns

  public static func columns(_ options: Options) -> [ViewColumn<Row>] {
    let threads = options.threads
    var columns: [ViewColumn<Row>] = [ViewColumn("UID", "euid") { $0.task.euid }]
    if threads {
      columns += [ViewColumn("PID", "tgid") { $0.task.tgid }, ViewColumn("TID", "pid") { $0.task.tid }.identity]
    } else {
      columns += [ViewColumn("PID", "pid") { $0.task.tgid }.identity, ViewColumn(json: "tgid") { $0.task.tgid }]
    }
    columns += [
      ViewColumn("PPID", "ppid") { $0.task.ppid },
      ViewColumn("S", "state") { $0.task.state.rawValue }.bad { [.diskSleep, .zombie].contains($0.task.state) },
      ViewColumn("NI", "nice") { $0.task.nice },
      ViewColumn("CPU", "processor") { $0.task.cpu },
      ViewColumn("VSZ", "vsize", in: .bytes) { $0.task.virtualPages &* 4096 }
        .shown { "\($0.task.virtualPages &* 4)" },
      ViewColumn("RSS", "rss", in: .pages) { $0.task.residentPages }.shown { "\($0.task.residentPages &* 4)" },
      ViewColumn("TTY", "tty") { $0.task.tty }.shown { $0.task.tty ?? "?" },
      ViewColumn("START", "starttime", in: .clockTicks) { ticks($0.task.startTime) }
        .shown { ElapsedTime.hundredths($0.task.startTime) },
      ViewColumn(json: "utime", in: .clockTicks) { ticks(userTime(of: $0.task, threads)) },
      ViewColumn(json: "stime", in: .clockTicks) { ticks(systemTime(of: $0.task, threads)) },
      ViewColumn(table: "TIME", in: .nanoseconds) { userTime(of: $0.task, threads) &+ systemTime(of: $0.task, threads) }
        .shown { ElapsedTime.minutes(userTime(of: $0.task, threads) &+ systemTime(of: $0.task, threads)) },
      ViewColumn("COMMAND", text: { branch($0.branches ?? []) + command(of: $0.task, threads) }),
      ViewColumn(json: "comm") { $0.task.comm }.identity,
      ViewColumn(json: "cmdline") { $0.task.arguments },
      ViewColumn(json: "cmdline_error") { $0.task.commandLineFault.map(reason).orAbsent },
    ]
    columns += otherColumns(options) + detailColumns(options)
    return columns
  }

  private static func otherColumns(_ options: Options) -> [ViewColumn<Row>] {
    var columns: [ViewColumn<Row>] = [
      ViewColumn(json: "uid") { $0.task.uid }, ViewColumn(json: "suid") { $0.task.suid },
      ViewColumn(json: "fsuid") { $0.task.fsuid }, ViewColumn(json: "gid") { $0.task.gid },
      ViewColumn(json: "egid") { $0.task.egid }, ViewColumn(json: "sgid") { $0.task.sgid },
      ViewColumn(json: "fsgid") { $0.task.fsgid }, ViewColumn(json: "priority") { $0.task.priority },
      ViewColumn(json: "num_threads") { $0.task.threadCount }, ViewColumn(json: "kthread") { $0.task.isKernelThread },
      ViewColumn(json: "task_struct", in: .address) { $0.task.address },
      ViewColumn(json: "only_in") { (row: Row) -> ViewValue in
        guard row.task.isMismatch else { return .absent }
        return .text(row.task.sources.contains(.taskList) ? "task_list" : "pid_table")
      },
    ]
    if options.forest { columns.append(ViewColumn(json: "depth") { $0.branches?.count }) }
    return columns
  }

  private static func detailColumns(_ options: Options) -> [ViewColumn<Row>] {
    var columns: [ViewColumn<Row>] = []
    if options.environ {
      columns += [
        ViewColumn(json: "environ") { $0.details?.environment ?? [] },
        ViewColumn(json: "environ_error") { $0.details?.environmentFault.map(reason).orAbsent ?? .absent },
      ]
    }
    if options.namespaces {
      columns.append(
        ViewColumn(json: "ns") { (row: Row) -> ViewValue in
          .object(namespaces(of: row).map { ViewValue.Member($0.kind.rawValue, $0.number) })
        }.with("*"))
    }
    if options.cgroup {
      columns.append(ViewColumn(json: "cgroup") { ($0.details?.controlGroups ?? []).map(\.line) })
    }
    if options.capabilities {
      columns += privileges.map { (name: String, value: @escaping PrivilegeValue) in
        ViewColumn(json: name) { $0.details?.privileges.map(value) ?? .absent }
      }
    }
    return columns
  }

  /// What lies below a task: the lines that options ask for.
  public static func details(below row: Row, _ options: Options) -> [String] {
    guard let details = row.details else { return [] }
    var lines: [String] = []
    if options.namespaces {
      lines.append(
        "ns: " + namespaces(of: row).map { "\($0.kind.rawValue):[\($0.number)]" }.joined(separator: " "))
    }
    if options.cgroup { lines += details.controlGroups.map { "cgroup: \($0.line.printable)" } }
    if let own = details.privileges {
      lines.append(privileges.map { "\($0.name): \($0.value(own).searchText)" }.joined(separator: " "))
    }
    if options.environ {
      lines += details.environment.map { "environ: \($0.printable)" }
      if let fault = details.environmentFault { lines.append("environ: … (\(reason(fault)))") }
    }
    return lines
  }

  // MARK: Values

  private typealias PrivilegeValue = @Sendable (TaskDetails.Privileges) -> ViewValue

  /// Lines of /proc/PID/status.
  private static let privileges: [(name: String, value: PrivilegeValue)] = [
    ("CapInh", { set($0.capabilities.inheritable) }), ("CapPrm", { set($0.capabilities.permitted) }),
    ("CapEff", { set($0.capabilities.effective) }), ("CapBnd", { set($0.capabilities.bounding) }),
    ("CapAmb", { set($0.capabilities.ambient) }),
    ("NoNewPrivs", { .signed($0.noNewPrivileges ? 1 : 0) }), ("Seccomp", { .signed(Int64($0.seccompMode)) }),
    ("Seccomp_filters", { .signed(Int64($0.seccompFilters)) }),
  ]

  /// A set of capabilities: sixteen hexadecimal digits.
  private static func set(_ bits: UInt64) -> ViewValue {
    let digits = String(bits, radix: 16)
    return .text(String(repeating: "0", count: 16 - digits.count) + digits)
  }

  private static func namespaces(of row: Row) -> [(kind: NamespaceKind, number: UInt64)] {
    NamespaceKind.allCases.compactMap { kind in row.details?.namespaces[kind].map { (kind, $0.number) } }
  }

  /// Nanoseconds in the clock ticks of /proc.
  private static func ticks(_ nanoseconds: UInt64) -> UInt64 { nanoseconds / 10_000_000 }

  private static func userTime(of task: KernelTask, _ threads: Bool) -> UInt64 {
    threads ? task.userTime : task.processUserTime
  }

  private static func systemTime(of task: KernelTask, _ threads: Bool) -> UInt64 {
    threads ? task.systemTime : task.processSystemTime
  }

  private static func reason(_ fault: KernelTask.CommandLineFault) -> String {
    switch fault {
    case .unreadable(let fault): "\(fault)"
    case .truncated: "longer than what is read at most"
    }
  }

  private static func command(of task: KernelTask, _ threads: Bool) -> String {
    threads && !task.isLeader ? "[\(task.comm.printable)]" : task.command
  }

  /// The branches of a tree left of a name, as ps draws them.
  private static func branch(_ continues: [Bool]) -> String {
    guard !continues.isEmpty else { return "" }
    return continues.dropLast().map { $0 ? " |  " : "    " }.joined() + " \\_ "
  }

  // MARK: Rows

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[]]
      + [["threads"], ["forest"], ["environ"], ["capabilities"], ["namespaces", "cgroup"]].map { flags in
        flags.map { ($0, "yes") }
      }
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    var table = try kernel.tasks(TaskQuery(includesThreads: options.threads))
    if let pid = options.pid { table.tasks.removeAll { $0.tgid != pid } }
    let rows =
      options.forest
      ? TaskForest(table.tasks).nodes.map { Row(task: $0.task, branches: $0.continues) }
      : table.tasks.map { Row(task: $0, branches: nil) }
    var result = ViewRows(rows, faults: table.faults, notes: table.mismatches.map(note))
    if !options.parts.isEmpty {
      let read = try kernel.details(of: rows.map(\.task), options.parts)
      for (index, details) in read.details.enumerated() { result.rows[index].details = details }
      result.faults += read.faults
    }
    return result
  }

  private static func note(on task: KernelTask) -> String {
    "process \(task.tgid) (\(task.comm.printable)) is in the "
      + (task.sources.contains(.taskList)
        ? "task list but not in the pid table" : "pid table but not in the task list")
      + ": it is starting or ending, or it is being hidden"
  }

  public static func remark(on faults: [MemoryFault]) -> String {
    "\(faults.count) entries led to no task, for example: \(faults.first.map { "\($0)" } ?? "")"
  }
}
