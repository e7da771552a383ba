/// A segment of the watched memory as this process has it, for sessions that may read it past the device.
public struct OpenSegment: @unchecked Sendable {
  // A pointer to memory that changes by itself; links read it and nothing else does.
  /// Its physical address.
  public let start: UInt64
  /// Valid as long as whoever keeps the region's slots.
  public let bytes: UnsafeRawBufferPointer
  /// A word that becomes 1 before bytes can be read that are not the host's any more; nil where they cannot.
  public let lost: UnsafePointer<UInt32>?
  /// The same bytes in a mapping that could be written, for devices where the kernel lets them pin no other (before 6.2); nil where
  /// there is none.
  public let pinnable: UnsafeMutableRawPointer?

  public init(
    start: UInt64, bytes: UnsafeRawBufferPointer, lost: UnsafePointer<UInt32>?, pinnable: UnsafeMutableRawPointer? = nil
  ) {
    (self.start, self.bytes, self.lost, self.pinnable) = (start, bytes, lost, pinnable)
  }

  /// The window through which a link reads it: offsets are physical addresses.
  func window(_ token: RegionToken) -> RemotePart? {
    guard let start = Int(exactly: start), let end = Int(exactly: self.start + UInt64(bytes.count)) else { return nil }
    return RemotePart(token: token, range: start..<end, access: .read)
  }
}
