import Binding
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/locks: the locks on files that are held, and behind each those that wait for it.
///
/// Source: fs/locks.c, `locks_show` and `lock_get_status`.
struct LockFile: KernelReader {
  static let subject = "the locks on files"

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
    let type = Field<UInt8>("c.flc_type", before: "6.9", "fl_type")
    let pid = Field<Int32>("c.flc_pid", before: "6.9", "fl_pid")
    let file = Field<VirtualAddress>("c.flc_file", before: "6.9", "fl_file")
    let start = Field<Int64>("fl_start"), end = Field<Int64>("fl_end")
  }

  private struct File: KernelShape {
    static let type = "file"
    let inode = Field<VirtualAddress>("f_inode")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino"), superBlock = Field<VirtualAddress>("i_sb")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<UInt64>("s_dev")
  }

  private let lists: VirtualAddress
  private let held: Bound<Held>, lock: Bound<Lock>, file: Bound<File>, inode: Bound<Inode>
  private let superBlock: Bound<SuperBlock>

  /// More locks than any host has.
  private static let most = 1 << 20
  /// How many locks in a row wait for each other at most.
  private static let deepest = 64

  init(kernel: Kernel) throws {
    let types = kernel.types
    lists = try kernel.symbol("file_lock_list", for: Self.self)
    (held, lock, file, inode, superBlock) = try types.bind()
  }

  private struct Context: KernelShape {
    static let type = "file_lock_context"
    let whole = Place("flc_flock"), ranges = Place("flc_posix"), leases = Place("flc_lease")
  }

  private struct Member: KernelShape {
    static let type = "file_lock"
    let link = Place("c.flc_list", before: "6.9", "fl_list")
    let owner = Field<VirtualAddress>("c.flc_owner", before: "6.9", "fl_owner")
  }

  /// The locks on the inode at `inode` of the open file `file` that belong to it or to the table of files `owner`, numbered.
  ///
  /// Source: `show_fd_locks`.
  func lines(
    ofInode inode: VirtualAddress, file: VirtualAddress, owner: VirtualAddress, _ kernel: Kernel
  ) throws -> [String] {
    let context = try kernel.pointers("i_flctx", of: "inode", at: [inode])[0]
    guard context.rawValue != 0 else { return [] }
    let (shape, member) = (try kernel.bound(Context.self), try kernel.bound(Member.self))
    var faults: [MemoryFault] = []
    let heads = [shape.whole.offset, shape.ranges.offset, shape.leases.offset].map { context + $0 }
    let members = kernel.addressSpace.lists(
      of: member, through: \.link, heads: heads, limit: Self.most, &faults
    ).structs
    if let fault = faults.first { throw fault }
    let place = try place(ofInode: inode, kernel)
    let locks = kernel.addressSpace.read(lock, at: members.map(\.address))
    var lines: [String] = []
    for (member, lock) in zip(members, locks)
    where try lock.file == file && (member.owner == owner || member.owner == file) {
      lines.append("\(lines.count + 1): \(try Self.line(lock, place))")
    }
    return lines
  }

  private func place(ofInode address: VirtualAddress, _ kernel: Kernel) throws -> String {
    let inode = kernel.addressSpace.read(inode, at: [address])[0]
    return Self.place(
      try kernel.addressSpace.read(superBlock, at: [try inode.superBlock])[0].device, try inode.number)
  }

  private static func place(_ device: UInt64, _ inode: UInt64) -> String {
    "\(ProcText.hex(device >> 20, 2)):\(ProcText.hex(device & 0xfffff, 2)):\(inode)"
  }

  func bytes(_ kernel: Kernel) throws -> [UInt8] {
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let heads = try kernel.cpus().map { $0.address(of: lists) + held.head.offset }
    let first = space.members(
      of: lock, through: \.link, heads: heads, form: .nullTerminated, limit: Self.most, &faults
    ).flatMap { $0 }
    var waiting: [VirtualAddress: [VirtualAddress]] = [:]
    var seen: Set<VirtualAddress> = []
    var level = first
    for _ in 0..<Self.deepest where !level.isEmpty {
      let requests = space.members(
        of: lock, through: \.request, heads: level.map { $0 + lock.requests.offset }, limit: Self.most, seen: &seen,
        &faults)
      for (holder, list) in zip(level, requests) { waiting[holder] = list }
      level = requests.flatMap { $0 }
    }
    guard level.isEmpty else {
      throw ShadowError.unreadable("more than \(Self.deepest) locks that wait for each other")
    }
    if let fault = faults.first { throw fault }
    let all = first + waiting.values.flatMap { $0 }
    let locks = space.read(lock, at: all)
    let files = space.read(file, at: locks.pointers(\.file))
    let inodes = space.read(inode, at: files.pointers(\.inode))
    let supers = space.read(superBlock, at: inodes.pointers(\.superBlock))
    var lines: [VirtualAddress: String] = [:]
    for lock in locks where lines[lock.address] == nil {
      var place = "<none>:0"
      if try lock.file.rawValue != 0 {
        place = Self.place(try supers[lock.index].device, try inodes[lock.index].number)
      }
      lines[lock.address] = try Self.line(lock, place)
    }
    var text = ProcText()
    // What waits for a lock comes behind it, and what waits for that next.
    for (index, lock) in first.enumerated() {
      var stack = [(lock: lock, depth: 0)]
      while let (lock, depth) = stack.popLast() {
        let mark = depth == 0 ? "" : String(repeating: " ", count: depth - 1) + "-> "
        text.line("\(index + 1): \(mark)\(lines[lock] ?? "")")
        for other in (waiting[lock] ?? []).reversed() { stack.append((other, depth + 1)) }
      }
    }
    return text.bytes
  }

  // Macros of include/linux/filelock.h (include/linux/fs.h before 6.3) and include/uapi/asm-generic/fcntl.h.
  private static func line(_ lock: Reading<Lock>, _ place: String) throws -> String {
    let (flags, hasFile) = (try lock.flags, try lock.file.rawValue != 0)
    var type = try lock.type
    var text: String
    if flags & 1 != 0 {
      text = flags & 8 != 0 ? "ACCESS" : flags & 1024 != 0 ? "OFDLCK" : "POSIX "
      text += hasFile ? " ADVISORY  " : " *NOINODE* "
    } else if flags & 2 != 0 {
      text = "FLOCK  ADVISORY  "
    } else if flags & (4 | 32) != 0 {
      // FL_UNLOCK_PENDING, FL_DOWNGRADE_PENDING: what it is to become.
      let isBreaking = flags & (128 | 256) != 0
      text = flags & 4 != 0 ? "DELEG  " : "LEASE  "
      text += isBreaking ? "BREAKING  " : hasFile ? "ACTIVE    " : "BREAKER   "
      type = flags & 128 != 0 ? 2 : flags & 256 != 0 ? 0 : type
    } else {
      text = "UNKNOWN UNKNOWN  "
    }
    text += type == 1 ? "WRITE " : type == 0 ? "READ " : "UNLCK "
    text += "\(flags & 1024 != 0 ? -1 : try lock.pid) \(place) "
    guard flags & 1 != 0 else { return text + "0 EOF" }
    let (start, end) = (try lock.start, try lock.end)
    return text + (end == .max ? "\(start) EOF" : "\(start) \(end)")
  }
}
