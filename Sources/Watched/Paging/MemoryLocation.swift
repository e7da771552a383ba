public import Memory

/// A place in the watched memory: a physical address, or a virtual one with the page tables that give it meaning.
public enum MemoryLocation: Hashable, Sendable, FaultLocatable {
  case physical(PhysicalAddress)
  case virtual(VirtualAddress, root: PhysicalAddress)

  public var faultPlace: MemoryFault.Place {
    switch self {
    case .physical(let address): .physical(address)
    case .virtual(let address, _): .virtual(address)
    }
  }
}

/// A physical memory whose owner can walk page tables by itself, so that a batch of virtual reads costs one round
/// trip instead of one a level.
public protocol TranslatingMemory: PhysicalMemory {
  /// Reads all entries of `batch`, walking page tables of `format` for those that are virtual.
  func read(_ batch: inout ReadBatch<MemoryLocation>, format: PageTableFormat)
}
