import ArgumentParser
import KernelViews
import Output

struct LsNs: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lsns",
    abstract: "Lists the namespaces, those without processes too.",
    discussion: """
      PID, UID and COMMAND are those of the process with the lowest id in it. A namespace without process is kept by an open \
      file, a mount, or another namespace. OWNER is the user namespace that it belongs to.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Option(name: .shortAndLong, help: "Only those of this type: mnt, pid, net, uts, ipc, user, cgroup or time.")
  var type: String?

  func validate() throws {
    if let type, NamespaceKind(rawValue: type) == nil {
      throw ValidationError("There are no namespaces of type '\(type)'.")
    }
  }

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.namespaces() }
    let namespaces = table.namespaces.filter { type == nil || $0.kind.rawValue == type }
    if output.json {
      writeOutput(JSON.lines(namespaces.map(Self.json)))
    } else {
      var text = Table([
        ("NS", .right), ("TYPE", .left), ("NPROCS", .right), ("PID", .right), ("UID", .right), ("OWNER", .right),
        ("COMMAND", .left),
      ])
      for namespace in namespaces {
        text.add([
          "\(namespace.id.number)", namespace.kind.rawValue, "\(namespace.processes)",
          namespace.first.map { "\($0.tgid)" } ?? "", namespace.first.map { "\($0.euid)" } ?? "",
          namespace.owner.map { "\($0.number)" } ?? "", namespace.first.map(Self.command) ?? "",
        ])
      }
      writeOutput(text.text())
    }
    try reportFaults(table.faults)
  }

  private static func command(_ task: KernelTask) -> String {
    task.commandLine.isEmpty
      ? "[\(task.comm.printable)]" : task.arguments.map(\.printable).joined(separator: " ")
  }

  private static func json(_ namespace: Namespace) -> JSON {
    .object([
      ("ns", .unsigned(namespace.id.number)), ("type", .string(namespace.kind.rawValue)),
      ("nprocs", .integer(namespace.processes)), ("pid", namespace.first.map { .integer($0.tgid) } ?? .null),
      ("uid", namespace.first.map { .integer($0.euid) } ?? .null),
      ("owner", namespace.owner.map { .unsigned($0.number) } ?? .null),
      ("comm", namespace.first.map { .bytes($0.comm) } ?? .null),
      ("command", namespace.first.map { .array($0.arguments.map { .bytes($0) }) } ?? .null),
      ("address", .string("\(namespace.id.address)")),
    ])
  }
}
