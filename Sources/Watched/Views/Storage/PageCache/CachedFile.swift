public import LinuxKernel
public import Memory

/// A file of which pages lie in memory.
public struct CachedFile: Sendable {
  /// A path where the kernel knows one; `[block MAJOR:MINOR]` for a device's own pages; empty where no entry is left.
  public let name: FileName
  /// The kind of file system: `ext4`, `tmpfs`.
  public let fileSystem: [UInt8]
  /// The file system's device numbers.
  public let major: UInt64
  public let minor: UInt64
  public let inode: UInt64
  /// The bits of `st_mode`: kind and permissions.
  public let mode: UInt64
  /// Bytes of the file.
  public let size: Int64
  /// How many names it has left.
  public let links: UInt64
  /// Pages of 4 KiB that are in memory.
  public let cachedPages: UInt64
  /// Pages of these that are still to be written to the device; file systems in memory have none.
  public internal(set) var dirtyPages: UInt64 = 0
  /// Pages that are being written.
  public internal(set) var writebackPages: UInt64 = 0
  /// Pages of a file system in memory that were swapped out.
  public let swappedPages: UInt64
  /// The address of its `inode`.
  public let address: VirtualAddress
}

/// The files in the page cache.
public struct CachedFileTable: Faulted {
  /// File system by file system, those with the most cached pages first.
  public internal(set) var files: [CachedFile] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
