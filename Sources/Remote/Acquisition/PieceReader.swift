import Host
import Memory

/// Reads the next piece of an image's memory while the one before it is written.
///
/// Memory is kept for two pieces. A piece is as long as can be read in about a quarter of a second: a slow link is given less at
/// a time, so that no call runs out of its time.
final class PieceReader {
  /// What was read: bytes of memory in the order of the image.
  struct Piece: Sendable {
    var range: Range<UInt64>
    var bytes: [UInt8] = []
    /// What could not be read; zeros in `bytes`.
    var unread: [MemorySegment] = []
    /// Why the memory as a whole cannot be reached any more.
    var failure: MemoryFault?
  }

  private let memory: any PhysicalMemory
  private let layout: ImageLayout
  private var position: UInt64
  private var size = smallest
  private var pending: (thread: DedicatedThread?, result: Locked<(piece: Piece, nanoseconds: UInt64)?>)?

  static let smallest: UInt64 = 1 << 20, largest: UInt64 = 16 << 20
  private static let patience: UInt64 = 250_000_000
  private static let page: UInt64 = 4096

  init(_ memory: any PhysicalMemory, _ layout: ImageLayout, from position: UInt64) {
    (self.memory, self.layout, self.position) = (memory, layout, position)
    start()
  }

  deinit { pending?.thread?.join() }

  /// The next piece; nil at the end.
  func next() -> Piece? {
    guard let pending else { return nil }
    pending.thread?.join()
    self.pending = nil
    guard let (piece, nanoseconds) = pending.result.withLock({ $0 }) else { return nil }
    if nanoseconds < Self.patience / 2 { size = min(size * 2, Self.largest) }
    if nanoseconds > Self.patience * 2 { size = max(size / 2, Self.page * 16) }
    start()
    return piece
  }

  private func start() {
    let end = layout.pageBoundary(atOrBefore: min(position + size, layout.byteCount))
    guard position < end else { return }
    let range = position..<end
    position = end
    let result = Locked<(piece: Piece, nanoseconds: UInt64)?>(nil)
    let (memory, parts) = (memory, layout.pieces(range).map(\.segment))
    let body: @Sendable () -> Void = {
      let start = SystemCall.monotonicNanoseconds()
      let piece = Self.read(range, parts, of: memory)
      let time = SystemCall.monotonicNanoseconds() - start
      result.withLock { $0 = (piece, time) }
    }
    let thread = try? DedicatedThread(name: "grass-read", body)
    // Without a thread it only takes longer.
    if thread == nil { body() }
    pending = (thread, result)
  }

  private static func read(
    _ range: Range<UInt64>, _ parts: [MemorySegment], of memory: any PhysicalMemory
  ) -> Piece {
    for part in parts { memory.prepareCache(of: part) }
    defer { for part in parts { memory.releaseCache(of: part) } }
    var batch = ReadBatch<PhysicalAddress>()
    for part in parts { batch.add(part.start, count: Int(part.count)) }
    memory.read(&batch)
    var piece = Piece(range: range)
    let failed = batch.faults.keys.sorted()
    guard !failed.isEmpty else {
      piece.bytes = batch.bytes
      return piece
    }
    if let lost = batch.faults.values.first(where: \.isOfSource) {
      piece.failure = lost
      return piece
    }
    // A part fails as a whole: what of it can be read is asked for page by page.
    var pages = ReadBatch<PhysicalAddress>()
    var places: [(offset: Int, page: MemorySegment)] = []
    for index in failed {
      let part = parts[index]
      var done: UInt64 = 0
      while done < part.count {
        let start = part.start.rawValue &+ done
        let count = min(part.count - done, page - start % page)
        let one = MemorySegment(start: PhysicalAddress(start), count: count)
        pages.add(one.start, count: Int(count))
        places.append((batch.entries[index].offset + Int(done), one))
        done += count
      }
    }
    memory.read(&pages)
    if let lost = pages.faults.values.first(where: \.isOfSource) {
      piece.failure = lost
      return piece
    }
    piece.bytes = batch.bytes
    for (index, place) in places.enumerated() {
      if let bytes = try? pages.reader(index).copy() {
        piece.bytes.replaceSubrange(place.offset..<place.offset + bytes.count, with: bytes)
      } else {
        piece.unread.append(place.page)
      }
    }
    return piece
  }
}
