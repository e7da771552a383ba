import ArgumentParser
import Glibc
import KernelViews
import Output

struct Top: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top", abstract: "Shows what the CPUs and the busiest processes do, from two looks at the host.",
    discussion: """
      Percent of one CPU between the two looks, which are --interval apart; of an image, and of a host whose clock \
      stands still, since the boot. RUN is the length of a CPU's run queue, CURRENT the thread on it.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Option(name: .shortAndLong, help: "Seconds between the two looks.")
  var interval: Double = 1

  @Option(name: [.customShort("n"), .long], help: "List at most this many processes.")
  var processes = 20

  func validate() throws {
    if !(interval >= 0 && interval < 3600) { throw ValidationError("--interval takes seconds, from 0 on.") }
    if processes < 0 { throw ValidationError("--processes takes a number from 0 on.") }
  }

  private struct Usage {
    var task: KernelTask
    var percent: Double
  }

  func run() throws {
    let kernel = try source.openKernel()
    let query = TaskQuery(includesCommandLines: false)
    var first: ProcessorSample? = try reporting { try kernel.processors() }
    var firstTasks = try reporting { try kernel.tasks(query) }
    usleep(UInt32(interval * 1e6))
    let last = try reporting { try kernel.processors() }
    let lastTasks = try reporting { try kernel.tasks(query) }
    if first?.uptime == last.uptime {
      first = nil
      firstTasks.tasks = []
    }
    let elapsed = Double(max(1, last.uptime &- (first?.uptime ?? 0)))
    let before = Dictionary(
      firstTasks.tasks.map { ($0.address, $0) }, uniquingKeysWith: { known, _ in known })
    let usages = lastTasks.tasks.map { task in
      let old = before[task.address].flatMap { $0.startTime == task.startTime ? $0 : nil }
      let time = (task.processUserTime &+ task.processSystemTime)
      let oldTime = old.map { $0.processUserTime &+ $0.processSystemTime } ?? 0
      return Usage(task: task, percent: time > oldTime ? Double(time - oldTime) / elapsed * 100 : 0)
    }.sorted { $0.percent > $1.percent }.prefix(processes)
    let oldCPUs = Dictionary(
      (first?.cpus ?? []).map { ($0.number, $0) }, uniquingKeysWith: { known, _ in known })
    let cpus = last.cpus.map { cpu in
      let old = oldCPUs[cpu.number]
      return (
        cpu: cpu,
        percents: cpu.times.enumerated().map { index, time in
          let oldTime = old?.times[index] ?? 0
          return time > oldTime ? Double(time - oldTime) / elapsed * 100 : 0
        }
      )
    }
    if output.json {
      writeOutput(json(cpus: cpus, usages: Array(usages), uptime: last.uptime))
    } else {
      var table = Table(
        [("CPU", .right)] + (ProcessorSample.kinds + ["idle", "run"]).map { ($0.uppercased(), .right) }
          + [("SWITCHES", .right), ("CURRENT", .left)])
      for (cpu, percents) in cpus {
        table.add(
          ["\(cpu.number)"] + (percents + [Self.idle(percents)]).map(Heartbeat.tenths)
            + ["\(cpu.running)", "\(cpu.contextSwitches)", "\(cpu.currentName.printable) (\(cpu.currentTID))"])
      }
      writeOutput(table.text() + "\n")
      table = Table([
        ("PID", .right), ("S", .left), ("%CPU", .right), ("RSS", .right), ("TIME", .right), ("COMMAND", .left),
      ])
      for usage in usages {
        let task = usage.task
        table.add([
          "\(task.tgid)", String(task.state.rawValue), Heartbeat.tenths(usage.percent),
          "\(task.residentPages &* 4)", ElapsedTime.minutes(task.processUserTime &+ task.processSystemTime),
          task.comm.printable,
        ])
      }
      writeOutput(table.text())
    }
    try reportFaults(last.faults + lastTasks.faults)
  }

  private static func idle(_ percents: [Double]) -> Double { max(0, 100 - percents.reduce(0, +)) }

  private func json(cpus: [(cpu: ProcessorState, percents: [Double])], usages: [Usage], uptime: UInt64) -> [UInt8] {
    let cpuObjects = cpus.map { cpu, percents in
      JSON.object(
        [("cpu", .integer(cpu.number))] + zip(ProcessorSample.kinds, percents).map { ($0, .number($1)) }
          + [("idle", .number(Self.idle(percents)))]
          + zip(ProcessorSample.kinds, cpu.times).map { ("\($0)_ns", .unsigned($1)) }
          + [
            ("running", .unsigned(cpu.running)), ("ctxt", .unsigned(cpu.contextSwitches)),
            ("current_pid", .integer(cpu.currentTID)), ("current_comm", .bytes(cpu.currentName)),
          ])
    }
    let taskObjects = usages.map { usage in
      JSON.object([
        ("pid", .integer(usage.task.tgid)), ("comm", .bytes(usage.task.comm)), ("percent", .number(usage.percent)),
      ])
    }
    return JSON.lines([
      .object([("uptime_ns", .unsigned(uptime)), ("cpus", .array(cpuObjects)), ("processes", .array(taskObjects))])
    ])
  }
}
