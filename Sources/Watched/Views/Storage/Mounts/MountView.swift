public import LinuxKernel
public import Views

/// The mounts that a process sees, as /proc/PID/mountinfo and findmnt(8) list them.
public struct MountView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(short: "p", help: "The process whose mounts are listed.") public var pid: Int32 = 1
    public init() {}
  }

  public static let name = "mount"
  public static let group = ViewGroup.files
  public static let summary = "Lists the mounts that a process sees."
  public static let discussion = """
    The keys in JSON are the fields of /proc/PID/mountinfo. Of a file system's own options (size=, mode=) only those are \
    shown that all file systems have.
    """

  public static func columns(_ options: Options) -> [ViewColumn<MountPoint>] {
    [
      ViewColumn("ID", "id", \.id).identity,
      ViewColumn(json: "parent", \.parentID).identity,
      ViewColumn("DEVICE", "device") { "\($0.major):\($0.minor)" },
      ViewColumn(json: "root", \.root),
      ViewColumn("TARGET", "target", \.mountPoint).identity,
      ViewColumn("SOURCE", "source", \.source).shown { (mount: MountPoint) -> String in
        mount.source.printable + (mount.root == [UInt8(ascii: "/")] ? "" : "[\(mount.root.printable)]")
      },
      ViewColumn("TYPE", "fstype", \.fileSystem).identity,
      ViewColumn("OPTIONS", "options", \.options).shown { (mount: MountPoint) -> String in
        let superOptions = mount.superOptions.filter { !mount.options.contains($0) && $0 != "rw" }
        return (mount.options + superOptions + mount.propagation).joined(separator: ",")
      },
      ViewColumn(json: "propagation", \.propagation),
      ViewColumn(json: "super_options", \.superOptions),
    ]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<MountPoint> {
    let table = try kernel.mounts(ofProcess: options.pid)
    return ViewRows(table.mounts, faults: table.faults)
  }
}

extension MountPoint {
  /// The optional fields of /proc/PID/mountinfo.
  fileprivate var propagation: [String] {
    [
      sharedGroup.map { "shared:\($0)" }, masterGroup.map { "master:\($0)" },
      propagatesFrom.map { "propagate_from:\($0)" }, isUnbindable ? "unbindable" : nil,
    ].compactMap { $0 }
  }
}
