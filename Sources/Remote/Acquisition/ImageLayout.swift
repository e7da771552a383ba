import Memory

/// Where in an image's file the memory lies, and what lies around it: known before the first byte is read.
struct ImageLayout {
  /// A run of memory in the file.
  struct Placement: Equatable {
    var segment: MemorySegment
    /// Where its first byte lies in the file.
    var offset: UInt64
    /// How many bytes of the image come before it, of those of all runs.
    var position: UInt64
    /// What stands in the file right before it.
    var prefix: [UInt8] = []
  }

  /// What the file begins with.
  var head: [UInt8]
  /// In ascending order of position, and of offset.
  var placements: [Placement]
  /// Where the file ends, but for its tail.
  var end: UInt64
  /// What the file ends with, made of what is known only then.
  var tail: (@Sendable (ImageEnd) -> [UInt8])?

  /// The bytes of memory in it.
  var byteCount: UInt64 { placements.last.map { $0.position &+ $0.segment.count } ?? 0 }

  init(head: [UInt8], placements: [Placement], end: UInt64) {
    (self.head, self.placements, self.end) = (head, placements, end)
  }

  /// The last position at `position` or before where a page of a run begins, or a run ends.
  ///
  /// Pages are counted from each run's start: a run need not begin or end at a multiple of their size. Cost: a binary search.
  func pageBoundary(atOrBefore position: UInt64) -> UInt64 {
    guard position < byteCount, !placements.isEmpty else { return min(position, byteCount) }
    let run = placements[index(of: position)]
    return position - (position - run.position) % UInt64(ZeroPages.size)
  }

  /// Which of the runs a position lies in.
  func index(of position: UInt64) -> Int {
    var low = 0
    var high = placements.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if placements[middle].position <= position { low = middle } else { high = middle }
    }
    return low
  }

  /// The parts of the memory that positions `range` stand for, each with its place in the file.
  ///
  /// Cost: a binary search, and the parts.
  func pieces(_ range: Range<UInt64>) -> [Placement] {
    var low = index(of: range.lowerBound)
    var pieces: [Placement] = []
    var place = range.lowerBound
    while place < range.upperBound, low < placements.count {
      let whole = placements[low]
      let skipped = place - whole.position
      if skipped < whole.segment.count {
        let count = min(whole.segment.count - skipped, range.upperBound - place)
        pieces.append(
          Placement(
            segment: MemorySegment(start: PhysicalAddress(whole.segment.start.rawValue &+ skipped), count: count),
            offset: whole.offset + skipped, position: place, prefix: skipped == 0 ? whole.prefix : []))
        place += count
      }
      low += 1
    }
    return pieces
  }
}

/// What of an image is known only when all of its memory is there.
struct ImageEnd: Sendable {
  /// The acquisition's own note.
  var note: [UInt8]
  /// The record of the frames that changed meanwhile; empty where nobody looked.
  var moved: [UInt8]
}

extension ImageFormat {
  /// What writes an image of `contents`.
  ///
  /// - Throws: ``AcquisitionError`` where the format has no room for them.
  func writer(
    _ contents: ImageContents, _ compression: PageCompression = .zstd
  ) throws(AcquisitionError) -> any ImageWriter {
    switch self {
    case .elf: PlainWriter(layout: try ELFLayout.layout(contents))
    case .kdump: try KdumpWriter(contents, compression)
    case .lime: PlainWriter(layout: LiMELayout.layout(contents))
    case .raw: PlainWriter(layout: RawImageLayout.layout(contents))
    }
  }
}
