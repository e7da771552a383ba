import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging
import StorageViews

/// What stat(2) says of a file of the host.
public struct FileStatus: Sendable {
  /// Numbers of devices as the kernel has them: twelve bits of the major one, and twenty.
  public var device, specialDevice: UInt64
  public var inode, links, size, blocks: UInt64
  public var mode, uid, gid: UInt32
  /// Bytes.
  public var blockSize: UInt64
  /// Seconds since 1970: when it was read, written, changed.
  public var times: [Int64]
}

/// Reads it from inodes.
struct FileStatusReader: KernelReader {
  static let subject = "the states of files"

  private struct Task: KernelShape {
    static let type = "task_struct"
    let files = Field<VirtualAddress>("files")
  }

  private struct Files: KernelShape {
    static let type = "files_struct"
    let table = Field<VirtualAddress>("fdt")
  }

  private struct FileTable: KernelShape {
    static let type = "fdtable"
    let size = Field<UInt64>("max_fds"), files = Field<VirtualAddress>("fd")
  }

  private struct File: KernelShape {
    static let type = "file"
    let inode = Field<VirtualAddress>("f_inode")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let link = Place("s_list"), device = Field<UInt64>("s_dev"), root = Field<VirtualAddress>("s_root")
  }

  private let task: Bound<Task>, files: Bound<Files>, table: Bound<FileTable>, file: Bound<File>
  private let superBlock: Bound<SuperBlock>
  private let inodes: DirectoryReader
  private let supers: VirtualAddress

  init(kernel: Kernel) throws {
    let types = kernel.types
    (task, files, table, file) = try types.bind()
    superBlock = try Bound(types)
    inodes = try kernel.reader(DirectoryReader.self)
    supers = try kernel.symbol("super_blocks", for: Self.self)
  }

  /// Of the file that a task has open under a number.
  func status(descriptor: Int, ofTask address: VirtualAddress, in space: AddressSpace) throws -> FileStatus {
    let own = try space.read(task, at: [address])[0].files
    guard own.rawValue != 0 else { throw ShadowError.missing }
    let table = try space.read(table, at: [space.read(files, at: [own])[0].table])[0]
    guard descriptor >= 0, UInt64(descriptor) < (try table.size) else { throw ShadowError.missing }
    return try status(file: space.pointer(at: table.files + descriptor * 8), in: space)
  }

  func status(file address: VirtualAddress, in space: AddressSpace) throws -> FileStatus {
    guard address.rawValue != 0 else { throw ShadowError.missing }
    let inode = try space.read(file, at: [address])[0].inode
    guard inode.rawValue != 0 else { throw ShadowError.missing }
    return try status(inodes.status(of: [inode], in: space)[0].get(), in: space)
  }

  func status(dentry address: VirtualAddress, in space: AddressSpace) throws -> FileStatus {
    try status(inodes.status(ofEntries: [address], in: space)[0].get(), in: space)
  }

  /// Of the root of the file system on a device.
  func status(rootOf device: UInt64, in space: AddressSpace) throws -> FileStatus {
    var faults: [MemoryFault] = []
    // No host mounts as many.
    let all = space.list(of: superBlock, through: \.link, head: supers, limit: 1 << 18, &faults)
    for block in all where try block.device == device { return try status(dentry: block.root, in: space) }
    if let fault = faults.first { throw fault }
    throw ShadowError.missing
  }

  /// Of a namespace: a file of a file system that the kernel has mounted for itself.
  ///
  /// Source: fs/nsfs.c.
  func status(namespace number: UInt64, _ kernel: Kernel) throws -> FileStatus {
    let place = try kernel.symbol("nsfs_mnt", for: Self.self)
    let mount = try kernel.addressSpace.pointer(at: place)
    let block = try kernel.read(Mount.self, at: [mount])[0].superBlock
    let device = try kernel.addressSpace.read(superBlock, at: [block])[0].device
    // A plain file that all may read.
    return FileStatus(
      device: device, specialDevice: 0, inode: number, links: 1, size: 0, blocks: 0, mode: 0o100444, uid: 0, gid: 0,
      blockSize: 4096, times: [0, 0, 0])
  }

  private struct Mount: KernelShape {
    static let type = "vfsmount"
    let superBlock = Field<VirtualAddress>("mnt_sb")
  }

  private func status(_ inode: InodeStatus, in space: AddressSpace) throws -> FileStatus {
    FileStatus(
      device: try space.read(superBlock, at: [inode.superBlock])[0].device, specialDevice: inode.rawDevice,
      inode: inode.number, links: UInt64(inode.links), size: inode.size, blocks: inode.blocks, mode: UInt32(inode.mode),
      uid: inode.uid, gid: inode.gid, blockSize: inode.blockSize,
      times: [inode.accessed, inode.modified, inode.changed].map(\.seconds))
  }
}
