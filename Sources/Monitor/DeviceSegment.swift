public import Memory

/// A run of the watched host's physical memory, and where this process sees its bytes.
public struct DeviceSegment: @unchecked Sendable {
  // A pointer to memory that changes by itself; the device reads it and nothing else does.
  /// Valid as long as the object that owns the memory.
  public let pointer: UnsafeRawPointer
  public let segment: MemorySegment

  public init(pointer: UnsafeRawPointer, segment: MemorySegment) {
    self.pointer = pointer
    self.segment = segment
  }
}
