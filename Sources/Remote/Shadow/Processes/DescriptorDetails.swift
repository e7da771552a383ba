import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import StorageViews
import TaskViews

/// The files /proc/PID/fdinfo/N: where an open file stands, its flags, and what its kind has to say.
///
/// Source: fs/proc/fd.c, `seq_show`; `show_fdinfo` of each kind of file.
struct DescriptorDetails: KernelReader {
  static let subject = "the open files"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let files = Field<VirtualAddress>("files")
  }

  private struct Table: KernelShape {
    static let type = "fdtable"
    let count = Field<UInt32>("max_fds"), closing = Field<VirtualAddress>("close_on_exec")
  }

  private struct File: KernelShape {
    static let type = "file"
    let position = Field<Int64>("f_pos"), flags = Field<UInt32>("f_flags"), mount = Field<VirtualAddress>("f_path.mnt")
    let inode = Field<VirtualAddress>("f_inode"), operations = Field<VirtualAddress>("f_op")
    let own = Field<VirtualAddress>("private_data")
  }

  private struct Operations: KernelShape {
    static let type = "file_operations"
    let show = Field<VirtualAddress?>("show_fdinfo")
  }

  private struct Mount: KernelShape {
    static let type = "mount"
    let shared = Place("mnt"), id = Field<Int32>("mnt_id")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino"), superBlock = Field<VirtualAddress>("i_sb")
    let generation = Field<UInt32>("i_generation"), locks = Field<VirtualAddress?>("i_flctx")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<UInt64>("s_dev"), exports = Field<VirtualAddress?>("s_export_op")
  }

  private let task: Bound<Task>, table: Bound<Table>, file: Bound<File>, operations: Bound<Operations>
  private let mount: Bound<Mount>, inode: Bound<Inode>, superBlock: Bound<SuperBlock>
  private let trees: RedBlackTree

  init(kernel: Kernel) throws {
    let types = kernel.types
    (task, table, file, operations) = try types.bind()
    (mount, inode, superBlock) = try types.bind()
    trees = try RedBlackTree(types: types)
  }

  /// What is shown of descriptor `number` of a thread, which is the open file at `address`.
  func bytes(_ number: Int, _ address: VirtualAddress, of record: ProcessRecord, _ kernel: Kernel) throws -> [UInt8] {
    let space = kernel.addressSpace
    let files = try space.read(task, at: [record.task.address])[0].files
    guard files.rawValue != 0 else { throw ShadowError.missing }
    let table = space.read(
      table, at: [try space.pointer(at: files + kernel.offset(of: "fdt", in: "files_struct"))])[0]
    guard try number < Int(table.count) else { throw ShadowError.missing }
    let closing = try space.read(try table.closing + number / 8, count: 1)[0] >> UInt8(number % 8) & 1 != 0
    let open = space.read(file, at: [address])[0]
    let mount = space.read(mount, at: [try open.mount - mount.shared.offset])[0]
    let inode = space.read(inode, at: [try open.inode])[0]
    // O_CLOEXEC belongs to the descriptor.
    let flags = try open.flags & ~0o2000000 | (closing ? 0o2000000 : 0)
    var text = ProcText()
    // The number of the inode from 5.14 on.
    let inodeLine = try kernel.releaseNumbers() >= (5, 14) ? "\nino:\t\(inode.number)" : ""
    text.line(
      "pos:\t\(try open.position)\nflags:\t0\(String(flags, radix: 8))\nmnt_id:\t\(try mount.id)\(inodeLine)"
    )
    if try inode.locks != nil {
      for line in try kernel.reader(LockFile.self).lines(ofInode: inode.address, file: address, owner: files, kernel) {
        text.line("lock:\t\(line)")
      }
    }
    if let show = try space.read(operations, at: [try open.operations])[0].show {
      try addOwn(open, try kernel.functionName(show) ?? "a function without a name", kernel, &text)
    }
    return text.bytes
  }

  private func addOwn(
    _ open: Reading<File>, _ function: String, _ kernel: Kernel, _ text: inout ProcText
  ) throws {
    let own = try open.own
    switch function {
    case "eventfd_show_fdinfo":
      let context = try kernel.struct("eventfd_ctx", at: own)
      let count = String(try context.unsigned("count"), radix: 16)
      text.line("eventfd-count: \(ProcText.padded(count, 16))\neventfd-id: \(try context.signed("id"))")
      if try EventCounters.showsSemaphore(kernel) {
        // EFD_SEMAPHORE.
        text.line("eventfd-semaphore: \(try context.unsigned("flags") & 1)")
      }
    case "ep_show_fdinfo": try addWatched(own, kernel, &text)
    case "signalfd_show_fdinfo":
      text.line("sigmask:\t\(ProcText.hex(~(try kernel.struct("signalfd_ctx", at: own).unsigned("sigmask")), 16))")
    case "timerfd_show": try addTimer(own, kernel, &text)
    case "inotify_show_fdinfo": try addMarks(own, kernel, &text)
    case "sock_show_fdinfo":
      let show = try kernel.pointers(
        "show_fdinfo", of: "proto_ops", at: [try kernel.struct("socket", at: own).pointer("ops")])[0]
      guard show.rawValue != 0 else { return }
      let name = try kernel.functionName(show) ?? ""
      guard name == "unix_show_fdinfo" else { throw ShadowError.unreadable("what \(name) shows is not known") }
      let socket = try kernel.struct("unix_sock", at: try kernel.struct("socket", at: own).pointer("sk"))
      // TCP_LISTEN: it counts what waits in sockets that nobody has accepted.
      guard try socket.unsigned("sk.__sk_common.skc_state") != 10 else {
        throw ShadowError.unreadable("how many descriptors wait in a listening socket is not known")
      }
      text.line("scm_fds: \(try socket.unsigned("scm_stat.nr_fds") & 0xffff_ffff)")
    case "pidfd_show_fdinfo", "tty_show_fdinfo": try addNumbers(function, own, kernel, &text)
    default: throw ShadowError.unreadable("what \(function) shows is not known")
    }
  }

  private func addNumbers(
    _ function: String, _ own: VirtualAddress, _ kernel: Kernel, _ text: inout ProcText
  ) throws {
    if function == "tty_show_fdinfo" {
      let terminal = try kernel.struct("tty_struct", at: kernel.struct("tty_file_private", at: own).pointer("tty"))
      // Only one whose driver names the other end by a number has a function for that.
      let show = try kernel.pointers("show_fdinfo", of: "tty_operations", at: [try terminal.pointer("ops")])[0]
      if show.rawValue != 0 { text.line("tty-index:\t\(try terminal.signed("index"))") }
      return
    }
    let pid = try kernel.struct("pid", at: own)
    // The numbers in all namespaces from the initial one on.
    let level = Int(min(32, try pid.unsigned("level")))
    let (first, size) = (try kernel.offset(of: "numbers", in: "pid"), try kernel.types.structure("upid").size)
    // Without a task it has ended.
    let tasks = try kernel.addressSpace.pointer(at: own + kernel.offset(of: "tasks", in: "pid"))
    let numbers = try (0...level).map { try kernel.addressSpace.load(own + (first + $0 * size), as: Int32.self) }
    let shown = tasks.rawValue == 0 ? [-1] : numbers
    text.line("Pid:\t\(shown[0])\nNSpid:\(shown.map { "\t\($0)" }.joined())")
  }

  private struct Watched: KernelShape {
    static let type = "epitem"
    let node = Place("rbn"), number = Field<Int32>("ffd.fd"), file = Field<VirtualAddress>("ffd.file")
    let events = Field<UInt32>("event.events"), data = Field<UInt64>("event.data")
  }

  /// Source: fs/eventpoll.c, `ep_show_fdinfo`.
  private func addWatched(_ own: VirtualAddress, _ kernel: Kernel, _ text: inout ProcText) throws {
    let space = kernel.addressSpace
    let root = try space.pointer(at: own + kernel.offset(of: "rbr.rb_root.rb_node", in: "eventpoll"))
    let nodes = trees.nodes(root: root, in: space, limit: 1 << 20)
    if let fault = nodes.faults.first { throw fault }
    let shape = try kernel.bound(Watched.self)
    let items = space.read(shape, at: nodes.nodes.map { $0 - shape.node.offset })
    let files = space.read(file, at: items.pointers(\.file))
    let inodes = space.read(inode, at: files.pointers(\.inode))
    let supers = space.read(superBlock, at: inodes.pointers(\.superBlock))
    for item in items {
      let data = ProcText.padded(String(try item.data, radix: 16), 16)
      text.line(
        "tfd: \(ProcText.padded("\(try item.number)", 8)) events: "
          + "\(ProcText.padded(String(try item.events, radix: 16), 8)) data: \(data)  "
          + "pos:\(try files[item.index].position) ino:\(String(try inodes[item.index].number, radix: 16)) "
          + "sdev:\(String(try supers[item.index].device, radix: 16))")
    }
  }

  /// Source: fs/timerfd.c, `timerfd_show`.
  private func addTimer(_ own: VirtualAddress, _ kernel: Kernel, _ text: inout ProcText) throws {
    let timer = try kernel.struct("timerfd_ctx", at: own)
    let clock = try timer.signed("clockid")
    // CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM have a timer of another kind.
    let expires = try timer.signed(clock == 8 || clock == 9 ? "t.alarm.node.expires" : "t.tmr.node.expires")
    let now = try kernel.monotonicTime()
    let offsets = try BootClock(kernel: kernel).offsets(kernel)
    let passed =
      switch clock {
      case 0, 8: now &+ offsets.real
      case 7, 9: now &+ offsets.boot
      default: now
      }
    func seconds(_ nanoseconds: Int64) -> String { "(\(nanoseconds / 1_000_000_000), \(nanoseconds % 1_000_000_000))" }
    text.line("clockid: \(clock)\nticks: \(try timer.unsigned("ticks"))")
    text.line("settime flags: 0\(String(try timer.unsigned("settime_flags"), radix: 8))")
    text.line("it_value: \(seconds(max(0, expires &- passed)))\nit_interval: \(seconds(try timer.signed("tintv")))")
  }

  private struct Mark: KernelShape {
    static let type = "inotify_inode_mark"
    let link = Place("fsn_mark.g_list"), number = Field<Int32>("wd"), mask = Field<UInt32>("fsn_mark.mask")
    let flags = Field<UInt32>("fsn_mark.flags"), connector = Field<VirtualAddress>("fsn_mark.connector")
  }

  private struct Connector: KernelShape {
    static let type = "fsnotify_mark_connector"
    // The inode itself; until 6.9 the place of its list of marks.
    let object = Field<VirtualAddress>("obj")
  }

  /// Source: fs/notify/fdinfo.c, `inotify_fdinfo`.
  private func addMarks(_ own: VirtualAddress, _ kernel: Kernel, _ text: inout ProcText) throws {
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let marks = space.list(
      of: try kernel.bound(Mark.self), through: \.link,
      head: own + (try kernel.offset(of: "marks_list", in: "fsnotify_group")), limit: 1 << 20, &faults)
    if let fault = faults.first { throw fault }
    let connectors = try kernel.read(Connector.self, at: marks.pointers(\.connector))
    // Where the object is not the inode it is the place of the pointer to the marks in it.
    let isPlace = try kernel.types.structure("fsnotify_mark_connector").field("obj").typeName != ""
    let offset = isPlace ? try kernel.offset(of: "i_fsnotify_marks", in: "inode") : 0
    let inodes = space.read(inode, at: connectors.pointers(\.object).map { $0 - offset })
    let supers = space.read(superBlock, at: inodes.pointers(\.superBlock))
    for mark in marks {
      let (inode, block) = (inodes[mark.index], supers[mark.index])
      // IN_ALL_EVENTS; IN_EXCL_UNLINK and IN_ONESHOT are kept as flags of the mark.
      var mask = try mark.mask & 0xfff
      if try mark.flags & 0x10 != 0 { mask |= 1 << 26 }
      if try mark.flags & 0x20 != 0 { mask |= 1 << 31 }
      func hex(_ value: some BinaryInteger) -> String { String(value, radix: 16) }
      text.line(
        "inotify wd:\(hex(UInt32(bitPattern: try mark.number))) ino:\(hex(try inode.number)) sdev:\(hex(try block.device)) "
          + "mask:\(hex(mask)) ignored_mask:0 \(try handle(inode, block, kernel))")
    }
  }

  /// The name that a file system gives to a file for who exports it.
  ///
  /// Source: fs/exportfs/expfs.c, `exportfs_encode_inode_fh`; include/linux/exportfs.h, `fid_type`.
  private func handle(_ inode: Reading<Inode>, _ block: Reading<SuperBlock>, _ kernel: Kernel) throws -> String {
    let (number, generation) = (try inode.number, try inode.generation)
    let (low, high) = (UInt32(truncatingIfNeeded: number), UInt32(truncatingIfNeeded: number >> 32))
    let exports = try block.exports
    let encode = try exports.map { try kernel.pointers("encode_fh", of: "export_operations", at: [$0])[0] }
    let name = try encode.flatMap {
      $0.rawValue == 0 ? nil : try kernel.functionName($0) ?? "a function without a name"
    }
    let isNew = try kernel.releaseNumbers() >= (6, 7)
    let (type, words): (Int, [UInt32])
    switch name {
    // From 6.7 on those that cannot be exported have names of 64 bits.
    case nil where exports == nil && isNew:
      (type, words) = (0x81, [low, high, generation])
    case nil, "generic_encode_ino32_fh": (type, words) = (1, [low, generation])
    case "shmem_encode_fh": (type, words) = (1, [generation, low, high])
    case "kernfs_encode_fh": (type, words) = (0xfe, [low, high])
    case let name?: throw ShadowError.unreadable("how \(name) names a file is not known")
    }
    let bytes = words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32($0 * 8)) } }
    let text = bytes.map { ProcText.hex(UInt64($0), 2) }.joined()
    return "fhandle-bytes:\(String(bytes.count, radix: 16)) fhandle-type:\(String(type, radix: 16)) f_handle:\(text)"
  }
}

/// Whether this kernel says of a counter of events whether it is a semaphore.
///
/// Source: fs/eventfd.c, `eventfd_show_fdinfo`: from 6.5 on.
private enum EventCounters {
  static func showsSemaphore(_ kernel: Kernel) throws -> Bool {
    try kernel.releaseNumbers() >= (6, 5)
  }
}
