public import Memory

/// The kernel stack of a task: which functions it is in, innermost first.
public struct KernelStack: Sendable {
  /// Why there are no more frames.
  public enum Ending: Sendable {
    /// Where the task entered the kernel, or where a kernel thread began.
    case complete
    /// It runs on a CPU: its stack changes, and where it is at is in that CPU's registers.
    case running
    /// It has ended, and its stack was given back.
    case released
    /// From here on the stack does not follow from the kernel's tables.
    case broken(MemoryFault)
  }

  public struct Frame: Sendable {
    /// Where the function that this one called returns to.
    public let address: VirtualAddress
    /// The symbol and how far behind it that is; nil in code without symbols.
    public let place: SymbolPlace?
    /// The module that the code belongs to, nil for the kernel's own.
    public let module: [UInt8]?
    /// Whether it was found by what lies on the stack, not by the tables: it may be of a call that has ended, and what
    /// it called may be missing. The kernel writes `?` before such a one.
    public internal(set) var isGuess = false
  }

  /// A stack that nobody could unwind.
  public init(unread tid: Int32, tgid: Int32, comm: [UInt8]) {
    self.init(
      tid: tid, tgid: tgid, comm: comm,
      ending: .broken(MemoryFault(.offset(0), .inconsistent("there are no tables to unwind it by"))))
  }

  init(tid: Int32, tgid: Int32, comm: [UInt8], ending: Ending) {
    self.tid = tid
    self.tgid = tgid
    self.comm = comm
    self.ending = ending
  }

  public let tid: Int32
  public let tgid: Int32
  public let comm: [UInt8]
  public internal(set) var frames: [Frame] = []
  public internal(set) var ending: Ending
}
