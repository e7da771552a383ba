public import Memory

/// What a monitor answers to info.
public struct DeviceInfo: Hashable, Sendable {
  /// The version of the protocol that it speaks.
  public let version: UInt64
  /// The physical memory that it sees, in ascending order without overlap.
  public let segments: [MemorySegment]
  /// Where the kernel's VMCOREINFO note was found, to be checked before it is believed; nil while unknown.
  public let kernelHint: PhysicalAddress?
  /// The device's clock in nanoseconds.
  public let clock: UInt64
  /// Requests answered, with an error, and first seen incomplete.
  public let served: UInt64
  public let refused: UInt64
  public let torn: UInt64
}
