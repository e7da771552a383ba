public import LinuxKernel
import TaskViews
public import Views

/// The namespaces, as lsns(8) lists them.
public struct NamespaceView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(short: "t", selects: true, help: "Only those of this type.") public var type: NamespaceKind?
    public init() {}
  }

  public static let name = "lsns"
  public static let group = ViewGroup.processes
  public static let summary = "Lists the namespaces, those without processes too."
  public static let discussion = """
    PID, UID and COMMAND are those of the process with the lowest id in it. A namespace without process is kept by an open \
    file, a mount, or another namespace. OWNER is the user namespace that it belongs to.
    """

  public static func columns(_ options: Options) -> [ViewColumn<Namespace>] {
    [
      ViewColumn("NS", "ns") { $0.id.number }.identity,
      ViewColumn("TYPE", "type") { $0.kind.rawValue }.identity,
      ViewColumn("NPROCS", "nprocs", \.processes),
      ViewColumn("PID", "pid") { $0.first?.tgid },
      ViewColumn("UID", "uid") { $0.first?.euid },
      ViewColumn("OWNER", "owner") { $0.owner?.number },
      ViewColumn("COMMAND", "command") { $0.first?.arguments }.shown { $0.first?.command ?? "" },
      ViewColumn(json: "comm") { $0.first?.comm },
      ViewColumn(json: "address", in: .address) { $0.id.address },
    ]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Namespace> {
    let table = try kernel.namespaces()
    let type = options.type
    return ViewRows(table.namespaces.filter { type == nil || $0.kind == type }, faults: table.faults)
  }
}

extension NamespaceKind: ViewOptionValue, ViewOptionDefault {}
