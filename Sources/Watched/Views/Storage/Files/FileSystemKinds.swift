import Binding
import KernelInfo
package import LinuxKernel
package import Memory
import Paging

/// What kinds of file systems files are of: whose pages hold files, and which have all their entries in memory.
///
/// Source: include/linux/fs.h, `file_system_type`.
package struct FileSystemKinds: KernelReader {
  package static let subject = "the kinds of file systems"

  private struct SuperBlock: KernelShape {
    static let type = "super_block"
    let device = Field<UInt64>("s_dev"), kind = Field<VirtualAddress>("s_type")
    let operations = Field<VirtualAddress>("s_op")
  }

  private struct Kind: KernelShape {
    static let type = "file_system_type"
    let name = Field<VirtualAddress>("name"), flags = Field<UInt64>("fs_flags")
  }

  private let superBlock: Bound<SuperBlock>, kind: Bound<Kind>
  private let memories: Set<VirtualAddress>

  package init(kernel: Kernel) throws {
    (superBlock, kind) = try kernel.types.bind()
    memories = Set(["shmem_ops", "ramfs_ops"].flatMap { kernel.symbols.addresses(of: $0) })
  }

  package struct System: Sendable {
    /// `ext4`, `tmpfs`.
    package var name: [UInt8]
    /// The device's number.
    package var device: UInt64
    /// Whether files and names are nowhere but in memory: tmpfs, ramfs, devtmpfs, and the first root.
    package var isMemory: Bool
    /// Whether its files lie on a device or another host, and what was read of them in pages of memory. Those of others are made when
    /// they are read: /proc, /sys.
    package var isStored: Bool
  }

  /// File systems of network and host, which have no device of their own, whose files are pages all the same.
  private static let remote = Set(
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "fuse", "afs", "vboxsf", "btrfs"].map { Array($0.utf8) })

  /// The file system whose `super_block` is at `address`.
  ///
  /// Cost: three round trips.
  package func system(at address: VirtualAddress, _ kernel: Kernel) throws -> System {
    let space = kernel.addressSpace
    let block = space.read(superBlock, at: [address])[0]
    let kind = space.read(kind, at: [try block.kind])[0]
    let name = try space.strings(at: [try kind.name], limit: 64)[0].get()
    let isMemory = memories.contains(try block.operations)
    // FS_REQUIRES_DEV.
    let isStored = try kind.flags & 1 != 0 || Self.remote.contains(name)
    return System(name: name, device: try block.device, isMemory: isMemory, isStored: isStored)
  }
}
