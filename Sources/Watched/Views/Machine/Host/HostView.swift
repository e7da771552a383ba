public import LinuxKernel
public import Views

/// The host as a whole.
public struct HostView: KernelView {
  public static let name = "info"
  public static let group = ViewGroup.host
  public static let summary = "Shows the host: release, uptime, load, CPUs, memory, command line, taint, panic."
  public static let discussion =
    "Uptime is as of the kernel's last clock tick. In JSON, memory is in kB under the names of /proc/meminfo."

  public static func columns(_ options: NoOptions) -> [ViewColumn<HostInfo>] {
    [
      ViewColumn(json: "sysname", \.sysname).identity, ViewColumn(json: "nodename", \.nodename).identity,
      ViewColumn(json: "release", \.release).identity, ViewColumn(json: "version", \.version).identity,
      ViewColumn(json: "machine", \.machine).identity,
      ViewColumn(json: "uptime", in: .seconds) { Double($0.uptime) / 1e9 },
      ViewColumn(json: "time", in: .seconds, \.wallClock), ViewColumn(json: "loadavg", \.load),
      ViewColumn(json: "cpus_online", \.onlineCPUs).identity, ViewColumn(json: "cpus_possible", \.possibleCPUs),
      ViewColumn(json: "cpu_model", \.cpuModel), ViewColumn(json: "paging_levels", \.pagingLevels),
      ViewColumn(json: "tainted", \.taint), ViewColumn(json: "cmdline", \.commandLine).identity,
      ViewColumn(json: "panic") { host -> ViewValue in
        host.panic.map { .object([.init("cpu", $0.cpu), .init("message", $0.message)]) } ?? .none
      }.with("cpu", "message"),
      ViewColumn(json: "meminfo", in: .kibibytes) { host -> ViewValue in
        .object(host.memory.lines.map { .init($0.name, $0.bytes / 1024) })
      }.with("*", in: .kibibytes),
    ]
  }

  /// A line for each thing.
  public static func text(_ rows: [HostInfo], _ options: NoOptions) -> String? {
    rows.map { host in
      let lines = lines(of: host)
      let width = lines.map(\.0.count).max() ?? 0
      return lines.map { name, value in
        "\(name):\(String(repeating: " ", count: width + 1 - name.count))\(Array(value.utf8).printable)\n"
      }.joined()
    }.joined()
  }

  private static func lines(of host: HostInfo) -> [(String, String)] {
    let seconds = host.uptime / 1_000_000_000
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60)
    let state = host.panic.map { "PANIC on CPU \($0.cpu): \($0.message ?? "the log no longer has the message")" }
    return [
      ("System", "\(host.sysname) \(host.nodename) \(host.release) \(host.version) \(host.machine)"),
      ("State", state ?? "alive"), ("Uptime", "\(seconds / 86400)d \(hours)h \(minutes)m \(seconds % 60)s"),
      ("Load", host.load.map { ($0 + 0.005).hundredths }.joined(separator: " ")),
      ("CPUs", "\(host.onlineCPUs) online of \(host.possibleCPUs), \(host.cpuModel)"),
      ("Paging", "\(host.pagingLevels) levels"), ("Taint", host.taint.isEmpty ? "none" : host.taint),
      ("Command line", host.commandLine.printable),
    ] + host.memory.lines.map { ($0.name, "\($0.bytes / 1024) kB") }
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<HostInfo> {
    let host = try kernel.host()
    return ViewRows([host], shortcomings: host.faults.map { "\($0)" })
  }
}
