package import Memory

/// What the kernel has of a file beside its contents, as stat(2) says it.
package struct InodeStatus: Sendable {
  package struct Time: Sendable {
    /// Since 1970.
    package var seconds: Int64
    package var nanoseconds: UInt32
  }

  /// The address of its `inode`.
  package var address: VirtualAddress
  package var number: UInt64
  /// The bits of `st_mode`: kind and permissions.
  package var mode: UInt16
  package var uid, gid: UInt32
  package var links: UInt32
  /// Bytes; never below zero.
  package var size: UInt64
  /// Units of 512 bytes.
  package var blocks: UInt64
  /// Bytes that are best read at once.
  package var blockSize: UInt64
  /// What a device's file stands for, as the kernel numbers it.
  package var rawDevice: UInt64
  package var accessed, modified, changed: Time
  /// The address of its `super_block`.
  package var superBlock: VirtualAddress
  /// Where a symbolic link leads, where the file system keeps that in memory; null otherwise, and of whatever is no link.
  package var linkTarget: VirtualAddress

  /// S_IFMT, from inode(7).
  package enum Kind: UInt16, Sendable {
    case pipe = 0o01, characterDevice = 0o02, directory = 0o04, blockDevice = 0o06, file = 0o10, link = 0o12
    case socket = 0o14
  }

  /// Nil where the mode says none.
  package var kind: Kind? { Kind(rawValue: mode >> 12) }
}
