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

  private struct Dentry: KernelShape {
    static let type = "dentry"
    let inode = Field<VirtualAddress>("d_inode")
  }

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let link = Place("s_list"), device = Field<UInt64>("s_dev"), root = Field<VirtualAddress>("s_root")
  }

  private struct Inode: KernelShape {
    static let type = "inode"
    let number = Field<UInt64>("i_ino"), mode = Field<UInt32>("i_mode"), links = Field<UInt64>("i_nlink")
    let uid = Field<UInt32>("i_uid.val"), gid = Field<UInt32>("i_gid.val"), size = Field<UInt64>("i_size")
    let blocks = Field<UInt64>("i_blocks"), bits = Field<UInt64>("i_blkbits"), device = Field<UInt64>("i_rdev")
    let superBlock = Field<VirtualAddress>("i_sb")
    // A struct each until 6.10, under other names from 6.7 on.
    let times = ["atime", "mtime", "ctime"].map { name in
      [
        Field<Int64>(optional: "i_\(name)_sec"), Field<Int64>(optional: "__i_\(name).tv_sec"),
        Field<Int64>(optional: "i_\(name).tv_sec"),
      ]
    }
  }

  private let task: Bound<Task>, files: Bound<Files>, table: Bound<FileTable>, file: Bound<File>
  private let dentry: Bound<Dentry>, superBlock: Bound<SuperBlock>, inode: Bound<Inode>
  private let supers: VirtualAddress

  init(kernel: Kernel) throws {
    let types = kernel.types
    (task, files, table, file) = try types.bind()
    (dentry, superBlock, inode) = try types.bind()
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
    return try status(inode: space.read(file, at: [address])[0].inode, in: space)
  }

  func status(dentry address: VirtualAddress, in space: AddressSpace) throws -> FileStatus {
    try status(inode: space.read(dentry, at: [address])[0].inode, in: space)
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

  private func status(inode address: VirtualAddress, in space: AddressSpace) throws -> FileStatus {
    guard address.rawValue != 0 else { throw ShadowError.missing }
    let inode = space.read(inode, at: [address])[0]
    let device = try space.read(superBlock, at: [inode.superBlock])[0].device
    let times = try inode.shape.times.map { fields in
      try fields.first { $0.isPresent }.map { try inode.load($0) } ?? 0
    }
    return FileStatus(
      device: device, specialDevice: try inode.device, inode: try inode.number, links: try inode.links,
      size: try inode.size, blocks: try inode.blocks, mode: try inode.mode & 0xffff, uid: try inode.uid,
      gid: try inode.gid, blockSize: 1 << min(30, try inode.bits), times: times)
  }
}
