public import Memory

/// What one open file shows: for as long as it is open, always the same.
public enum ShadowContents: Sendable {
  case bytes([UInt8])
  /// Records, of which a read gives what is left of one; each with where it begins.
  case records([UInt8], starts: [Int])
  /// The physical memory, which is read when it is asked for.
  case memory(any PhysicalMemory)
  /// Bytes, and behind them pieces of the physical memory, which are read when they are asked for.
  case core([UInt8], [Piece], any PhysicalMemory)
  /// A file of the host, of which as much is read as is asked for.
  case cached(CachedBytes)
  /// What can be opened, and not read: as the host's kernel says of some files, and tools expect.
  case refused(ShadowError)

  /// A piece of the memory in a file.
  public struct Piece: Sendable {
    /// Where it begins in the file, and in the memory; how many bytes it has.
    public let offset, start, count: UInt64
  }

  /// No file is longer; what would be cannot be read.
  public static let mostBytes = 256 << 20

  /// At most `count` bytes from `offset` on, fewer at the end.
  ///
  /// Where the memory has none, there are zeros, as in a sparse file.
  ///
  /// - Throws: ``ShadowError`` where memory that there is cannot be read.
  public func read(from offset: Int, count: Int) throws(ShadowError) -> [UInt8] {
    guard offset >= 0, count > 0 else { return [] }
    switch self {
    case .bytes(let bytes):
      guard offset < bytes.count else { return [] }
      return Array(bytes[offset..<min(bytes.count, offset + min(count, bytes.count))])
    case .records(let bytes, let starts):
      let end = starts.first { $0 > offset } ?? bytes.count
      return offset < end ? Array(bytes[offset..<min(end, offset + min(count, bytes.count))]) : []
    case .refused(let error): throw error
    case .cached(let bytes): return try ShadowError.answering { try bytes.read(from: UInt64(offset), count: count) }
    case .memory(let memory):
      return try ShadowError.answering { try Self.read(memory, from: UInt64(offset), count: min(count, 1 << 20)) }
    case .core(let head, let pieces, let memory):
      return try ShadowError.answering {
        try Self.read(head, pieces, memory, from: UInt64(offset), count: UInt64(min(count, 1 << 20)))
      }
    }
  }

  /// What lies between the pieces is zeros.
  private static func read(
    _ head: [UInt8], _ pieces: [Piece], _ memory: any PhysicalMemory, from offset: UInt64, count: UInt64
  ) throws -> [UInt8] {
    let size = pieces.last.map { $0.offset + $0.count } ?? UInt64(head.count)
    let end = min(size, offset.addingReportingOverflow(count).0)
    guard offset < end else { return [] }
    var bytes = [UInt8](repeating: 0, count: Int(end - offset))
    func put(_ part: ArraySlice<UInt8>, at place: UInt64) {
      bytes.replaceSubrange(Int(place - offset)..<Int(place - offset) + part.count, with: part)
    }
    if offset < UInt64(head.count) { put(head[Int(offset)..<Int(min(end, UInt64(head.count)))], at: offset) }
    for piece in pieces {
      let (first, last) = (max(piece.offset, offset), min(piece.offset + piece.count, end))
      guard first < last else { continue }
      put(try read(memory, from: piece.start + (first - piece.offset), count: Int(last - first))[...], at: first)
    }
    return bytes
  }

  private static func read(_ memory: any PhysicalMemory, from offset: UInt64, count: Int) throws -> [UInt8] {
    let end = min(
      memory.segments.last.map { $0.start.rawValue &+ $0.count } ?? 0, offset.addingReportingOverflow(UInt64(count)).0)
    guard offset < end else { return [] }
    var bytes = [UInt8](repeating: 0, count: Int(end - offset))
    var batch = ReadBatch<PhysicalAddress>()
    var places: [Int] = []
    for segment in memory.segments {
      let (first, last) = (max(segment.start.rawValue, offset), min(segment.start.rawValue &+ segment.count, end))
      guard first < last else { continue }
      batch.add(PhysicalAddress(first), count: Int(last - first))
      places.append(Int(first - offset))
    }
    memory.read(&batch)
    for (index, place) in places.enumerated() {
      let piece = try batch.reader(index).copy()
      bytes.replaceSubrange(place..<place + piece.count, with: piece)
    }
    return bytes
  }
}
