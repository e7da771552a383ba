import CodeViews
public import LinuxKernel
import StorageViews
public import Views

/// The locks that tasks wait for, and the locks on files.
public struct LockView: KernelView {
  /// What a lock is that is looked at by its address.
  public enum Kind: String, CaseIterable, ViewOptionValue {
    case mutex, rwsem, semaphore
  }

  public struct Options: ViewOptions {
    @ViewOption(isArgument: true, help: "A lock: a symbol or an address.") public var lock: String?
    @ViewOption(help: "What that lock is.") public var kind = Kind.mutex
    public init() {}
  }

  public enum Row: Sendable {
    case lock(KernelLock)
    case file(FileLock)

    fileprivate var lock: KernelLock? { if case .lock(let lock) = self { lock } else { nil } }
    fileprivate var file: FileLock? { if case .file(let file) = self { file } else { nil } }
  }

  public static let name = "locks"
  public static let group = ViewGroup.waiting
  public static let summary =
    "Lists the locks of the kernel that tasks wait for, with owners and waiters, and the locks on files."
  public static let discussion = """
    Locks that nobody waits for are found by address only: locks rtnl_mutex, locks 0xffff888001234560 --kind rwsem. Of a \
    rwsem that is held to read, the owner is the last reader, and READERS how many there are. Locks on files are those of \
    /proc/locks.
    """

  public static func sections(_ options: Options) -> [ViewSection<Row>] {
    [
      ViewSection(locks, takes: { $0.lock != nil }),
      ViewSection(files, isInTable: options.lock == nil, takes: { $0.file != nil }),
    ]
  }

  private static var locks: [ViewColumn<Row>] {
    [
      ViewColumn("KIND", "kind") { $0.lock?.kind.rawValue }.identity,
      ViewColumn("LOCK", "symbol") { $0.lock?.symbol }.shown { row in
        row.lock.map { $0.symbol ?? "\($0.address)" } ?? ""
      },
      ViewColumn(json: "address", in: .address) { $0.lock?.address }.identity,
      ViewColumn("READERS", "readers") { $0.lock?.readers }.shown { $0.lock?.readers.map { "\($0)" } ?? "-" },
      ViewColumn("OWNER", "owner") { $0.lock?.owner.map(value) }.shown { $0.lock?.owner.map(name) ?? "-" }
        .with("tid", "comm", "reads"),
      ViewColumn("WAITERS", "waiters") { $0.lock?.waiters.map(value) }.shown { row in
        row.lock?.waiters.map(name).joined(separator: ", ") ?? ""
      }.with("tid", "comm", "reads"),
    ]
  }

  private static func name(_ party: KernelLock.Party) -> String {
    "\(party.tid) \(party.comm.printable)" + (party.wantsToRead.map { $0 ? " (read)" : " (write)" } ?? "")
  }

  private static func value(_ party: KernelLock.Party) -> ViewValue {
    .object([.init("tid", party.tid), .init("comm", party.comm), .init("reads", party.wantsToRead)])
  }

  private static var files: [ViewColumn<Row>] {
    [
      ViewColumn(json: "kind") { _ in "file" }, ViewColumn("KIND", "type") { $0.file?.kind }.identity,
      ViewColumn("MODE", "mode") { $0.file?.mode }.identity, ViewColumn("PID", "pid") { $0.file?.pid }.identity,
      ViewColumn("START", "start", in: .bytes) { $0.file?.start }.identity,
      ViewColumn("END", "end", in: .bytes) { $0.file?.end }.shown { row in
        row.file.map { $0.end == .max ? "EOF" : "\($0.end)" } ?? ""
      }.identity,
      ViewColumn("WAITS", "waits") { $0.file?.isWaiting }.shown { $0.file?.isWaiting == true ? "yes" : "-" }.identity,
      ViewColumn("FILE", "name") { $0.file?.name?.display }.shown { row in
        row.file.map { $0.name?.display.printable ?? "\($0.major):\($0.minor) inode \($0.inode)" } ?? ""
      }.identity,
      ViewColumn(json: "device") { row in row.file.map { "\($0.major):\($0.minor)" } },
      ViewColumn(json: "inode") { $0.file?.inode }.identity,
      ViewColumn(json: "address", in: .address) { $0.file?.address },
      ViewColumn(json: "blocker", in: .address) { $0.file?.blocker },
    ]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    guard let lock = options.lock else {
      let table = try kernel.locks()
      return ViewRows(table.locks.map { .lock($0) } + table.fileLocks.map { .file($0) }, faults: table.faults)
    }
    guard let address = try kernel.symbolMap().address(lock) else {
      throw KernelError("the lock '\(lock)'", .inconsistent("it is no symbol of this kernel and no address"))
    }
    return ViewRows([.lock(try kernel.lock(KernelLock.Kind(rawValue: options.kind.rawValue) ?? .mutex, at: address))])
  }
}
