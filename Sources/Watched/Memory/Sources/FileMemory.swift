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
  public let movedFrames: MovedFrames?
  private let file: MappedFile

  public var path: String { file.path }
  /// Whether a driver shows it as pages of no file: other devices take such memory only by its physical addresses.
  public var isDriver: Bool { file.ram != nil }
  /// Whether it is a kernel's own file, vmlinux: memory as a loader makes it, in which nothing has run.
  public var isKernelFile: Bool { format == ELFCore.kernelFormat }
  /// Whether the file is still as long as when it was opened.
  ///
  /// Cost: one system call.
  public var isWhole: Bool { file.isWhole }
  public var segments: [MemorySegment] { extents.map(\.segment) }
  public var isNear: Bool { true }

  /// Shows `extents` of a file, in any order.
  ///
  /// What lies outside the file is cut off, and so is what an extent before it already holds: some cores list the
  /// kernel's image once more.
  init(file: MappedFile, format: String, extents: [Extent], moved: MovedFrames? = nil) {
    self.file = file
    self.format = format
    movedFrames = moved
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

  /// The segments with their bytes in place, for a device that reads them by itself.
  ///
  /// The pointers are valid as long as this object lives.
  public var mappedSegments: [MappedSegment] {
    extents.map {
      MappedSegment(
        bytes: file.base + $0.fileOffset, segment: $0.segment, lost: UnsafePointer(file.lost), isDriver: isDriver)
    }
  }

  /// Where each of the segments lies in a mapping that could be written, which is what kernels before 6.2 let a device pin; empty where
  /// the file cannot be mapped so.
  ///
  /// Nobody may write there. Each call maps the file anew, and the mapping stays as long as the process.
  public func mapForDevices() -> [UnsafeMutableRawPointer] {
    guard !isDriver, let base = file.mapWritable() else { return [] }
    return extents.map { base + $0.fileOffset }
  }

  public func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    var current = 0
    // Asked only where something long is read: it costs a system call.
    let isSparse = batch.entries.contains { $0.count >= Self.scanSize } && file.isSparse
    batch.fill { (address, target) throws(MemoryFault) in
      if current >= extents.count || !extents[current].segment.contains(address, count: target.count) {
        current = index(of: address)
        guard current < extents.count, extents[current].segment.contains(address, count: target.count) else {
          throw MemoryFault(.physical(address), .absent)
        }
      }
      let extent = extents[current]
      movedFrames?.note(address, count: target.count)
      copy(
        extent.fileOffset + Int(address.distance(from: extent.segment.start)), to: target, overHoles: isSparse)
    }
    // Asked afterwards: whatever was cut before the last byte was copied shows.
    if !file.isWhole {
      batch.fail(MemoryFault(.physical(PhysicalAddress(0)), .sourceFailed("\(path) became shorter while it was read")))
    }
  }

  /// Reads as long as this look through memory rather than follow it, and meet holes.
  private static let scanSize = 256 << 10

  /// Copies what lies in the file from `offset` on.
  ///
  /// Of something long, holes are not looked at: they are zeros.
  // One call, and not inlined, where the memory's reads end: with two ways to end there, the compiler's (6.3.1) optimized code
  // forgets on one of them that nothing was thrown.
  @inline(never)
  private func copy(_ offset: Int, to target: UnsafeMutableRawBufferPointer, overHoles: Bool) {
    guard overHoles, target.count >= Self.scanSize else {
      return target.copyMemory(from: UnsafeRawBufferPointer(start: file.base + offset, count: target.count))
    }
    var done = 0
    for range in file.dataRanges(in: offset..<offset + target.count) {
      let start = range.lowerBound - offset
      UnsafeMutableRawBufferPointer(rebasing: target[done..<start]).initializeMemory(as: UInt8.self, repeating: 0)
      UnsafeMutableRawBufferPointer(rebasing: target[start..<start + range.count])
        .copyMemory(from: UnsafeRawBufferPointer(start: file.base + range.lowerBound, count: range.count))
      done = start + range.count
    }
    UnsafeMutableRawBufferPointer(rebasing: target[done...]).initializeMemory(as: UInt8.self, repeating: 0)
  }

  /// The digests of the bytes in place.
  public func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] {
    var digests: [MemoryDigest] = []
    for range in ranges {
      let place = index(of: range.start)
      guard place < extents.count, extents[place].segment.contains(range.start, count: Int(clamping: range.count))
      else {
        throw MemoryFault(.physical(range.start), .absent)
      }
      let offset = extents[place].fileOffset + Int(range.start.distance(from: extents[place].segment.start))
      digests.append(MemoryDigest(UnsafeRawBufferPointer(start: file.base + offset, count: Int(range.count))))
    }
    guard file.isWhole else {
      throw MemoryFault(.physical(PhysicalAddress(0)), .sourceFailed("\(path) became shorter while it was read"))
    }
    return digests
  }

  /// The digests of the bytes in place; holes are not looked at, and are zeros.
  public func digests(
    ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed
  ) throws(MemoryFault) -> [[MemoryDigest?]] {
    let zeros = [UInt8](repeating: 0, count: 4096).withUnsafeBytes { MemoryDigest($0, seed) }
    let digests = ranges.map { pageDigests($0, seed, ofZeros: zeros) }
    guard file.isWhole else {
      throw MemoryFault(.physical(PhysicalAddress(0)), .sourceFailed("\(path) became shorter while it was read"))
    }
    return digests
  }

  private func pageDigests(
    _ range: MemorySegment, _ seed: MemoryDigest.Seed, ofZeros zeros: MemoryDigest
  ) -> [MemoryDigest?] {
    let page: UInt64 = 4096
    func digest(_ bytes: UnsafeRawPointer, _ count: UInt64) -> MemoryDigest {
      MemoryDigest(UnsafeRawBufferPointer(start: bytes, count: Int(count)), seed)
    }
    var digests = [MemoryDigest?](repeating: nil, count: Int((range.count + page - 1) / page))
    for extent in extents {
      let start = max(extent.segment.start.rawValue, range.start.rawValue)
      let end = min(extent.segment.start.rawValue + extent.segment.count, range.start.rawValue + range.count)
      guard start < end else { continue }
      func offset(_ address: UInt64) -> Int { extent.fileOffset + Int(address - extent.segment.start.rawValue) }
      var data = file.dataRanges(in: offset(start)..<offset(end))[...]
      for index in Int((start - range.start.rawValue + page - 1) / page)..<digests.count {
        let address = range.start.rawValue + UInt64(index) * page
        let count = min(page, range.start.rawValue + range.count - address)
        guard address + count <= end else { break }
        let place = offset(address)
        while let first = data.first, first.upperBound <= place { data.removeFirst() }
        let isHole = data.first.map { $0.lowerBound >= place + Int(count) } ?? true
        digests[index] = isHole && count == page ? zeros : digest(file.base + place, count)
      }
    }
    return digests
  }

  /// What the file holds: holes of at least 64 KiB are passed over.
  public func dataRanges(in segment: MemorySegment) -> [MemorySegment] {
    let page: UInt64 = 4096
    var found: [MemorySegment] = []
    forEachRange(of: segment) { range, physical in
      // Files have pages of their own, which need not be those of the memory.
      var end = physical.rawValue
      let limit = physical.rawValue + UInt64(range.count)
      for data in file.dataRanges(in: range) {
        let first = physical.rawValue + UInt64(data.lowerBound - range.lowerBound)
        let start = max(first / page * page, end)
        let last = min((first + UInt64(data.count) + page - 1) / page * page, limit)
        guard start < last else { continue }
        found.append(MemorySegment(start: PhysicalAddress(start), count: last - start))
        end = last
      }
    }
    return found
  }

  /// What is no hole: to look at one would fill it.
  public func prepareCache(of segment: MemorySegment) {
    forEachRange(of: segment) { range, _ in
      for data in file.dataRanges(in: range) { file.populate(data) }
    }
  }

  public func releaseCache(of segment: MemorySegment) { forEachRange(of: segment) { range, _ in file.release(range) } }

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

  /// Calls `body` with each part of `segment` that there is: where it lies in the file, and at what address it starts.
  private func forEachRange(of segment: MemorySegment, _ body: (Range<Int>, PhysicalAddress) -> Void) {
    let end = segment.start.rawValue &+ segment.count
    for extent in extents {
      let start = extent.segment.start.rawValue
      let low = max(start, segment.start.rawValue)
      let high = min(start + extent.segment.count, end)
      if low < high {
        body(extent.fileOffset + Int(low - start)..<extent.fileOffset + Int(high - start), PhysicalAddress(low))
      }
    }
  }
}
