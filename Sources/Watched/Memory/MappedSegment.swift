package import CLayouts

/// A segment, and where this process sees its bytes: for a device that reads them by itself.
public struct MappedSegment: @unchecked Sendable {
  // A pointer to memory that changes by itself; the device reads it and nothing else does.
  /// Valid as long as the object that owns the memory.
  ///
  /// A device copies what it reads and then checks the copy.
  public let bytes: UnsafeRawPointer
  public let segment: MemorySegment
  /// A word that its owner sets to 1 before bytes can be read that are not the host's any more; nil where they cannot.
  public let lost: UnsafePointer<UInt32>?
  /// Whether a driver shows this machine's own memory there, each page at its physical address.
  public let isDriver: Bool

  public init(
    bytes: UnsafeRawPointer, segment: MemorySegment, lost: UnsafePointer<UInt32>? = nil, isDriver: Bool = false
  ) {
    self.isDriver = isDriver
    self.bytes = bytes
    self.segment = segment
    self.lost = lost
  }

  /// As the programs of devices have it.
  package var raw: grass_mapped_segment {
    grass_mapped_segment(segment: segment.raw, bytes: bytes.assumingMemoryBound(to: UInt8.self), lost: lost)
  }
}

extension MemorySegment {
  /// As it travels, and as the programs of devices have it.
  package var raw: grass_segment { grass_segment(start: start.rawValue, count: count) }

  package init(_ raw: grass_segment) { self.init(start: PhysicalAddress(raw.start), count: raw.count) }
}
