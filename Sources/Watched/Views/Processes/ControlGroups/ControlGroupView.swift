public import LinuxKernel
public import Views

/// The control groups, or the controllers.
public struct ControlGroupView: KernelView {
  public enum Row: Sendable {
    case group(ControlGroup)
    case controller(ControlGroupController)

    fileprivate var group: ControlGroup? { if case .group(let group) = self { group } else { nil } }
    fileprivate var controller: ControlGroupController? {
      if case .controller(let controller) = self { controller } else { nil }
    }
  }

  public struct Options: ViewOptions {
    @ViewOption(help: "The controllers instead, as /proc/cgroups lists them, with those that version 1 never had.")
    public var controllers = false
    public init() {}
  }

  public static let name = "cgroups"
  public static let group = ViewGroup.processes
  public static let summary = "Lists the control groups with what is in them and what limits them."
  public static let discussion = """
    MEMORY and its limit are in bytes, CPU-MAX is microseconds in each period. PROCS are those in the group itself. A group \
    that was removed and is not all given back is marked. Hierarchies of version 1 follow that of version 2.
    """

  public static func sections(_ options: Options) -> [ViewSection<Row>] {
    options.controllers
      ? [ViewSection(of: \.controller, controllers)] : [ViewSection(of: \.group, groups)]
  }

  private static let controllers: [ViewColumn<ControlGroupController>] = [
    ViewColumn("SUBSYS_NAME", "subsys_name", \.legacyName).identity,
    ViewColumn("HIERARCHY", "hierarchy", \.hierarchy),
    ViewColumn("NUM_CGROUPS", "num_cgroups", \.groups),
    ViewColumn("ENABLED", "enabled") { $0.isEnabled ? 1 : 0 },
  ]

  private static let groups: [ViewColumn<ControlGroup>] = [
    ViewColumn("HIER", "hierarchy", \.hierarchy).identity,
    ViewColumn("ID", "id", \.id).identity,
    ViewColumn("PROCS", "procs", \.processes),
    ViewColumn("THREADS", "threads", \.threads),
    current("PIDS", "pids.current", \.pidsCurrent),
    limit("PIDS-MAX", "pids.max", of: \.pidsCurrent, \.pidsMax),
    current("MEMORY", "memory.current", in: .bytes, \.memoryCurrent),
    limit("MEMORY-MAX", "memory.max", in: .bytes, of: \.memoryCurrent, \.memoryMax),
    limit("", "memory.high", in: .bytes, of: \.memoryCurrent, \.memoryHigh),
    ViewColumn("CPU-MAX", "cpu.max", in: .microseconds) { $0.cpuMax.orAbsent }.shown { $0.cpuMax ?? "-" }.rightAligned,
    ViewColumn("CONTROLLERS", "cgroup.controllers", \.controllers).shown { (group: ControlGroup) -> String in
      group.controllers.isEmpty ? "-" : group.controllers.joined(separator: ",")
    },
    ViewColumn("PATH", "path", \.path).shown { $0.path.printable + ($0.isDying ? " (deleted)" : "") }.identity
      .bad { $0.isDying },
    ViewColumn(json: "level", \.level).identity,
    ViewColumn(json: "deleted", \.isDying),
    ViewColumn(json: "cgroup.subtree_control", \.subtreeControl),
  ]

  /// How much a group has, where the controller that counts it is there.
  private static func current(
    _ heading: String, _ key: String, in unit: ViewUnit = .none,
    _ value: @escaping @Sendable (ControlGroup) -> UInt64?
  ) -> ViewColumn<ControlGroup> {
    ViewColumn(heading, key, in: unit) { value($0).orAbsent }.shown { value($0).map { "\($0)" } ?? "-" }.rightAligned
  }

  /// The most that a group may have, where the controller that counts it is there: `max` for no limit.
  private static func limit(
    _ heading: String, _ key: String, in unit: ViewUnit = .none,
    of current: @escaping @Sendable (ControlGroup) -> UInt64?, _ value: @escaping @Sendable (ControlGroup) -> UInt64?
  ) -> ViewColumn<ControlGroup> {
    ViewColumn(heading, key, in: unit) { (group: ControlGroup) -> ViewValue in
      current(group) == nil ? .absent : value(group)?.viewValue ?? .text("max")
    }.shown { (group: ControlGroup) -> String in
      current(group) == nil ? "-" : value(group).map { "\($0)" } ?? "max"
    }.rightAligned
  }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[], [("controllers", "yes")]]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    let table = try kernel.controlGroups()
    return ViewRows(
      options.controllers ? table.controllers.map(Row.controller) : table.groups.map(Row.group), faults: table.faults)
  }
}

extension ControlGroup {
  /// `cpu.max`: microseconds of CPU time in each period, and the period; nil without the controller.
  fileprivate var cpuMax: String? { cpuPeriod.map { "\(cpuQuota.map { "\($0)" } ?? "max") \($0)" } }
}
