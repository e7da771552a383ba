import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The options that file systems print by code of their own, of those that are known here.
///
/// Source: mm/shmem.c, `shmem_show_options`; fs/devpts/inode.c, `devpts_show_options`; fs/proc/root.c, `proc_show_options`.
struct FileSystemOptions: KernelReader {
  static let subject = "the options of file systems"

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let link = Place("s_list")
    let device = Field<UInt64>("s_dev"), own = Field<VirtualAddress>("s_fs_info")
    let operations = Field<VirtualAddress>("s_op")
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
  private let supers: VirtualAddress
  private let makers: [VirtualAddress: Kind]

  private enum Kind { case sharedMemory, terminals, proc }

  init(kernel: Kernel) throws {
    (superBlock, operations) = try kernel.types.bind()
    sharedMemory = try? Bound(kernel.types)
    terminals = try? Bound(kernel.types)
    proc = try? Bound(kernel.types)
    supers = try kernel.symbol("super_blocks", for: Self.self)
    var makers: [VirtualAddress: Kind] = [:]
    for (name, kind) in [
      ("shmem_show_options", Kind.sharedMemory), ("devpts_show_options", .terminals), ("proc_show_options", .proc),
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
    let half = try kernel.words("_totalram_pages", 1)[0] / 2
    var options: [UInt64: String] = [:]
    for block in supers {
      let text =
        switch makers[shows[block.index]] {
        case .sharedMemory: try memories.map { try Self.options($0[block.index], half: half) }
        case .terminals: try terminals.map { try Self.options($0[block.index]) }
        case .proc: try procs.map { try Self.options($0[block.index]) }
        case nil: String?.none
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
