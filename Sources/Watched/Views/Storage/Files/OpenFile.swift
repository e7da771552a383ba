public import LinuxKernel
public import Memory

/// A file that a process has open.
public struct OpenFile: Sendable {
  public let pid: Int32
  /// The name of the process.
  public let comm: [UInt8]
  public let descriptor: Int
  /// A path, or what the kernel calls a file without one.
  public let name: FileName
  /// The bits of `st_mode`: kind and permissions.
  public let mode: UInt64
  public let major: UInt64
  public let minor: UInt64
  public let inode: UInt64
  /// Bytes of the file.
  public let size: Int64
  /// How many names it has left.
  public let links: UInt64
  /// Where the next read or write takes place, in bytes.
  public let position: Int64
  /// The flags of `open`, as /proc/PID/fdinfo shows them: `O_CLOEXEC`, which belongs to the descriptor, is not among them.
  public let flags: UInt64
}

/// The open files of processes.
public struct OpenFileTable: Faulted {
  /// In ascending order of process and descriptor.
  public internal(set) var files: [OpenFile] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
