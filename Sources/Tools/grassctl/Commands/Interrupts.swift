import ArgumentParser
import KernelViews
import Output

struct Interrupts: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows how often each interrupt came, by CPU, and who handles it.",
    discussion: "As /proc/interrupts. In JSON, handlers are addresses of functions (`grassctl sym ADDRESS`).")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let interrupts = try reporting { try kernel.interrupts() }
    if output.json {
      writeOutput(
        JSON.lines(
          interrupts.lines.map { line in
            .object([
              ("irq", .string(line.name)), ("counts", .array(line.counts.map { .unsigned($0) })),
              ("cpus", .array(interrupts.cpus.map { .integer($0) })), ("chip", .bytes(line.chip)),
              ("hwirq", line.hardwareNumber.map { .unsigned($0) } ?? .null), ("flow", .bytes(line.flow)),
              ("actions", .array(line.actions.map { .bytes($0) })),
              ("handlers", .array(line.handlers.map { .string("\($0)") })),
            ])
          }))
    } else {
      var table = Table(
        [("", .right)] + interrupts.cpus.map { ("CPU\($0)", .right) }
          + [("CHIP", .left), ("HWIRQ", .left), ("HANDLERS", .left)])
      for line in interrupts.lines {
        let number = line.hardwareNumber.map { "\($0)" } ?? ""
        table.add(
          ["\(line.name):"] + line.counts.map { "\($0)" }
            + Array(repeating: "", count: interrupts.cpus.count - line.counts.count)
            + [
              line.chip.printable, line.flow.isEmpty ? number : "\(number)-\(line.flow.printable)",
              line.actions.map(\.printable).joined(separator: ", "),
            ])
      }
      writeOutput(table.text())
    }
    try reportFaults(interrupts.faults)
  }
}
