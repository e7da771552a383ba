public import LinuxKernel
import Memory
public import Views

/// What a process has mapped, as /proc/PID/maps lists it.
public struct MappingView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(isArgument: true, help: "The process.") public var pid: Int32
    public init() {}
  }

  public static let name = "maps"
  public static let group = ViewGroup.processes
  public static let summary = "Lists what a process has mapped, as /proc/PID/maps does."

  public static func columns(_ options: Options) -> [ViewColumn<MemoryMapping>] {
    [
      ViewColumn("START", "start", in: .address) { $0.range.lowerBound }
        .shown { String($0.range.lowerBound.rawValue, radix: 16) }.rightAligned.identity,
      ViewColumn("END", "end", in: .address) { $0.range.upperBound }
        .shown { String($0.range.upperBound.rawValue, radix: 16) }.rightAligned.identity,
      ViewColumn("PERM", "permissions", \.permissions).identity.bad { $0.isWritableCode },
      ViewColumn("OFFSET", "offset", in: .bytes, \.offset).shown { String($0.offset, radix: 16) }.identity,
      ViewColumn("DEVICE", "device") { "\($0.major):\($0.minor)" },
      ViewColumn("INODE", "inode", \.inode),
      ViewColumn("NAME", "name", \.name).identity,
    ]
  }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[("pid", "\(subject.process)")]]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<MemoryMapping> {
    let table = try kernel.mappings(ofProcess: options.pid)
    return ViewRows(table.mappings, faults: table.faults)
  }
}

extension MemoryMapping {
  /// Whether code there can be written: what no compiler asks for.
  fileprivate var isWritableCode: Bool { permissions.contains("w") && permissions.contains("x") }
}
