public import LinuxKernel
public import Memory
public import StorageViews

/// A lock of the kernel that tasks sleep for.
public struct KernelLock: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    case mutex
    /// A `rw_semaphore`: many readers, or one writer.
    case rwsem
    case semaphore
    /// What real-time kernels make of most locks, and what futexes that inherit priorities are.
    case rtmutex
  }

  /// A task that holds a lock or waits for it.
  public struct Party: Sendable, Hashable {
    public let tid: Int32
    public let comm: [UInt8]
    /// Whether it wants to read alone, where that makes a difference.
    public internal(set) var wantsToRead: Bool? = nil
  }

  public let kind: Kind
  public let address: VirtualAddress
  /// Its name, where it is a variable of the kernel or part of one.
  public let symbol: String?
  /// Who holds it, where the lock knows: a semaphore does not, and a rwsem knows the last reader alone.
  public let owner: Party?
  /// How many hold it to read; nil for other kinds.
  public let readers: Int?
  /// Who waits, the first to get it first.
  public let waiters: [Party]
  /// The `task_struct` that the lock says owns it, also where no task is there any more; nil where it names none, and for readers.
  public internal(set) var holder: VirtualAddress? = nil
}

/// A lock on a file that a process asked for.
public struct FileLock: Sendable {
  /// `POSIX`, `OFDLCK`, `FLOCK`, `LEASE`, `DELEG`, as in /proc/locks.
  public let kind: String
  /// `READ`, `WRITE` or `UNLCK`.
  public let mode: String
  /// The process that asked for it; -1 where it belongs to an open file rather than to a process.
  public let pid: Int32
  public let major: UInt64
  public let minor: UInt64
  public let inode: UInt64
  public let name: FileName?
  /// Bytes of the file, both included.
  public let start: Int64
  public let end: Int64
  /// Whether it waits for another one.
  public let isWaiting: Bool
  /// The address of its `file_lock`, and of the one that it waits for.
  public let address: VirtualAddress
  public let blocker: VirtualAddress?
}

/// The locks that tasks wait for, and the locks on files.
public struct LockTable: Faulted {
  public init(locks: [KernelLock] = []) { self.locks = locks }

  /// In ascending order of their addresses.
  public internal(set) var locks: [KernelLock] = []
  /// CPU by CPU as they were made; one that waits follows those that are held.
  public internal(set) var fileLocks: [FileLock] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
