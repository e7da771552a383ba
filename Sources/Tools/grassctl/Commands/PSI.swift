import ArgumentParser
import KernelViews
import Output

struct PSI: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "psi",
    abstract: "Shows how much work waits for CPUs, memory and I/O: the kernel's pressure information.",
    discussion: """
      Percent of the last 10, 60 and 300 seconds, and microseconds in total, as in /proc/pressure, as of the kernel's \
      last update.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let pressures = try reporting { try kernel.pressure() }
    if output.json {
      writeOutput(
        JSON.lines(
          pressures.map { pressure in
            .object(
              [("resource", .string(pressure.resource.rawValue))]
                + Self.stalls(pressure).map { name, stall in
                  (
                    name,
                    .object(
                      zip(["avg10", "avg60", "avg300"], stall.averages).map { ($0, .number($1)) }
                        + [("total", .unsigned(stall.total))])
                  )
                })
          }))
    } else {
      var table = Table(
        [("RESOURCE", .left), ("", .left)] + ["AVG10", "AVG60", "AVG300", "TOTAL"].map { ($0, .right) })
      for pressure in pressures {
        for (name, stall) in Self.stalls(pressure) {
          table.add([pressure.resource.rawValue, name] + stall.averages.map { $0.hundredths } + ["\(stall.total)"])
        }
      }
      writeOutput(table.text())
    }
  }

  private static func stalls(_ pressure: Pressure) -> [(String, Pressure.Stall)] {
    [("some", pressure.some), ("full", pressure.full)].compactMap { name, stall in stall.map { (name, $0) } }
  }
}
