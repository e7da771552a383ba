public import LinuxKernel
public import Memory

/// A mapped area of a process's address space, as /proc/PID/maps describes it.
public struct MemoryMapping: Sendable {
  public let range: Range<VirtualAddress>
  /// `rwxp`: readable, writable, executable, and `p` for private or `s` for shared.
  public let permissions: String
  /// Bytes from the file's start.
  public let offset: UInt64
  /// The file's device and number; zero without a file.
  public let major: UInt64
  public let minor: UInt64
  public let inode: UInt64
  /// The file's path, `[heap]`, `[stack]`, `[vdso]`, or empty.
  public let name: [UInt8]
}

/// The address space of a process.
public struct MappingTable: Faulted {
  /// In ascending order.
  public internal(set) var mappings: [MemoryMapping] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
