import ArgumentParser
import KernelViews
import Memory
import Output

struct Locks: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the locks of the kernel that tasks wait for, with owners and waiters, and the locks on files.",
    discussion: """
      Locks that nobody waits for are found only by name or address: locks rtnl_mutex, locks 0xffff888001234560 --kind rwsem. Of a \
      rwsem that is held to read, the owner is the last reader, and READERS how many there are. Locks on files are those of \
      /proc/locks.
      """)

  @Argument(help: "A lock: a symbol or an address.")
  var lock: String?

  @Option(help: "What that lock is: mutex, rwsem or semaphore.")
  var kind = "mutex"

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if KernelLock.Kind(rawValue: kind) == nil { throw ValidationError("--kind takes mutex, rwsem or semaphore.") }
  }

  func run() throws {
    let kernel = try source.openKernel()
    var table = LockTable()
    if let lock {
      guard let address = try reporting({ try kernel.symbolMap() }).address(lock) else {
        throw ValidationError("'\(lock)' is no symbol of this kernel and no address.")
      }
      table = LockTable(locks: [
        try reporting { try kernel.lock(KernelLock.Kind(rawValue: kind) ?? .mutex, at: address) }
      ])
    } else {
      table = try reporting { try kernel.locks() }
    }
    if output.json {
      writeOutput(JSON.lines(table.locks.map(Self.json) + table.fileLocks.map(Self.json)))
    } else {
      var text = Table([
        ("KIND", .left), ("LOCK", .left), ("READERS", .right), ("OWNER", .left), ("WAITERS", .left),
      ])
      for lock in table.locks {
        text.add([
          lock.kind.rawValue, lock.symbol ?? "\(lock.address)", lock.readers.map { "\($0)" } ?? "-",
          lock.owner.map(Self.name) ?? "-", lock.waiters.map(Self.name).joined(separator: ", "),
        ])
      }
      writeOutput(text.text())
      if lock == nil {
        text = Table([
          ("KIND", .left), ("MODE", .left), ("PID", .right), ("START", .right), ("END", .right), ("WAITS", .left),
          ("FILE", .left),
        ])
        for lock in table.fileLocks {
          text.add([
            lock.kind, lock.mode, "\(lock.pid)", "\(lock.start)", lock.end == .max ? "EOF" : "\(lock.end)",
            lock.isWaiting ? "yes" : "-",
            lock.name.map { $0.display.printable } ?? "\(lock.major):\(lock.minor) inode \(lock.inode)",
          ])
        }
        writeOutput(text.text())
      }
    }
    try reportFaults(table.faults)
  }

  private static func name(_ party: KernelLock.Party) -> String {
    "\(party.tid) \(party.comm.printable)" + (party.wantsToRead.map { $0 ? " (read)" : " (write)" } ?? "")
  }

  private static func json(_ party: KernelLock.Party) -> JSON {
    .object([
      ("tid", .integer(party.tid)), ("comm", .bytes(party.comm)),
      ("reads", party.wantsToRead.map { .bool($0) } ?? .null),
    ])
  }

  private static func json(_ lock: KernelLock) -> JSON {
    .object([
      ("kind", .string(lock.kind.rawValue)), ("address", .string("\(lock.address)")),
      ("symbol", lock.symbol.map { .string($0) } ?? .null), ("owner", lock.owner.map(json) ?? .null),
      ("readers", lock.readers.map { .integer($0) } ?? .null), ("waiters", .array(lock.waiters.map(json))),
    ])
  }

  private static func json(_ lock: FileLock) -> JSON {
    .object([
      ("kind", .string("file")), ("type", .string(lock.kind)), ("mode", .string(lock.mode)),
      ("pid", .integer(lock.pid)), ("device", .string("\(lock.major):\(lock.minor)")), ("inode", .unsigned(lock.inode)),
      ("name", lock.name.map { .bytes($0.display) } ?? .null), ("start", .signed(lock.start)),
      ("end", .signed(lock.end)), ("waits", .bool(lock.isWaiting)), ("address", .string("\(lock.address)")),
      ("blocker", lock.blocker.map { .string("\($0)") } ?? .null),
    ])
  }
}
