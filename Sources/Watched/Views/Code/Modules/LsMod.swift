public import LinuxKernel
public import Views

/// The loaded modules, as lsmod(8) and /proc/modules list them.
public struct LsMod: KernelView {
  public static let name = "lsmod"
  public static let group = ViewGroup.integrity
  public static let canBeEmpty = true
  public static let summary = "Lists the kernel's loaded modules, the newest first."
  public static let discussion = """
    SIZE is in bytes, as in /proc/modules. TAINTS are the letters that the kernel marks a module with: O for one that is \
    not of its own source, E for one without a signature, P for one that is not free. In JSON they are bits.
    """

  public static func columns(_ options: NoOptions) -> [ViewColumn<KernelModule>] {
    [
      ViewColumn("MODULE", "name", \.name).identity,
      ViewColumn("SIZE", "size", in: .bytes, \.size),
      ViewColumn("USED", "refcount", \.references),
      ViewColumn("STATE", "state") { $0.state?.rawValue },
      ViewColumn("TAINTS", "taints", \.taints).shown(\.taintLetters),
      ViewColumn("BY", "used_by", \.usedBy),
      ViewColumn(json: "text", in: .address, \.text),
      ViewColumn(json: "text_size", in: .bytes, \.textSize),
      ViewColumn(json: "module", in: .address, \.address),
    ]
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<KernelModule> {
    let table = try kernel.modules()
    return ViewRows(table.modules, faults: table.faults)
  }
}
