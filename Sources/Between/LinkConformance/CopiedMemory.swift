public import Region

/// Another region's memory, reached only by copies, as a GPU's is: what a link's owner does with such memory can be tested
/// where there is no GPU.
public final class CopiedMemory: RegionMemory {
  private let region: SharedRegion

  /// - Parameter region: in host memory; kept.
  public init(_ region: SharedRegion) { self.region = region }

  public var address: UInt64 { UInt64(UInt(bitPattern: region.base)) }
  public var count: Int { region.layout.regionSize }
  public var dmaBuffer: Int32? { nil }

  public func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError) {
    try region.store(bytes, at: offset)
  }

  public func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError) {
    try region.load(into: bytes, at: offset)
  }
}
