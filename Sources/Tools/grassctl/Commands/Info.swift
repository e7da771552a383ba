import ArgumentParser
import KernelViews
import Output

struct Info: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows the host: release, uptime, load, CPUs, memory, command line, taint, panic.",
    discussion:
      "Uptime is as of the kernel's last clock tick. In JSON, memory is in kB under the names of /proc/meminfo.")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let kernel = try source.openKernel()
    let host = try reporting { try kernel.host() }
    if output.json {
      writeOutput(JSON.lines([json(of: host)]))
    } else {
      writeOutput(text(of: host))
    }
    for fault in host.faults { writeNote("\(fault)") }
    if !host.faults.isEmpty { throw ExitStatus.partial }
  }

  private func text(of host: HostInfo) -> String {
    let seconds = host.uptime / 1_000_000_000
    let hours = seconds / 3600 % 24
    let minutes = seconds / 60 % 60
    var rows = [
      ("System", "\(host.sysname) \(host.nodename) \(host.release) \(host.version) \(host.machine)"),
      (
        "State",
        host.panic.map { "PANIC on CPU \($0.cpu): \($0.message ?? "the log no longer has the message")" } ?? "alive"
      ),
      ("Uptime", "\(seconds / 86400)d \(hours)h \(minutes)m \(seconds % 60)s"),
      ("Load", host.load.map { Self.decimal($0) }.joined(separator: " ")),
      ("CPUs", "\(host.onlineCPUs) online of \(host.possibleCPUs), \(host.cpuModel)"),
      ("Paging", "\(host.pagingLevels) levels"),
      ("Taint", host.taint.isEmpty ? "none" : host.taint),
      ("Command line", host.commandLine.printable),
    ]
    rows = rows.map { ($0.0, Array($0.1.utf8).printable) }
    rows += host.memory.lines.map { ($0.name, "\($0.bytes / 1024) kB") }
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { $0.0 + ":" + String(repeating: " ", count: width + 1 - $0.0.count) + $0.1 + "\n" }.joined()
  }

  private static func decimal(_ value: Double) -> String {
    let hundredths = Int((value * 100).rounded())
    return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
  }

  private func json(of host: HostInfo) -> JSON {
    .object([
      ("sysname", .string(host.sysname)), ("nodename", .string(host.nodename)), ("release", .string(host.release)),
      ("version", .string(host.version)), ("machine", .string(host.machine)),
      ("uptime", .number(Double(host.uptime) / 1e9)), ("time", .integer(host.wallClock)),
      ("loadavg", .array(host.load.map { .number($0) })), ("cpus_online", .integer(host.onlineCPUs)),
      ("cpus_possible", .integer(host.possibleCPUs)), ("cpu_model", .string(host.cpuModel)),
      ("paging_levels", .integer(host.pagingLevels)), ("tainted", .string(host.taint)),
      ("cmdline", .bytes(host.commandLine)),
      (
        "panic",
        host.panic.map {
          .object([("cpu", .integer($0.cpu)), ("message", $0.message.map { .string($0) } ?? .null)])
        } ?? .null
      ),
      ("meminfo", .object(host.memory.lines.map { ($0.name, .unsigned($0.bytes / 1024)) })),
    ])
  }
}
