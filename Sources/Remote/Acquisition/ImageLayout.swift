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
  /// What the file ends with, made of the acquisition's own note when that is known.
  var tail: (@Sendable (_ note: [UInt8]) -> [UInt8])?

  /// The bytes of memory in it.
  var byteCount: UInt64 { placements.last.map { $0.position &+ $0.segment.count } ?? 0 }

  init(head: [UInt8], placements: [Placement], end: UInt64) {
    (self.head, self.placements, self.end) = (head, placements, end)
  }

  /// The parts of the memory that positions `range` stand for, each with its place in the file.
  ///
  /// Cost: a binary search, and the parts.
  func pieces(_ range: Range<UInt64>) -> [Placement] {
    var low = 0
    var high = placements.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if placements[middle].position <= range.lowerBound { low = middle } else { high = middle }
    }
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
