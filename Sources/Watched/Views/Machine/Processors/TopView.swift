import Glibc
public import LinuxKernel
public import TaskViews
public import Views

/// What the CPUs and the busiest processes do, as top(1) shows it.
public struct TopView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(short: "i", help: "Seconds between the two looks.") public var interval = 1.0
    @ViewOption(short: "n", help: "List at most this many processes.") public var processes = 20
    public init() {}

    public func problem() -> String? {
      if !(interval >= 0 && interval < 3600) { return "--interval takes seconds, from 0 on" }
      return processes < 0 ? "--processes takes a number from 0 on" : nil
    }
  }

  /// A CPU, or a process, and its shares of the time between two looks.
  public enum Row: Sendable {
    case processor(Processor)
    case process(Process)

    fileprivate var processor: Processor? { if case .processor(let processor) = self { processor } else { nil } }
    fileprivate var process: Process? { if case .process(let process) = self { process } else { nil } }
  }

  public struct Processor: Sendable {
    public var state: ProcessorState
    /// In the order of ``ProcessorSample/kinds``.
    public var percents: [Double]
    public var idle: Double { max(0, 100 - percents.reduce(0, +)) }
  }

  public struct Process: Sendable {
    public var task: KernelTask
    public var percent: Double
  }

  public static let name = "top"
  public static let group = ViewGroup.memory
  public static let summary = "Shows what the CPUs and the busiest processes do, from two looks at the host."
  public static let discussion = """
    Percent of one CPU between the two looks, which are --interval apart; of an image, and of a host whose clock \
    stands still, since the boot. RUN is the length of a CPU's run queue, CURRENT the thread on it. RSS is in KiB.
    """

  public static func sections(_ options: Options) -> [ViewSection<Row>] {
    [ViewSection(of: \.processor, processors), ViewSection(of: \.process, processes)]
  }

  private static var processors: [ViewColumn<Processor>] {
    let kinds = ProcessorSample.kinds.enumerated()
    var columns = [ViewColumn<Processor>("CPU", "cpu") { $0.state.number }.identity]
    columns += kinds.map { index, kind in
      ViewColumn(kind.uppercased(), kind, in: .percent) { $0.percents[index] }.shown { tenths($0.percents[index]) }
    }
    columns.append(ViewColumn("IDLE", "idle", in: .percent) { $0.idle }.shown { tenths($0.idle) })
    columns += kinds.map { index, kind in
      ViewColumn(json: "\(kind)_ns", in: .nanoseconds) { $0.state.times[index] }
    }
    return columns + [
      ViewColumn("RUN", "running") { $0.state.running }, ViewColumn("SWITCHES", "ctxt") { $0.state.contextSwitches },
      ViewColumn("TID", "current_pid") { $0.state.currentTID },
      ViewColumn("CURRENT", "current_comm") { $0.state.currentName },
    ]
  }

  private static var processes: [ViewColumn<Process>] {
    [
      ViewColumn("PID", "pid") { $0.task.tgid }.identity,
      ViewColumn("S", "state") { $0.task.state.rawValue }.bad { [.diskSleep, .zombie].contains($0.task.state) },
      ViewColumn("%CPU", "percent", in: .percent) { $0.percent }.shown { tenths($0.percent) },
      ViewColumn("RSS", "rss", in: .pages) { $0.task.residentPages }.shown { "\($0.task.residentPages &* 4)" },
      ViewColumn("TIME", "time_ns", in: .nanoseconds) { time(of: $0.task) }.shown {
        ElapsedTime.minutes(time(of: $0.task))
      },
      ViewColumn("COMMAND", "comm") { $0.task.comm }.identity,
    ]
  }

  private static func tenths(_ value: Double) -> String {
    let all = Int((min(value, 1e6) * 10).rounded())
    return "\(all / 10).\(all % 10)"
  }

  private static func time(of task: KernelTask) -> UInt64 { task.processUserTime &+ task.processSystemTime }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] { [[("interval", "0")]] }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    let query = TaskQuery(includesCommandLines: false)
    let first = try kernel.processors()
    let firstTasks = try kernel.tasks(query)
    usleep(UInt32(options.interval * 1e6))
    let last = try kernel.processors()
    let lastTasks = try kernel.tasks(query)
    // Of a clock that stands still: since the boot.
    let isLive = first.uptime != last.uptime
    let elapsed = Double(max(1, last.uptime &- (isLive ? first.uptime : 0)))
    func percent(_ time: UInt64, since before: UInt64) -> Double {
      time > before ? Double(time - before) / elapsed * 100 : 0
    }
    let oldCPUs = Dictionary(
      (isLive ? first.cpus : []).map { ($0.number, $0) }, uniquingKeysWith: { known, _ in known })
    let cpus = last.cpus.map { cpu in
      Processor(
        state: cpu,
        percents: cpu.times.enumerated().map { percent($1, since: oldCPUs[cpu.number]?.times[$0] ?? 0) })
    }
    let oldTasks = Dictionary(
      (isLive ? firstTasks.tasks : []).map { ($0.address, $0) }, uniquingKeysWith: { known, _ in known })
    let processes = lastTasks.tasks.map { task in
      let old = oldTasks[task.address].flatMap { $0.startTime == task.startTime ? $0 : nil }
      return Process(task: task, percent: percent(time(of: task), since: old.map(time) ?? 0))
    }.sorted { $0.percent > $1.percent }.prefix(options.processes)
    return ViewRows(
      cpus.map { .processor($0) } + processes.map { .process($0) }, faults: last.faults + lastTasks.faults)
  }
}
