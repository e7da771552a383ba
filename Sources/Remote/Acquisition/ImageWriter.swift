import Memory

/// Writes the parts of an image in their order.
protocol ImageWriter {
  /// The memory in it, by position.
  var layout: ImageLayout { get }
  /// Where in the file the next part goes, where that is not known beforehand.
  var state: UInt64 { get set }

  /// Writes what comes before the first part.
  mutating func begin(_ output: ImageOutput) throws(AcquisitionError)
  /// Writes a part.
  mutating func write(_ piece: PieceReader.Piece, to output: ImageOutput) throws(AcquisitionError)
  /// The digest of a part that was just written, of what ``fileRanges(_:states:)`` says that the file has of it.
  func digest(_ piece: PieceReader.Piece) -> MemoryDigest
  /// What a file has of a part that was written before, in the same order.
  func fileRanges(_ range: Range<UInt64>, states: Range<UInt64>) -> [Range<UInt64>]
  /// Where a file ends that has these parts, of which there is one at least, and nothing more.
  func end(of parts: [ImageJournal.Part]) -> UInt64
  /// Writes whole pages of a run anew, in another's place.
  mutating func rewrite(
    _ bytes: UnsafeRawBufferPointer, at position: UInt64, to output: ImageOutput
  ) throws(AcquisitionError)
  /// The memory that the file has for these positions, zeros for what it does not have; nil for a page that is broken there.
  func pages(_ range: Range<UInt64>, of output: ImageOutput) throws(AcquisitionError) -> [[UInt8]?]
  /// Writes what comes after the last part.
  mutating func finish(_ output: ImageOutput, _ end: ImageEnd) throws(AcquisitionError)
}

/// Formats in which the place of each byte is known before the first is read.
struct PlainWriter: ImageWriter {
  let layout: ImageLayout
  var state: UInt64 = 0

  func begin(_ output: ImageOutput) throws(AcquisitionError) { try output.write(layout.head, at: 0) }

  func write(_ piece: PieceReader.Piece, to output: ImageOutput) throws(AcquisitionError) {
    try piece.bytes.span.bytes.withUnsafeBytes { bytes throws(AcquisitionError) in
      for part in layout.pieces(piece.range) {
        if !part.prefix.isEmpty { try output.write(part.prefix, at: part.offset - UInt64(part.prefix.count)) }
        let offset = Int(part.position - piece.range.lowerBound)
        try output.write(
          UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(part.segment.count)]), at: part.offset)
      }
    }
  }

  func digest(_ piece: PieceReader.Piece) -> MemoryDigest {
    MemoryDigest(
      ofPieces: layout.pieces(piece.range).map { part in
        let offset = Int(part.position - piece.range.lowerBound)
        return piece.bytes.withUnsafeBytes { bytes in
          MemoryDigest(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(part.segment.count)]))
        }
      })
  }

  func fileRanges(_ range: Range<UInt64>, states: Range<UInt64>) -> [Range<UInt64>] {
    layout.pieces(range).map { $0.offset..<$0.offset + $0.segment.count }
  }

  func end(of parts: [ImageJournal.Part]) -> UInt64 {
    guard let last = parts.last, let piece = layout.pieces(last.range).last else { return UInt64(layout.head.count) }
    return piece.offset + piece.segment.count
  }

  func rewrite(
    _ bytes: UnsafeRawBufferPointer, at position: UInt64, to output: ImageOutput
  ) throws(AcquisitionError) {
    for part in layout.pieces(position..<position + UInt64(bytes.count)) {
      let offset = Int(part.position - position)
      try output.overwrite(
        UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(part.segment.count)]), at: part.offset)
    }
  }

  func pages(_ range: Range<UInt64>, of output: ImageOutput) throws(AcquisitionError) -> [[UInt8]?] {
    var pages: [[UInt8]?] = []
    for part in layout.pieces(range) {
      // The file's end may be a hole that was not written yet; in the image it is zeros.
      var bytes = try output.read(part.offset, count: Int(part.segment.count))
      bytes += [UInt8](repeating: 0, count: Int(part.segment.count) - bytes.count)
      for start in stride(from: 0, to: bytes.count, by: ZeroPages.size) {
        pages.append(Array(bytes[start..<min(start + ZeroPages.size, bytes.count)]))
      }
    }
    return pages
  }

  func finish(_ output: ImageOutput, _ end: ImageEnd) throws(AcquisitionError) {
    try output.setSize(layout.end)
    if let tail = layout.tail { try output.write(tail(end), at: layout.end) }
  }
}

extension MemoryDigest {
  /// The digest of pieces by those of each.
  init(ofPieces pieces: [MemoryDigest]) { self.init(of: pieces.flatMap { [$0.low, $0.high] }) }
}
