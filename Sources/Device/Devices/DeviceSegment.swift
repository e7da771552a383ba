public import Memory

/// A run of the watched host's physical memory, and where this process sees its bytes.
public struct DeviceSegment: @unchecked Sendable {
  // A pointer to memory that changes by itself; the device reads it and nothing else does.
  /// Valid as long as the object that owns the memory.
  public let pointer: UnsafeRawPointer
  public let segment: MemorySegment
  /// A word that its owner sets to 1 before bytes can be read that are not the host's any more; nil where they cannot.
  public let lost: UnsafePointer<UInt32>?
  /// Whether a driver shows this machine's own memory there, each page at its physical address.
  public let isDriver: Bool

  public init(
    pointer: UnsafeRawPointer, segment: MemorySegment, lost: UnsafePointer<UInt32>? = nil, isDriver: Bool = false
  ) {
    self.isDriver = isDriver
    self.pointer = pointer
    self.segment = segment
    self.lost = lost
  }
}
