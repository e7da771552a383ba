import ArgumentParser
import KernelViews
import Output

struct CGroups: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cgroups",
    abstract: "Lists the control groups with what is in them and what limits them.",
    discussion: """
      MEMORY and its limit are in bytes, CPU-MAX is microseconds in each period. PROCS are those in the group itself. A group \
      that was removed and is not all given back is marked. Hierarchies of version 1 follow that of version 2.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Flag(help: "The controllers instead, as /proc/cgroups lists them, with those that version 1 never had.")
  var controllers = false

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.controlGroups() }
    if controllers { print(table.controllers) } else { print(table.groups) }
    try reportFaults(table.faults)
  }

  private func print(_ controllers: [ControlGroupController]) {
    guard !output.json else {
      return writeOutput(
        JSON.lines(
          controllers.map { controller in
            .object([
              ("subsys_name", .string(controller.legacyName)), ("hierarchy", .integer(controller.hierarchy)),
              ("num_cgroups", .integer(controller.groups)), ("enabled", .integer(controller.isEnabled ? 1 : 0)),
            ])
          }))
    }
    var text = Table([
      ("SUBSYS_NAME", .left), ("HIERARCHY", .right), ("NUM_CGROUPS", .right), ("ENABLED", .right),
    ])
    for controller in controllers {
      text.add([
        controller.legacyName, "\(controller.hierarchy)", "\(controller.groups)", controller.isEnabled ? "1" : "0",
      ])
    }
    writeOutput(text.text())
  }

  private func print(_ groups: [ControlGroup]) {
    guard !output.json else { return writeOutput(JSON.lines(groups.map(Self.json))) }
    var text = Table([
      ("HIER", .right), ("ID", .right), ("PROCS", .right), ("THREADS", .right), ("PIDS", .right), ("PIDS-MAX", .right),
      ("MEMORY", .right), ("MEMORY-MAX", .right), ("CPU-MAX", .right), ("CONTROLLERS", .left), ("PATH", .left),
    ])
    for group in groups {
      func limit(_ value: UInt64?, of current: UInt64?) -> String {
        current == nil ? "-" : value.map { "\($0)" } ?? "max"
      }
      text.add([
        "\(group.hierarchy)", "\(group.id)", "\(group.processes)", "\(group.threads)",
        group.pidsCurrent.map { "\($0)" } ?? "-", limit(group.pidsMax, of: group.pidsCurrent),
        group.memoryCurrent.map { "\($0)" } ?? "-", limit(group.memoryMax, of: group.memoryCurrent),
        group.cpuPeriod.map { "\(limit(group.cpuQuota, of: $0)) \($0)" } ?? "-",
        group.controllers.isEmpty ? "-" : group.controllers.joined(separator: ","),
        group.path.printable + (group.isDying ? " (deleted)" : ""),
      ])
    }
    writeOutput(text.text())
  }

  private static func json(_ group: ControlGroup) -> JSON {
    func names(_ names: [String]) -> JSON { .array(names.map { .string($0) }) }
    var members: [(String, JSON)] = [
      ("path", .bytes(group.path)), ("hierarchy", .integer(group.hierarchy)), ("id", .unsigned(group.id)),
      ("level", .integer(group.level)), ("deleted", .bool(group.isDying)), ("procs", .integer(group.processes)),
      ("threads", .integer(group.threads)), ("cgroup.controllers", names(group.controllers)),
      ("cgroup.subtree_control", names(group.subtreeControl)),
    ]
    func limit(_ value: UInt64?) -> JSON { value.map { .unsigned($0) } ?? .string("max") }
    if let current = group.memoryCurrent {
      members += [
        ("memory.current", .unsigned(current)), ("memory.high", limit(group.memoryHigh)),
        ("memory.max", limit(group.memoryMax)),
      ]
    }
    if let current = group.pidsCurrent {
      members += [("pids.current", .unsigned(current)), ("pids.max", limit(group.pidsMax))]
    }
    if let period = group.cpuPeriod {
      members.append(("cpu.max", .string("\(group.cpuQuota.map { "\($0)" } ?? "max") \(period)")))
    }
    return .object(members)
  }
}
