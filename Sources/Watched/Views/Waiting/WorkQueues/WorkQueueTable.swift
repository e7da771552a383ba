public import CodeViews
public import LinuxKernel
public import Memory

/// A queue of work, as drivers and the kernel make them.
public struct WorkQueue: Sendable {
  public let name: [UInt8]
  /// The bits of `enum wq_flags`.
  public let flags: UInt64
  /// Works being done or waiting in a pool, and works held back since the queue does as many as it may.
  public internal(set) var active = 0
  public internal(set) var inactive = 0
  /// The address of its `workqueue_struct`.
  public let address: VirtualAddress
}

/// Workers that do the work of many queues: those of one CPU, or of CPUs with something in common.
public struct WorkerPool: Sendable {
  public let id: Int
  /// Nil where its workers run on several.
  public let cpu: Int?
  public let nice: Int
  public let workers: Int
  public let idle: Int
  /// Works that wait for a worker.
  public internal(set) var pending = 0
  /// When one of them was last begun, or the first came to wait, in ticks as `jiffies_64` counts them; 0 where the kernel does not keep
  /// it.
  public internal(set) var lastStart: UInt64 = 0
}

/// A piece of work that is done or waits.
public struct WorkItem: Sendable {
  public enum State: String, Sendable {
    case running
    /// In a pool's list, waiting for a worker.
    case pending
    /// Next for a worker that already has one.
    case scheduled
    /// Held back by its queue.
    case inactive
  }

  public let state: State
  /// What does it, or is to.
  public let function: CodePlace
  /// The queue's name; empty where it could not be told.
  public internal(set) var queue: [UInt8]
  /// The pool's id.
  public let pool: Int?
  /// The worker's task, where it has one.
  public internal(set) var tid: Int32?
  /// The address of its `work_struct`.
  public let address: VirtualAddress
}

/// A thread of a pool.
public struct PoolWorker: Sendable {
  public let pool: Int
  public let tid: Int32
  public let comm: [UInt8]
  /// What it does now; nil for an idle one.
  public internal(set) var function: CodePlace?
  /// The address of its `worker`.
  public let address: VirtualAddress
}

/// The kernel's work queues, and who works.
public struct WorkQueueTable: Faulted {
  public internal(set) var queues: [WorkQueue] = []
  /// In ascending order of their ids.
  public internal(set) var pools: [WorkerPool] = []
  public internal(set) var workers: [PoolWorker] = []
  public internal(set) var works: [WorkItem] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
