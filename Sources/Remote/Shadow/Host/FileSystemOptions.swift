import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import StorageViews

/// The options that file systems print by code of their own, of those that are known here.
///
/// Source: mm/shmem.c, `shmem_show_options`; fs/devpts/inode.c, `devpts_show_options`; fs/proc/root.c, `proc_show_options`;
/// kernel/bpf/inode.c, `bpf_show_options`; fs/ramfs/inode.c, `ramfs_show_options`; fs/hugetlbfs/inode.c,
/// `hugetlbfs_show_options`; kernel/cgroup/cgroup.c, `cgroup_show_options`; and of file systems that modules may bring
/// ``ModuleFileSystems``.
struct FileSystemOptions: KernelReader {
  static let subject = "the options of file systems"

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let link = Place("s_list")
    let device = Field<UInt64>("s_dev"), own = Field<VirtualAddress>("s_fs_info")
    let operations = Field<VirtualAddress>("s_op"), root = Field<VirtualAddress>("s_root")
    let kind = Field<VirtualAddress>("s_type"), flags = Field<UInt64>("s_flags")
    let disk = Field<VirtualAddress?>("s_bdev"), blockSize = Field<UInt64>("s_blocksize")
  }

  private struct FileSystem: KernelShape {
    static let type = "file_system_type"
    let name = Field<VirtualAddress>("name")
  }

  private struct Memory: KernelShape {
    static let type = "ramfs_fs_info"
    let mode = Field<UInt64>("mount_opts.mode")
  }

  private struct HugePages: KernelShape {
    static let type = "hugetlbfs_sb_info"
    let mode = Field<UInt64>("mode"), uid = Field<UInt32>("uid.val"), gid = Field<UInt32>("gid.val")
    let inodes = Field<Int64>("max_inodes"), state = Field<VirtualAddress>("hstate")
  }

  private struct HugePageState: KernelShape {
    static let type = "hstate"
    let order = Field<UInt64>("order")
  }

  private struct Nodes: KernelShape {
    static let type = "kernfs_super_info"
    let root = Field<VirtualAddress>("root")
  }

  private struct Groups: KernelShape {
    static let type = "cgroup_root"
    let root = Field<VirtualAddress>("kf_root"), flags = Field<UInt64>("flags")
  }

  private struct Operations: KernelShape {
    static let type = "super_operations"
    let show = Field<VirtualAddress>("show_options")
  }

  private struct SharedMemory: KernelShape {
    static let type = "shmem_sb_info"
    let blocks = Field<UInt64>("max_blocks"), inodes = Field<UInt64>("max_inodes"), mode = Field<UInt64>("mode")
    let uid = Field<UInt32>("uid.val"), gid = Field<UInt32>("gid.val")
    let hasLongNumbers = Field<Bool>(optional: "full_inums"), huge = Field<Int8>(optional: "huge")
    let isUnswapped = Field<Bool>(optional: "noswap")
  }

  private struct Terminals: KernelShape {
    static let type = "pts_fs_info"
    let hasUser = Field<Int32>("mount_opts.setuid"), hasGroup = Field<Int32>("mount_opts.setgid")
    let uid = Field<UInt32>("mount_opts.uid.val"), gid = Field<UInt32>("mount_opts.gid.val")
    let mode = Field<UInt64>("mount_opts.mode"), multiplexerMode = Field<UInt64>("mount_opts.ptmxmode")
    let most = Field<Int32>("mount_opts.max")
  }

  private struct Proc: KernelShape {
    static let type = "proc_fs_info"
    let gid = Field<UInt32>("pid_gid.val"), hiding = Field<UInt64>("hide_pid"), subset = Field<UInt64>("pidonly")
  }

  private let superBlock: Bound<SuperBlock>, operations: Bound<Operations>
  private let sharedMemory: Bound<SharedMemory>?, terminals: Bound<Terminals>?, proc: Bound<Proc>?
  private let memory: Bound<Memory>?, hugePages: Bound<HugePages>?, hugePageState: Bound<HugePageState>?
  private let nodes: Bound<Nodes>?, groups: Bound<Groups>?
  /// The bits of the flags of control groups of version 2, and the option that each is, in the order in which they are printed.
  private let groupFlags: [(bit: UInt64, name: String)]
  private let supers: VirtualAddress
  private let makers: [VirtualAddress: Kind]

  private enum Kind { case sharedMemory, terminals, proc, programs, memory, hugePages, nodes }

  init(kernel: Kernel) throws {
    (superBlock, operations) = try kernel.types.bind()
    sharedMemory = try? Bound(kernel.types)
    terminals = try? Bound(kernel.types)
    proc = try? Bound(kernel.types)
    memory = try? Bound(kernel.types)
    hugePages = try? Bound(kernel.types)
    hugePageState = try? Bound(kernel.types)
    nodes = try? Bound(kernel.types)
    groups = try? Bound(kernel.types)
    groupFlags = [
      ("NS_DELEGATE", "nsdelegate"), ("FAVOR_DYNMODS", "favordynmods"), ("MEMORY_LOCAL_EVENTS", "memory_localevents"),
      ("MEMORY_RECURSIVE_PROT", "memory_recursiveprot"),
      ("MEMORY_HUGETLB_ACCOUNTING", "memory_hugetlb_accounting"), ("PIDS_LOCAL_EVENTS", "pids_localevents"),
    ].compactMap { name, option in
      (try? kernel.types.requiredEnumerator("CGRP_ROOT_\(name)")).map { (UInt64(bitPattern: $0), option) }
    }
    supers = try kernel.symbol("super_blocks", for: Self.self)
    var makers: [VirtualAddress: Kind] = [:]
    for (name, kind) in [
      ("shmem_show_options", Kind.sharedMemory), ("devpts_show_options", .terminals), ("proc_show_options", .proc),
      ("bpf_show_options", .programs), ("ramfs_show_options", .memory), ("hugetlbfs_show_options", .hugePages),
      ("kernfs_sop_show_options", .nodes),
    ] {
      for address in kernel.symbols.addresses(of: name) { makers[address] = kind }
    }
    self.makers = makers
  }

  /// The options of each file system that has some, by the numbers of its device.
  ///
  /// Cost: four round trips.
  func read(_ kernel: Kernel) throws -> [UInt64: String] {
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    // No host mounts as many.
    let supers = space.list(of: superBlock, through: \.link, head: supers, limit: 1 << 18, &faults)
    if let fault = faults.first { throw fault }
    let shows = space.read(operations, at: supers.pointers(\.operations)).pointers(\.show)
    func own(_ kind: Kind) -> [VirtualAddress] {
      supers.map { block in
        makers[shows[block.index]] == kind ? (try? block.own) ?? VirtualAddress(0) : VirtualAddress(0)
      }
    }
    let memories = sharedMemory.map { space.read($0, at: own(.sharedMemory)) }
    let terminals = terminals.map { space.read($0, at: own(.terminals)) }
    let procs = proc.map { space.read($0, at: own(.proc)) }
    let memoryOnly = memory.map { space.read($0, at: own(.memory)) }
    let huge = hugePages.map { space.read($0, at: own(.hugePages)) }
    let states = huge.flatMap { huge in hugePageState.map { space.read($0, at: huge.pointers(\.state)) } }
    let nodes = nodes.map { space.read($0, at: own(.nodes)) }
    let roots = try kernel.reader(DirectoryReader.self).status(ofEntries: supers.pointers(\.root), in: space)
    let half = try kernel.words("_totalram_pages", 1)[0] / 2
    let names = space.strings(
      at: space.read(try kernel.bound(FileSystem.self), at: supers.pointers(\.kind)).pointers(\.name))
    let others = ModuleFileSystems(kernel: kernel)
    var options: [UInt64: String] = [:]
    for block in supers {
      let text =
        switch makers[shows[block.index]] {
        case .sharedMemory: try memories.map { try Self.options($0[block.index], half: half) }
        case .terminals: try terminals.map { try Self.options($0[block.index]) }
        case .proc: try procs.map { try Self.options($0[block.index]) }
        case .programs: Self.options(try roots[block.index].get())
        case .memory: try memoryOnly.map { try Self.options($0[block.index]) }
        case .hugePages:
          try huge.flatMap { own in
            try states.map { try Self.options(own[block.index], $0[block.index]) }
          }
        case .nodes: try nodes.flatMap { try groupOptions($0[block.index], kernel) }
        case nil:
          try others.options(
            of: names[block.index].get(),
            .init(
              own: block.own, flags: block.flags, hasDisk: block.disk != nil, blockSize: block.blockSize,
              root: try? roots[block.index].get()))
        }
      if let text, !text.isEmpty { options[try block.device] = text }
    }
    return options
  }

  private static func octal(_ mode: UInt64) -> String { ProcText.padded(String(mode & 0o7777, radix: 8), 3, "0") }

  /// `half` is half of the host's pages: the size of those that were not told theirs.
  private static func options(_ own: Reading<SharedMemory>, half: UInt64) throws -> String {
    var text = ""
    let (blocks, inodes, mode) = (try own.blocks, try own.inodes, try own.mode & 0o7777)
    if blocks != half { text += ",size=\(blocks &* 4)k" }
    if inodes != half { text += ",nr_inodes=\(inodes)" }
    if mode != 0o1777 { text += ",mode=\(octal(mode))" }
    if try own.uid != 0 { text += ",uid=\(try own.uid)" }
    if try own.gid != 0 { text += ",gid=\(try own.gid)" }
    if try own.hasLongNumbers { text += ",inode64" }
    // SHMEM_HUGE_*, from mm/shmem.c.
    let huge: [Int8: String] = [1: "always", 2: "within_size", 3: "advise", -1: "deny", -2: "force"]
    if let name = huge[try own.huge] { text += ",huge=\(name)" }
    if try own.isUnswapped { text += ",noswap" }
    return text
  }

  /// Of file systems of BPF programs, whose root directory has what they were told.
  private static func options(_ root: InodeStatus) -> String {
    var text = ""
    if root.uid != 0 { text += ",uid=\(root.uid)" }
    if root.gid != 0 { text += ",gid=\(root.gid)" }
    // All permissions are the default; the sticky bit is always there.
    let mode = root.mode & 0o6777
    if mode != 0o777 { text += ",mode=\(String(mode, radix: 8))" }
    return text
  }

  private static func options(_ own: Reading<Memory>) throws -> String {
    let mode = try own.mode & 0xffff
    return mode == 0o755 ? "" : ",mode=\(String(mode, radix: 8))"
  }

  private static func options(_ own: Reading<HugePages>, _ state: Reading<HugePageState>) throws -> String {
    var text = ""
    if try own.uid != 0 { text += ",uid=\(try own.uid)" }
    if try own.gid != 0 { text += ",gid=\(try own.gid)" }
    if try own.mode & 0xffff != 0o755 { text += ",mode=\(String(try own.mode & 0xffff, radix: 8))" }
    if try own.inodes != -1 { text += ",nr_inodes=\(try own.inodes)" }
    // KiB of a page; one as large as no page table can have it is a lie.
    let size = (4 as UInt64) << min(40, try state.order)
    return text + ",pagesize=" + (size >= 1024 ? "\(size / 1024)M" : "\(size)K")
  }

  /// Of control groups of version 2; nil for other file systems of their kind.
  private func groupOptions(_ own: Reading<Nodes>, _ kernel: Kernel) throws -> String? {
    guard let groups, let place = kernel.symbols.address(of: "cgrp_dfl_root") else { return nil }
    let root = kernel.addressSpace.read(groups, at: [place])[0]
    guard try own.root == root.root else { return nil }
    let flags = try root.flags
    return groupFlags.filter { flags & $0.bit != 0 }.map { ",\($0.name)" }.joined()
  }

  private static func options(_ own: Reading<Terminals>) throws -> String {
    var text = ""
    if try own.hasUser != 0 { text += ",uid=\(try own.uid)" }
    if try own.hasGroup != 0 { text += ",gid=\(try own.gid)" }
    text += ",mode=\(octal(try own.mode)),ptmxmode=\(octal(try own.multiplexerMode))"
    // NR_UNIX98_PTY_MAX.
    let most = try own.most
    if most < 1 << 20 { text += ",max=\(most)" }
    return text
  }

  private static func options(_ own: Reading<Proc>) throws -> String {
    var text = ""
    if try own.gid != 0 { text += ",gid=\(try own.gid)" }
    // HIDEPID_*, from include/linux/proc_fs.h.
    let hiding: [UInt64: String] = [1: "noaccess", 2: "invisible", 4: "ptraceable"]
    if let name = hiding[try own.hiding] { text += ",hidepid=\(name)" }
    if try own.subset != 0 { text += ",subset=pid" }
    return text
  }
}
