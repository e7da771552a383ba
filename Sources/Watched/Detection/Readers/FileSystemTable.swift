import Binding
import KernelInfo
import KernelViews
import Memory

/// A file system that is in use, mounted or not.
struct FileSystem: Sendable {
  /// Its `super_block`.
  var address: VirtualAddress
  /// Its kind, `ext4`, and what the kernel's messages call it, `sda1`.
  var kind: [UInt8]
  var id: [UInt8]
  /// How far it is frozen: 0 not at all, 4 wholly (`SB_FREEZE_COMPLETE`).
  var frozen: Int32
  /// What the kind keeps of it.
  var content: VirtualAddress
  var isSharedMemory: Bool
  /// Where it is mounted, as the topmost mount sees it; nil where it is not.
  var place: [UInt8]?

  /// As a sentence names it.
  var name: String { "\(kind.printable) at \(place?.printable ?? id.printable)" }
}

struct FileSystemTable: Faulted {
  var systems: [FileSystem] = []
  var faults: [MemoryFault] = []
}

/// Reads the list of file systems.
///
/// Source: fs/super.c, `super_blocks`.
private struct FileSystemReader: SettledReader {
  static let subject = "the file systems"

  struct SuperBlock: KernelShape {
    static let type = "super_block"
    let link = Place("s_list")
    let kind = Field<VirtualAddress>("s_type")
    let id = Field<[UInt8]>("s_id")
    let frozen = Field<Int32>("s_writers.frozen")
    let content = Field<VirtualAddress>("s_fs_info")
    let operations = Field<VirtualAddress>("s_op")
  }

  struct Kind: KernelShape {
    static let type = "file_system_type"
    let name = Field<VirtualAddress>("name")
  }

  struct Mount: KernelShape {
    static let type = "mount"
    let shared = Place("mnt")
    let root = Field<VirtualAddress>("mnt.mnt_root")
  }

  let superBlock: Bound<SuperBlock>, kind: Bound<Kind>, mount: Bound<Mount>
  let mounts: SuperBlockMounts
  let paths: PathReader
  let list: VirtualAddress
  let sharedOperations: VirtualAddress?

  init(kernel: Kernel) throws {
    (superBlock, kind, mount) = try kernel.types.bind()
    mounts = try SuperBlockMounts(types: kernel.types)
    paths = try kernel.reader(PathReader.self)
    list = try kernel.symbol("super_blocks", for: Self.self)
    sharedOperations = kernel.symbols.address(of: "shmem_ops")
  }

  func read(_ kernel: Kernel) throws -> FileSystemTable {
    let space = kernel.addressSpace
    var table = FileSystemTable()
    let supers = space.list(of: superBlock, through: \.link, head: list, limit: 1 << 16, &table.faults)
    let names = space.strings(at: space.read(kind, at: supers.pointers(\.kind)).pointers(\.name), limit: 64)
    table.systems = supers.compactMap(&table.faults) { (reading) throws(MemoryFault) in
      FileSystem(
        address: reading.address, kind: try names[reading.index].get(), id: try reading.id, frozen: try reading.frozen,
        content: try reading.content, isSharedMemory: try sharedOperations == reading.operations)
    }
    let (lists, faults) = mounts.mounts(of: table.systems.map(\.address), in: space, limit: 1 << 16)
    table.faults += faults
    // One mount of each is enough to name it.
    let firsts = lists.enumerated().compactMap { index, list in list.first.map { (index, $0) } }
    let roots = space.read(mount, at: firsts.map(\.1))
    let found = paths.names(
      of: roots.map { FilePath(mount: $0.address(of: \.shared), dentry: (try? $0.root) ?? VirtualAddress(0)) },
      in: space)
    for ((index, _), name) in zip(firsts, found) {
      if let name = try? name.get(), name.isReachable { table.systems[index].place = name.bytes }
    }
    return table
  }
}

extension Look {
  /// The file systems that are in use.
  func fileSystems() throws(KernelError) -> FileSystemTable {
    try once("file systems") { kernel throws(KernelError) in try kernel.read(FileSystemReader.self) }
  }
}
