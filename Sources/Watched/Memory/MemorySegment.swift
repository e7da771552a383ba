/// A run of physical memory that a source holds: `count` bytes from `start`.
public struct MemorySegment: Hashable, Sendable {
  public var start: PhysicalAddress
  /// Length in bytes.
  public var count: UInt64

  public init(start: PhysicalAddress, count: UInt64) {
    self.start = start
    self.count = count
  }

  /// Whether all of `length` bytes from `address` lie in this segment.
  @inlinable
  public func contains(_ address: PhysicalAddress, count length: Int) -> Bool {
    let offset = address.rawValue &- start.rawValue
    return address >= start && offset < count && length >= 0 && UInt64(length) <= count &- offset
  }
}
