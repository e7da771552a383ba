public import LinuxKernel
public import Views

/// The open files, as lsof(8) lists them.
public struct OpenFileView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(short: "p", selects: true, help: "Only this process.") public var pid: Int32?
    public init() {}
  }

  public static let name = "lsof"
  public static let group = ViewGroup.files
  public static let summary = "Lists open files: paths, pipes, sockets, and what else has a descriptor."
  public static let discussion = """
    SIZE and the position (in JSON) are in bytes. A file without a name left is marked (deleted).
    """

  public static func columns(_ options: Options) -> [ViewColumn<OpenFile>] {
    [
      ViewColumn("COMMAND", "comm", \.comm),
      ViewColumn("PID", "pid", \.pid).identity,
      ViewColumn("FD", "fd", \.descriptor).identity,
      ViewColumn("MODE", text: { access($0.flags) }),
      ViewColumn("TYPE", "type") { kind($0.mode) },
      ViewColumn("DEVICE", "device") { "\($0.major):\($0.minor)" },
      ViewColumn("SIZE", "size", in: .bytes, \.size),
      ViewColumn("NODE", "inode", \.inode),
      ViewColumn("NAME", "name") { $0.name.display }.identity,
      ViewColumn(json: "deleted") { $0.name.isDeleted },
      ViewColumn(json: "links", \.links),
      ViewColumn(json: "position", in: .bytes, \.position),
      ViewColumn(json: "flags", \.flags),
    ]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<OpenFile> {
    let table = try kernel.openFiles(ofProcess: options.pid)
    return ViewRows(table.files, faults: table.faults)
  }

  /// `O_ACCMODE`: reading, writing, or both.
  private static func access(_ flags: UInt64) -> String { ["r", "w", "u", "-"][Int(flags & 3)] }

  /// The kind of file in `st_mode` (inode(7)); what is no file at all has none.
  private static func kind(_ mode: UInt64) -> String {
    let kinds: [UInt64: String] = [
      0o14: "sock", 0o12: "LINK", 0o10: "REG", 0o06: "BLK", 0o04: "DIR", 0o02: "CHR", 0o01: "FIFO",
    ]
    return kinds[mode >> 12 & 0o17] ?? "anon"
  }
}
