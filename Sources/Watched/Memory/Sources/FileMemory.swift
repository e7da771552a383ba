/// Physical memory that lies in a file: segments of it at offsets in the file.
public final class FileMemory: PhysicalMemory {
  /// A segment, and where it lies in the file.
  public struct Extent: Hashable, Sendable {
    public let segment: MemorySegment
    public let fileOffset: Int
  }

  /// The format that was detected, with how the memory is laid out where that had to be assumed.
  public let format: String
  /// In ascending order of address, without overlap.
  public let extents: [Extent]
  private let file: MappedFile

  public var path: String { file.path }
  /// Whether a driver shows it as pages of no file: other devices take such memory only by its physical addresses.
  public var isDriver: Bool { file.ram != nil }
  /// Whether the file is still as long as when it was opened.
  ///
  /// Cost: one system call.
  public var isWhole: Bool { file.isWhole }
  public var segments: [MemorySegment] { extents.map(\.segment) }

  /// Shows `extents` of a file, in any order.
  ///
  /// What lies outside the file is cut off, and so is what an extent before it already holds: some cores list the
  /// kernel's image once more.
  init(file: MappedFile, format: String, extents: [Extent]) {
    self.file = file
    self.format = format
    var kept: [Extent] = []
    var end: UInt64 = 0
    for extent in extents.sorted(by: { $0.segment.start < $1.segment.start }) {
      guard extent.fileOffset >= 0, extent.fileOffset < file.count else { continue }
      var count = min(
        extent.segment.count, UInt64(file.count - extent.fileOffset), .max - extent.segment.start.rawValue)
      let skipped = kept.isEmpty || extent.segment.start.rawValue >= end ? 0 : end - extent.segment.start.rawValue
      guard count > skipped else { continue }
      count -= skipped
      let start = extent.segment.start.rawValue + skipped
      kept.append(
        Extent(
          segment: MemorySegment(start: PhysicalAddress(start), count: count),
          fileOffset: extent.fileOffset + Int(skipped)))
      end = start + count
    }
    self.extents = kept
  }

  /// The segments with their bytes in place, for a device that reads them by itself. The pointers are valid as long as
  /// this object lives.
  public var mappedSegments: [MappedSegment] {
    extents.map {
      MappedSegment(
        bytes: file.base + $0.fileOffset, segment: $0.segment, lost: UnsafePointer(file.lost), isDriver: isDriver)
    }
  }

  public func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    var current = 0
    batch.fill { (address, target) throws(MemoryFault) in
      if current >= extents.count || !extents[current].segment.contains(address, count: target.count) {
        current = index(of: address)
        guard current < extents.count, extents[current].segment.contains(address, count: target.count) else {
          throw MemoryFault(.physical(address), .absent)
        }
      }
      let extent = extents[current]
      let offset = extent.fileOffset + Int(address.distance(from: extent.segment.start))
      target.copyMemory(from: UnsafeRawBufferPointer(start: file.base + offset, count: target.count))
    }
    // Asked afterwards: whatever was cut before the last byte was copied shows.
    if !file.isWhole {
      batch.fail(MemoryFault(.physical(PhysicalAddress(0)), .sourceFailed("\(path) became shorter while it was read")))
    }
  }

  public func prepareCache(of segment: MemorySegment) { forEachRange(of: segment) { file.populate($0) } }

  public func releaseCache(of segment: MemorySegment) { forEachRange(of: segment) { file.release($0) } }

  /// The index of the last extent that starts at or before `address`, or 0.
  private func index(of address: PhysicalAddress) -> Int {
    var low = 0
    var high = extents.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if extents[middle].segment.start <= address { low = middle } else { high = middle }
    }
    return low
  }

  private func forEachRange(of segment: MemorySegment, _ body: (Range<Int>) -> Void) {
    let end = segment.start.rawValue &+ segment.count
    for extent in extents {
      let start = extent.segment.start.rawValue
      let low = max(start, segment.start.rawValue)
      let high = min(start + extent.segment.count, end)
      if low < high { body(extent.fileOffset + Int(low - start)..<extent.fileOffset + Int(high - start)) }
    }
  }
}
