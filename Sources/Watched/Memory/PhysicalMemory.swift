/// The physical memory of a watched host: shared RAM, an image of it, or a remote host's through a link.
///
/// The memory may change while it is read and may be made to deceive: whoever reads it copies once and checks.
public protocol PhysicalMemory: Sendable {
  /// What the source holds, in ascending order, without overlap.
  var segments: [MemorySegment] { get }

  /// Reads all entries of `batch`. An entry that crosses the end of its segment fails as a whole.
  ///
  /// Cost: one round trip where the memory is remote.
  func read(_ batch: inout ReadBatch<PhysicalAddress>)

  /// Whether reading it costs no more than a digest of it.
  var isNear: Bool { get }

  /// Of an image, what changed while it was taken; nil where it does not say.
  var movedFrames: MovedFrames? { get }

  /// The digest of each of `ranges`.
  ///
  /// - Throws: ``MemoryFault`` where they cannot be read. Cost: that of reading them, unless who owns the memory can compute it.
  func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest]

  /// The digests of the pages of each of `ranges` under `seed`, in order. Nil for a page that cannot be read.
  ///
  /// Pages are counted from a range's start on, and its last one may be cut.
  ///
  /// - Throws: ``MemoryFault`` where the memory itself is gone. Cost: that of reading it, unless who owns the memory can compute
  ///   them: 16 bytes a page travel then.
  func digests(ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed) throws(MemoryFault) -> [[MemoryDigest?]]

  /// What of `segment` may hold anything but zeros, in ascending order and without overlap, in whole pages but for the ends
  /// of `segment`. Ask anew for each scan: what a live host's memory takes grows.
  ///
  /// Cost: local, and small beside reading `segment`.
  func dataRanges(in segment: MemorySegment) -> [MemorySegment]

  /// Says that all of `segment` is about to be scanned, so that a source may make that cheap.
  func prepareCache(of segment: MemorySegment)

  /// Says that `segment` was scanned and is not needed again soon, so that a source may give back the memory that
  /// its cached pages take.
  func releaseCache(of segment: MemorySegment)
}

extension PhysicalMemory {
  public var isNear: Bool { false }
  public var movedFrames: MovedFrames? { nil }

  public func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] { try readDigests(of: ranges) }

  /// The digests of `ranges`, of bytes that are read for them.
  package func readDigests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] {
    var batch = ReadBatch<PhysicalAddress>()
    for range in ranges { batch.add(range.start, count: Int(clamping: range.count)) }
    read(&batch)
    var digests: [MemoryDigest] = []
    for index in ranges.indices { digests.append(try batch.reader(index).bytes.withUnsafeBytes { MemoryDigest($0) }) }
    return digests
  }

  public func digests(
    ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed
  ) throws(MemoryFault) -> [[MemoryDigest?]] {
    var digests: [[MemoryDigest?]] = []
    for range in ranges { digests.append(try readDigests(ofPagesIn: range, seed)) }
    return digests
  }

  /// The digests of the pages of one range.
  public func digests(
    ofPagesIn range: MemorySegment, _ seed: MemoryDigest.Seed
  ) throws(MemoryFault) -> [MemoryDigest?] { try digests(ofPagesIn: [range], seed)[0] }

  /// The digests of the pages of `range`, of bytes that are read for them, a MiB at a time.
  package func readDigests(
    ofPagesIn range: MemorySegment, _ seed: MemoryDigest.Seed
  ) throws(MemoryFault) -> [MemoryDigest?] {
    let (page, most): (UInt64, UInt64) = (4096, 1 << 20)
    var digests: [MemoryDigest?] = []
    var done: UInt64 = 0
    while done < range.count {
      let end = min(done + most, range.count)
      var batch = ReadBatch<PhysicalAddress>()
      for offset in stride(from: done, to: end, by: UInt64.Stride(page)) {
        batch.add(range.start + Int(offset), count: Int(min(page, end - offset)))
      }
      read(&batch)
      if let lost = batch.faults.values.first(where: \.isOfSource) { throw lost }
      for index in batch.entries.indices {
        digests.append(try? batch.reader(index).bytes.withUnsafeBytes { MemoryDigest($0, seed) })
      }
      done = end
    }
    return digests
  }

  public func dataRanges(in segment: MemorySegment) -> [MemorySegment] { [segment] }
  public func prepareCache(of segment: MemorySegment) {}
  public func releaseCache(of segment: MemorySegment) {}

  /// The bytes at `address`, in a read of its own.
  ///
  /// Prefer a batch wherever there is more to read.
  ///
  /// - Throws: ``MemoryFault`` where any of them cannot be read.
  public func read(_ address: PhysicalAddress, count: Int) throws(MemoryFault) -> [UInt8] {
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(address, count: count)
    read(&batch)
    return try batch.reader(0).copy()
  }
}
