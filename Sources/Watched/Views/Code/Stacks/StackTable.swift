public import Memory

/// The stacks of tasks.
public struct StackTable: Sendable {
  /// In the order of the tasks.
  public internal(set) var stacks: [KernelStack] = []
  /// What of the tables of modules could not be read, and the budget that ended the reading. What is wrong with a stack
  /// is its own ending.
  public internal(set) var faults: [MemoryFault] = []
}
