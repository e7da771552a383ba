import ArgumentParser
import Glibc
import Output
import Records
import Remote
import Views

struct Cpu: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cpu", abstract: "Shows how the CPUs spend their time, in percent.",
    discussion: """
      Runs the monitor cpu, which grassd must have (its --monitors), twice, --interval apart. A CPU that counted no time \
      between the two is dead or offline, and has no shares. `grassctl run cpu` prints the times since boot.
      """)

  @OptionGroup var monitor: MonitorOptions

  @Option(name: .shortAndLong, help: "Seconds between the two looks.")
  var interval: Double = 1

  @OptionGroup var output: OutputOptions

  func validate() throws {
    if !(interval > 0 && interval < 3600) { throw ValidationError("--interval takes seconds, more than 0.") }
  }

  func run() throws {
    let session = try monitor.connect()
    let first = try session.look(as: CPUUsage.self)
    usleep(UInt32(interval * 1e6))
    let last = try session.look(as: CPUUsage.self)
    let all = last.view.shares(since: first.view)
    if output.json {
      writeOutput(
        JSON.lines(
          all.map { cpu in
            .object(
              [("cpu", .integer(cpu.number))]
                + cpu.shares.map { ($0.name, $0.share.map { .number($0 * 100) } ?? .null) })
          }))
    } else {
      var table = Table([("CPU", .right)] + (all.first?.shares ?? []).map { ($0.name.uppercased(), .right) })
      for cpu in all {
        table.add(["\(cpu.number)"] + cpu.shares.map { $0.share.map { Heartbeat.tenths($0 * 100) } ?? "-" })
      }
      writeOutput(table.text())
    }
    if first.isPartial || last.isPartial { throw ExitStatus.partial }
  }
}
