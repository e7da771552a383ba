import ArgumentParser
import Output
import Records
import Remote

struct MemoryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "memory", abstract: "Shows the main lines of /proc/meminfo, as the monitor memory finds them.",
    discussion: "In kB. grassd must have the monitor (its --monitors); `info` finds the same without.")

  @OptionGroup var monitor: MonitorOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try show(MemoryUsage.self, monitor, output) }
}

struct PanicCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "panic", abstract: "Shows whether the kernel panicked, and the end of its log, in one request.",
    discussion: "Runs the monitor panic, which grassd must have (its --monitors).")

  @OptionGroup var monitor: MonitorOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try show(PanicState.self, monitor, output) }
}

private func show<View: PrintedMonitor>(
  _ type: View.Type, _ monitor: MonitorOptions, _ output: OutputOptions
) throws {
  let (view, isPartial) = try monitor.connect().look(as: type)
  writeOutput(output.json ? JSON.lines(view.json) : Array(view.text.utf8))
  if isPartial { throw ExitStatus.partial }
}
