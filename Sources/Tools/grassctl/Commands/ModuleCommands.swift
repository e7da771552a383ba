import ArgumentParser
import Output
import Records
import Remote

struct MemoryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "memory", abstract: "Shows the main lines of /proc/meminfo, as the module memory finds them.",
    discussion: "In kB. grassd must have the module (its --monitors); `info` finds the same without.")

  @OptionGroup var module: ModuleOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try show(MemoryUsage.self, module, output) }
}

struct PanicCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "panic", abstract: "Shows whether the kernel panicked, and the end of its log, in one request.",
    discussion: "Runs the module panic, which grassd must have (its --monitors).")

  @OptionGroup var module: ModuleOptions
  @OptionGroup var output: OutputOptions

  func run() throws { try show(PanicState.self, module, output) }
}

private func show<View: PrintedModule>(
  _ type: View.Type, _ module: ModuleOptions, _ output: OutputOptions
) throws {
  let (view, isPartial) = try module.connect().look(as: type)
  writeOutput(output.json ? JSON.lines(view.json) : Array(view.text.utf8))
  if isPartial { throw ExitStatus.partial }
}
