package import Memory

/// The name of an open file, a mapping or a mount, as the kernel makes it for /proc.
public struct FileName: Sendable, Hashable {
  /// Any bytes but zero: a path from the root down, or what the kernel calls a file without one: `pipe:[1234]`,
  /// `socket:[1234]`, `anon_inode:[eventpoll]`, `/memfd:name`.
  public var bytes: [UInt8]
  /// Whether the file has been removed.
  public var isDeleted = false
  /// Whether the walk up arrived at the root that was asked for; where it did not, the path starts where it ended.
  public var isReachable = true

  /// The bytes, with ` (deleted)` behind them where it applies: what /proc shows.
  public var display: [UInt8] { isDeleted ? bytes + Array(" (deleted)".utf8) : bytes }
}

/// Where a file is: a mount, and an entry in it. Mirrors `struct path`.
package struct FilePath: Sendable, Hashable {
  /// The `vfsmount`.
  package var mount: VirtualAddress
  package var dentry: VirtualAddress

  package init(mount: VirtualAddress, dentry: VirtualAddress) {
    self.mount = mount
    self.dentry = dentry
  }
}
