import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import StorageViews

/// Reads the locks on files: a list a CPU of those that are held, and behind each those that wait for it.
///
/// Source: fs/locks.c, `locks_show` and `lock_get_status`.
struct FileLockReader: KernelReader {
  static let subject = "the locks on files"

  /// A list of each CPU's own.
  private struct Held: KernelShape {
    static let type = "file_lock_list_struct"
    let head = Place("hlist.first")
  }

  private struct Lock: KernelShape {
    static let type = "file_lock"
    // From 6.9 on what leases and locks share is a struct of its own.
    let link = Place("c.flc_link", before: "6.9", "fl_link")
    let requests = Place("c.flc_blocked_requests", before: "6.9", "fl_blocked_requests")
    let request = Place("c.flc_blocked_member", before: "6.9", "fl_blocked_member")
    let flags = Field<UInt64>("c.flc_flags", before: "6.9", "fl_flags")
    let type = Field<UInt64>("c.flc_type", before: "6.9", "fl_type")
    let pid = Field<Int32>("c.flc_pid", before: "6.9", "fl_pid")
    let file = Field<VirtualAddress>("c.flc_file", before: "6.9", "fl_file")
    let start = Field<Int64>("fl_start")
    let end = Field<Int64>("fl_end")
  }

  private struct File: KernelShape {
    static let type = "file"
    let inode = Field<VirtualAddress>("f_inode")
    let mount = Field<VirtualAddress>("f_path.mnt")
    let dentry = Field<VirtualAddress>("f_path.dentry")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino")
    let superBlock = Field<VirtualAddress>("i_sb")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<UInt64>("s_dev")
  }

  private let lists: VirtualAddress
  private let held: Bound<Held>, lock: Bound<Lock>, file: Bound<File>, inode: Bound<Inode>
  private let superBlock: Bound<SuperBlock>
  private let paths: PathReader

  /// More locks than any host has.
  private static let most = 1 << 20
  /// How many locks in a row wait for each other at most.
  private static let deepest = 64

  init(kernel: Kernel) throws {
    let types = kernel.types
    lists = try kernel.symbol("file_lock_list", for: Self.self)
    (held, lock, file, inode, superBlock) = try types.bind()
    paths = try kernel.reader(PathReader.self)
  }

  func read(_ cpus: [PerCPU.CPU], in space: AddressSpace, into table: inout LockTable) {
    let limit = min(space.mostObjects(ofSize: 32), Self.most)
    let heads = cpus.map { $0.address(of: lists) + held.head.offset }
    let first = space.members(
      of: lock, through: \.link, heads: heads, form: .nullTerminated, limit: limit, &table.faults)
    var found = first.flatMap { $0 }.map { (lock: $0, blocker: VirtualAddress?.none) }
    var seen = Set(found.map(\.lock))
    var level = found.map(\.lock)
    var links: Set<VirtualAddress> = []
    for _ in 0..<Self.deepest where !level.isEmpty {
      let waiting = space.members(
        of: lock, through: \.request, heads: level.map { $0 + lock.requests.offset }, limit: limit, seen: &links,
        &table.faults)
      var next: [VirtualAddress] = []
      for (blocker, list) in zip(level, waiting) {
        for request in list {
          guard seen.insert(request).inserted else {
            let link = request + lock.request.offset
            table.faults.append(MemoryFault(.virtual(link), .inconsistent("a lock that is held and waits")))
            continue
          }
          next.append(request)
          found.append((request, blocker))
        }
      }
      level = next
    }
    if let deep = level.first {
      table.faults.append(
        MemoryFault(.virtual(deep), .inconsistent("more than \(Self.deepest) locks that wait for each other")))
    }
    let locks = space.read(lock, at: found.map(\.lock))
    let files = space.read(file, at: locks.pointers(\.file))
    let inodes = space.read(inode, at: files.pointers(\.inode))
    let supers = space.read(superBlock, at: inodes.pointers(\.superBlock))
    let ends = zip(files.pointers(\.mount), files.pointers(\.dentry)).map { FilePath(mount: $0, dentry: $1) }
    let names = paths.names(of: ends, in: space)
    // One whose file has no name is shown without.
    var nameFaults: [MemoryFault] = []
    table.fileLocks = locks.compactMap(&table.faults) { (lock) throws(MemoryFault) in
      let index = lock.index
      let device = try supers[index].device
      return FileLock(
        kind: Self.kind(try lock.flags), mode: Self.mode(try lock.type), pid: try lock.pid, major: device >> 20,
        minor: device & 0xfffff, inode: try inodes[index].number, name: nameFaults.keep(names[index].get),
        start: try lock.start, end: try lock.end, isWaiting: found[index].blocker != nil, address: lock.address,
        blocker: found[index].blocker)
    }
    table.faults += nameFaults
  }

  // Macros of include/linux/filelock.h (include/linux/fs.h before 6.3) and include/uapi/asm-generic/fcntl.h.
  private static func kind(_ flags: UInt64) -> String {
    if flags & 1 != 0 { return flags & 8 != 0 ? "ACCESS" : flags & 1024 != 0 ? "OFDLCK" : "POSIX" }
    if flags & 2 != 0 { return "FLOCK" }
    if flags & 32 != 0 { return "LEASE" }
    return flags & 4 != 0 ? "DELEG" : "UNKNOWN"
  }

  private static func mode(_ type: UInt64) -> String { type == 0 ? "READ" : type == 1 ? "WRITE" : "UNLCK" }
}
