/// A device's memory that a region lies in: the device and network cards reach it, this process only by copies.
public protocol RegionMemory: AnyObject, Sendable {
  /// Where it begins, for the device and for network cards; nothing of this process lies there.
  var address: UInt64 { get }
  /// Bytes that it has, all of them zero at first.
  var count: Int { get }
  /// The descriptor by which a network card's driver takes it, a dma-buf, valid as long as this object; nil where there is
  /// none.
  var dmaBuffer: Int32? { get }

  /// Copies bytes in. Copies land one after the other; the bytes of one, in any order. Cost: some microseconds.
  func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError)
  /// Copies bytes out, after all that were copied in. Cost: some microseconds.
  func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError)
}
