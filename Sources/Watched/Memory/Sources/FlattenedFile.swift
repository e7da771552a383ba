/// A file in makedumpfile's flattened form, which goes through pipes: pieces of an image, each with its place, later ones over earlier.
///
/// ```
/// 4096 bytes  "makedumpfile", zeros up to 16, i64 type = 1, i64 version = 1, zeros
/// pieces      i64 offset, i64 size, then so many bytes; at the end an offset of -1
/// ```
/// Numbers are big-endian. Source: makedumpfile.h, `makedumpfile_header` and `makedumpfile_data_header`.
struct FlattenedFile {
  static let magic = Array("makedumpfile".utf8)
  private static let headerSize = 4096

  /// What lies at `range` of the image, and where in the file.
  private struct Piece {
    var range: Range<Int>
    var place: Int
  }

  let file: MappedFile
  /// In ascending order, without overlap.
  private let pieces: [Piece]
  /// How long the image is.
  let count: Int

  /// Finds where the pieces are.
  ///
  /// - Throws: ``MemoryImageError`` where the file is cut short or is none of these. Cost: the headers of all pieces are read.
  init(_ file: MappedFile) throws(MemoryImageError) {
    func malformed(_ what: String) -> MemoryImageError {
      MemoryImageError(file.path, .malformed("a flattened kdump", what))
    }
    func number(_ place: Int) throws(MemoryImageError) -> Int64 {
      guard place <= file.count - 8 else { throw malformed("it ends within a piece; was it cut short?") }
      return Int64(bigEndian: file.base.loadUnaligned(fromByteOffset: place, as: Int64.self))
    }
    guard try number(16) == 1, try number(24) == 1 else {
      throw malformed("it is of a type or version that is not known")
    }
    var written: [Piece] = []
    var place = Self.headerSize
    while true {
      let (offset, size) = (try number(place), try number(place + 8))
      if offset == -1 { break }
      place += 16
      // So no place in the image is beyond what a number holds.
      guard offset >= 0, offset <= Int64.max / 2, size >= 0, size <= file.count - place else {
        throw malformed("a piece of it lies outside the file; was it cut short?")
      }
      if size > 0 { written.append(Piece(range: Int(offset)..<Int(offset + size), place: place)) }
      place += Int(size)
    }
    self.file = file
    pieces = Self.visible(written)
    count = pieces.last?.range.upperBound ?? 0
  }

  /// What is seen of pieces that were written one after the other, in ascending order.
  private static func visible(_ written: [Piece]) -> [Piece] {
    let sorted = written.sorted { $0.range.lowerBound < $1.range.lowerBound }
    let isApart = zip(sorted, sorted.dropFirst()).allSatisfy { $0.range.upperBound <= $1.range.lowerBound }
    if isApart { return sorted }
    // Between two of these nothing begins or ends.
    var bounds: [Int] = []
    for bound in written.flatMap({ [$0.range.lowerBound, $0.range.upperBound] }).sorted() where bound != bounds.last {
      bounds.append(bound)
    }
    // From the last one back each takes what is still free; `next` leads past what is not.
    var owners = [Int?](repeating: nil, count: bounds.count)
    var next = Array(bounds.indices)
    func free(_ index: Int) -> Int {
      var end = index
      while next[end] != end { end = next[end] }
      var passed = index
      while next[passed] != passed { (passed, next[passed]) = (next[passed], end) }
      return end
    }
    for (number, piece) in written.enumerated().reversed() {
      var index = free(bounds.partitioningIndex { $0 >= piece.range.lowerBound })
      while bounds[index] < piece.range.upperBound {
        owners[index] = number
        next[index] = index + 1
        index = free(index)
      }
    }
    var seen: [Piece] = []
    for (index, owner) in owners.enumerated() {
      guard let owner else { continue }
      let piece = written[owner]
      let range = bounds[index]..<bounds[index + 1]
      let place = piece.place + (range.lowerBound - piece.range.lowerBound)
      if let last = seen.last, last.range.upperBound == range.lowerBound, last.place + last.range.count == place {
        seen[seen.count - 1].range = last.range.lowerBound..<range.upperBound
      } else {
        seen.append(Piece(range: range, place: place))
      }
    }
    return seen
  }

  /// Copies `target.count` bytes of the image from `offset` on; what no piece has is zeros.
  ///
  /// Cost: a binary search.
  func copy(_ offset: Int, to target: UnsafeMutableRawBufferPointer) {
    target.initializeMemory(as: UInt8.self, repeating: 0)
    let end = offset + target.count
    var index = pieces.partitioningIndex { $0.range.upperBound > offset }
    while index < pieces.count, pieces[index].range.lowerBound < end {
      let piece = pieces[index]
      let range = piece.range.clamped(to: offset..<end)
      let source = UnsafeRawBufferPointer(
        start: file.base + piece.place + (range.lowerBound - piece.range.lowerBound), count: range.count)
      UnsafeMutableRawBufferPointer(rebasing: target[(range.lowerBound - offset)...]).copyMemory(from: source)
      index += 1
    }
  }
}
