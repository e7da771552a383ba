/// What a batch reads by, and how a fault names it.
public protocol FaultLocatable {
  /// The place to name where it could not be read.
  var faultPlace: MemoryFault.Place { get }
}

extension PhysicalAddress: FaultLocatable {
  public var faultPlace: MemoryFault.Place { .physical(self) }
}

extension VirtualAddress: FaultLocatable {
  public var faultPlace: MemoryFault.Place { .virtual(self) }
}
