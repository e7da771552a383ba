public import CodeViews
public import LinuxKernel
public import Memory

/// A timer that is armed.
public struct KernelTimer: Sendable {
  /// Where it waits.
  public enum Queue: Sendable, Hashable {
    /// A timer wheel, which counts ticks, by its number: of a CPU's own timers, those any CPU may run, those that may wait.
    case wheel(Int)
    /// A tree of high-resolution timers, by its clock: `monotonic`, `realtime-soft`.
    case clock(String)
  }

  public let cpu: Int
  public let queue: Queue
  /// The address of its `timer_list` or `hrtimer`.
  public let address: VirtualAddress
  /// What is called when it expires.
  public let function: CodePlace
  /// Nanoseconds from the kernel's last tick until it expires; below zero where it is due.
  public let expiresIn: Int64
  /// When it expires: in ticks for a wheel, in nanoseconds of its clock else.
  public let expires: UInt64
  /// The task that it wakes, or sends a signal to.
  public internal(set) var tid: Int32?
  public internal(set) var comm: [UInt8] = []
  /// The work that it will queue.
  public internal(set) var work: CodePlace?
}

/// The timers of a host.
public struct TimerTable: Faulted {
  /// CPU by CPU and queue by queue, the next to expire first.
  public internal(set) var timers: [KernelTimer] = []
  /// What could not be read, also when read again.
  public internal(set) var faults: [MemoryFault] = []
}
