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
  typealias Field = FieldSelection.Field

  private let lists: VirtualAddress
  private let head, link, requests, request: Int
  private let lock: FieldSelection
  private let flags, type, pid, file, start, end: Field
  private let opened: FieldSelection
  private let inode, mount, dentry: Field
  private let node: FieldSelection
  private let number, superBlock: Field
  private let superSelection: FieldSelection
  private let device: Field
  private let paths: PathReader

  /// More locks than any host has.
  private static let most = 1 << 20
  /// How many locks in a row wait for each other at most.
  private static let deepest = 64

  init(kernel: Kernel) throws {
    let types = kernel.types
    lists = try kernel.symbol("file_lock_list", for: Self.self)
    head = try types.structure("file_lock_list_struct").field("hlist.first").offset
    let layout = try types.structure("file_lock")
    // From 6.9 on what leases and locks share is a struct of its own.
    let prefix = layout.hasField("c.flc_link") ? "c.flc_" : "fl_"
    link = try layout.field(prefix + "link").offset
    requests = try layout.field(prefix + "blocked_requests").offset
    request = try layout.field(prefix + "blocked_member").offset
    var fields = FieldSelection(layout)
    flags = try fields.want(prefix + "flags")
    type = try fields.want(prefix + "type")
    pid = try fields.want(prefix + "pid")
    file = try fields.want(prefix + "file")
    start = try fields.want("fl_start")
    end = try fields.want("fl_end")
    lock = fields
    fields = FieldSelection(try types.structure("file"))
    inode = try fields.want("f_inode")
    mount = try fields.want("f_path.mnt")
    dentry = try fields.want("f_path.dentry")
    opened = fields
    fields = FieldSelection(try types.structure("inode"))
    number = try fields.want("i_ino")
    superBlock = try fields.want("i_sb")
    node = fields
    fields = FieldSelection(try types.structure("super_block"))
    device = try fields.want("s_dev")
    superSelection = fields
    paths = try kernel.reader(PathReader.self)
  }

  func read(_ cpus: [PerCPU.CPU], in space: AddressSpace, into table: inout LockTable) {
    let limit = min(space.mostObjects(ofSize: 32), Self.most)
    let held = ListWalker(space: space, form: .nullTerminated, limit: limit)
      .members(ofHeads: cpus.map { $0.address(of: lists) + head })
    table.faults += held.faults
    var found = held.lists.flatMap { $0 }.map { (lock: $0 - link, blocker: VirtualAddress?.none) }
    var seen = Set(found.map(\.lock))
    var level = found.map(\.lock)
    var links: Set<VirtualAddress> = []
    for _ in 0..<Self.deepest where !level.isEmpty {
      let waiting = ListWalker(space: space, form: .circular, limit: limit)
        .members(ofHeads: level.map { $0 + requests }, seen: &links)
      table.faults += waiting.faults
      var next: [VirtualAddress] = []
      for (index, list) in waiting.lists.enumerated() {
        for member in list {
          guard seen.insert(member - request).inserted else {
            table.faults.append(MemoryFault(.virtual(member), .inconsistent("a lock that is held and waits")))
            continue
          }
          next.append(member - request)
          found.append((member - request, level[index]))
        }
      }
      level = next
    }
    if let deep = level.first {
      table.faults.append(
        MemoryFault(.virtual(deep), .inconsistent("more than \(Self.deepest) locks that wait for each other")))
    }
    let reads = space.read(lock, at: found.map(\.lock))
    func pointers(_ reads: StructReads, _ field: Field) -> [VirtualAddress] {
      reads.indices.map { (try? reads.pointer($0, field)) ?? VirtualAddress(0) }
    }
    let files = space.read(opened, at: pointers(reads, file))
    let nodes = space.read(node, at: pointers(files, inode))
    let supers = space.read(superSelection, at: pointers(nodes, superBlock))
    let (mounts, entries) = (pointers(files, mount), pointers(files, dentry))
    let names = paths.names(of: mounts.indices.map { FilePath(mount: mounts[$0], dentry: entries[$0]) }, in: space)
    for (index, item) in found.enumerated() {
      do throws(MemoryFault) {
        let device = try supers.load(index, device)
        if case .failure(let fault) = names[index] { table.faults.append(fault) }
        table.fileLocks.append(
          FileLock(
            kind: Self.kind(try reads.load(index, flags)), mode: Self.mode(try reads.load(index, type)),
            pid: Int32(truncatingIfNeeded: try reads.signed(index, pid)), major: device >> 20,
            minor: device & 0xfffff, inode: try nodes.load(index, number), name: try? names[index].get(),
            start: try reads.signed(index, start), end: try reads.signed(index, end), isWaiting: item.blocker != nil,
            address: item.lock, blocker: item.blocker))
      } catch {
        table.faults.append(error)
      }
    }
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
