import Crypto
import Memory

/// Writes the parts of an image in their order.
protocol ImageWriter {
  /// The memory in it, by position.
  var layout: ImageLayout { get }
  /// Where in the file the next part goes, where that is not known beforehand.
  var state: UInt64 { get set }

  /// Writes what comes before the first part.
  mutating func begin(_ output: ImageOutput) throws(AcquisitionError)
  /// Writes a part, and gives what the file has of it, for its digest.
  mutating func write(_ piece: PieceReader.Piece, to output: ImageOutput) throws(AcquisitionError) -> SHA256Digest
  /// What a file has of a part that was written before, in the same order.
  func fileRanges(_ range: Range<UInt64>, states: Range<UInt64>) -> [Range<UInt64>]
  /// Where a file ends that has these parts, of which there is one at least, and nothing more.
  func end(of parts: [ImageJournal.Part]) -> UInt64
  /// Writes what comes after the last part.
  mutating func finish(_ output: ImageOutput, note: [UInt8]) throws(AcquisitionError)
}

/// Formats in which the place of each byte is known before the first is read.
struct PlainWriter: ImageWriter {
  let layout: ImageLayout
  var state: UInt64 = 0

  func begin(_ output: ImageOutput) throws(AcquisitionError) { try output.write(layout.head, at: 0) }

  func write(_ piece: PieceReader.Piece, to output: ImageOutput) throws(AcquisitionError) -> SHA256Digest {
    try piece.bytes.span.bytes.withUnsafeBytes { bytes throws(AcquisitionError) in
      for part in layout.pieces(piece.range) {
        if !part.prefix.isEmpty { try output.write(part.prefix, at: part.offset - UInt64(part.prefix.count)) }
        let offset = Int(part.position - piece.range.lowerBound)
        try output.write(
          UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(part.segment.count)]), at: part.offset)
      }
    }
    return SHA256.hash(data: piece.bytes)
  }

  func fileRanges(_ range: Range<UInt64>, states: Range<UInt64>) -> [Range<UInt64>] {
    layout.pieces(range).map { $0.offset..<$0.offset + $0.segment.count }
  }

  func end(of parts: [ImageJournal.Part]) -> UInt64 {
    guard let last = parts.last, let piece = layout.pieces(last.range).last else { return UInt64(layout.head.count) }
    return piece.offset + piece.segment.count
  }

  func finish(_ output: ImageOutput, note: [UInt8]) throws(AcquisitionError) {
    try output.setSize(layout.end)
    if let tail = layout.tail { try output.write(tail(note), at: layout.end) }
  }
}
