import Glibc
import Host
import Memory

/// Writes a kdump-compressed image, version 6: each page compressed by itself, or as it is where that takes no less.
///
/// ```
/// block 0     "KDUMP   ", version, the kernel's names, compression, numbers of blocks
/// block 1     the second header: where VMCOREINFO and notes lie, how many frames there are
/// block 2     two bitmaps, a bit a frame: frames that the memory has, frames that are in the image
///             24 bytes for each of these: offset and size in the file, compression, 0
///             a page of zeros, for all of them; then pages in ascending order
///             notes: CORE type 1 of each CPU that saved its registers, VMCOREINFO, GRASS type 1 (what went wrong), GRASS type 2 (the classes of frames), GRASS type 3 (MovedFrames)
/// ```
/// Blocks have 4096 bytes. A pipe gets the flattened form of the same. Source: makedumpfile, diskdump_mod.h and IMPLEMENTATION.
struct KdumpWriter: ImageWriter {
  let layout: ImageLayout
  var state: UInt64
  private let contents: ImageContents
  private let frameLimit: UInt64
  private let bitmapBlocks: UInt64
  private let tableOffset, dataOffset: UInt64
  private let compression: PageCompression
  private let compressors: [PageCompressor]
  /// Of the part that was written last.
  private var last = MemoryDigest(low: 0, high: 0)

  private static let block: UInt64 = 4096
  private static let entrySize: UInt64 = 24
  /// The most frames that the format's two bitmaps, whose blocks a number of 32 bits counts, are for.
  static let mostFrames: UInt64 = 1 << 46

  /// `contents` have whole frames only.
  init(_ contents: ImageContents, _ compression: PageCompression) throws(AcquisitionError) {
    self.contents = contents
    self.compression = compression
    layout = RawImageLayout.layout(contents)
    frameLimit = contents.segments.last.map { ($0.start.rawValue + $0.count) / Self.block } ?? 0
    guard frameLimit < Self.mostFrames else { throw AcquisitionError("a kdump", .tooManyRuns(Int(Self.mostFrames))) }
    bitmapBlocks = max(1, (frameLimit + Self.block * 8 - 1) / (Self.block * 8))
    tableOffset = (2 + 2 * bitmapBlocks) * Self.block
    dataOffset = tableOffset + layout.byteCount / Self.block * Self.entrySize
    state = dataOffset + Self.block
    let count = min(8, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    var compressors: [PageCompressor] = []
    for _ in 0..<count { if let one = PageCompressor(compression) { compressors.append(one) } }
    self.compressors = compressors
  }

  func begin(_ output: ImageOutput) throws(AcquisitionError) {
    // Headers come at the end: they say where the notes lie. Bitmaps are written a block at a time.
    for (index, frames) in [contents.segments, contents.runs].enumerated() {
      try Self.forEachBlock(of: frames, count: bitmapBlocks) { number, bits throws(AcquisitionError) in
        try output.write(bits, at: (2 + UInt64(index) * bitmapBlocks + number) * Self.block)
      }
    }
    // Zeros are holes of a file, which has to be long enough for that.
    try output.write([UInt8](repeating: 0, count: Int(Self.block)), at: dataOffset)
  }

  /// Calls `body` with each block of a bitmap of `frames` that has a bit set.
  private static func forEachBlock(
    of frames: [MemorySegment], count: UInt64, _ body: (UInt64, [UInt8]) throws(AcquisitionError) -> Void
  ) throws(AcquisitionError) {
    let bitsPerBlock = block * 8
    var current: UInt64?
    var bits = [UInt8](repeating: 0, count: Int(block))
    for run in frames {
      for frame in run.start.rawValue / block..<(run.start.rawValue + run.count) / block {
        if let done = current, done != frame / bitsPerBlock {
          try body(done, bits)
          bits = [UInt8](repeating: 0, count: Int(block))
        }
        current = frame / bitsPerBlock
        bits[Int(frame % bitsPerBlock / 8)] |= 1 << UInt8(frame % 8)
      }
    }
    if let current { try body(current, bits) }
  }

  mutating func write(_ piece: PieceReader.Piece, to output: ImageOutput) throws(AcquisitionError) {
    let (table, data) = entries(piece.bytes)
    try output.write(table, at: tableOffset + piece.range.lowerBound / Self.block * Self.entrySize)
    try output.write(data, at: state)
    state += UInt64(data.count)
    last = MemoryDigest(ofPieces: [table, data].map { $0.withUnsafeBytes { MemoryDigest($0) } })
  }

  func digest(_ piece: PieceReader.Piece) -> MemoryDigest { last }

  /// New pages go behind all others, and what was there before is lost room.
  mutating func rewrite(
    _ bytes: UnsafeRawBufferPointer, at position: UInt64, to output: ImageOutput
  ) throws(AcquisitionError) {
    let (table, data) = entries(Array(bytes))
    // The page before its entry: whoever is stopped between has the old one.
    try output.write(data, at: state)
    state += UInt64(data.count)
    try table.span.bytes.withUnsafeBytes { entries throws(AcquisitionError) in
      try output.overwrite(entries, at: tableOffset + position / Self.block * Self.entrySize)
    }
  }

  func pages(_ range: Range<UInt64>, of output: ImageOutput) throws(AcquisitionError) -> [[UInt8]?] {
    let count = Int((range.upperBound - range.lowerBound) / Self.block)
    let table = try output.read(
      tableOffset + range.lowerBound / Self.block * Self.entrySize, count: count * Int(Self.entrySize))
    let entries = ByteReader(table.span.bytes)
    var pages: [[UInt8]?] = []
    for index in 0..<count {
      guard let offset = try? entries.u64(index * Int(Self.entrySize)),
        let size = try? entries.u32(index * Int(Self.entrySize) + 8),
        let flags = try? entries.u32(index * Int(Self.entrySize) + 12), size > 0, size <= 2 * UInt32(Self.block),
        offset >= dataOffset
      else {
        pages.append(nil)
        continue
      }
      guard offset != dataOffset else {
        pages.append([UInt8](repeating: 0, count: Int(Self.block)))
        continue
      }
      let data = try output.read(offset, count: Int(size))
      var page = [UInt8](repeating: 0, count: Int(Self.block))
      let filled = data.withUnsafeBytes { data in
        page.withUnsafeMutableBytes { KdumpPage.unpack(data, flags, to: $0) }
      }
      pages.append(filled == page.count ? page : nil)
    }
    return pages
  }

  /// The entries of pages that go to ``state``, and what goes there.
  private func entries(_ bytes: [UInt8]) -> (table: [UInt8], data: [UInt8]) {
    let pages = compress(bytes)
    var table = ByteWriter()
    var data: [UInt8] = []
    var place = state
    for page in pages {
      switch page {
      case .zero: table.append(dataOffset, UInt64(Self.block), 0)
      case .compressed(let bytes):
        table.append(place)
        table.append(UInt32(bytes.count), compression.flag)
        table.append(UInt64(0))
        place += UInt64(bytes.count)
        data += bytes
      case .plain(let index):
        table.append(place, UInt64(Self.block), 0)
        place += Self.block
        data += bytes[index * Int(Self.block)..<(index + 1) * Int(Self.block)]
      }
    }
    return (table.bytes, data)
  }

  func fileRanges(_ range: Range<UInt64>, states: Range<UInt64>) -> [Range<UInt64>] {
    let entries = range.lowerBound / Self.block * Self.entrySize..<range.upperBound / Self.block * Self.entrySize
    return [tableOffset + entries.lowerBound..<tableOffset + entries.upperBound, states]
  }

  func end(of parts: [ImageJournal.Part]) -> UInt64 { parts.last?.state ?? dataOffset }

  mutating func finish(_ output: ImageOutput, _ end: ImageEnd) throws(AcquisitionError) {
    let core = contents.coreNotes()
    let coreInfo: (offset: UInt64, size: UInt64) =
      core.coreInfo.isEmpty ? (0, 0) : (state + UInt64(core.coreInfo.lowerBound), UInt64(core.coreInfo.count))
    var notes = ByteWriter(bytes: core.bytes)
    notes.note("GRASS", type: 1, end.note)
    if !end.moved.isEmpty { notes.note("GRASS", type: 3, end.moved) }
    if !contents.frames.isEmpty { notes.note("GRASS", type: 2, contents.frames) }
    try output.write(notes.bytes, at: state)
    try output.write(header(notesAt: state, size: UInt64(notes.bytes.count), coreInfo), at: 0)
    try output.setSize(state + UInt64(notes.bytes.count))
  }

  private func header(notesAt offset: UInt64, size: UInt64, _ coreInfo: (offset: UInt64, size: UInt64)) -> [UInt8] {
    var header = ByteWriter()
    header.bytes = Array("KDUMP   ".utf8)
    header.append(UInt32(6))
    // struct new_utsname: system, node, release, version, machine, domain, 65 bytes each.
    for name in ["Linux", "", contents.kernel?.release ?? "", contents.kernel?.version ?? "", "x86_64", ""] {
      let text = Array(name.utf8.prefix(64))
      header.bytes += text + [UInt8](repeating: 0, count: 65 - text.count)
    }
    header.align(8)
    header.append(UInt64(0), UInt64(0))  // when
    header.append(
      compression.flag, UInt32(Self.block), UInt32(1), UInt32(2 * bitmapBlocks), UInt32(clamping: frameLimit))
    header.append(UInt32(0), UInt32(0), UInt32(0), UInt32(0), UInt32(1))  // counts that nobody fills; CPUs
    header.align(Int(Self.block))
    header.append(UInt64(bitPattern: contents.kernel?.physicalBase ?? 0))
    header.append(UInt32(contents.level.rawValue), UInt32(0))  // not split
    header.append(UInt64(0), UInt64(0), coreInfo.offset, coreInfo.size, offset, size, UInt64(0), UInt64(0))
    header.append(UInt64(0), UInt64(0), frameLimit)
    header.align(Int(Self.block))
    return header.bytes
  }

  private enum Page: Sendable {
    case zero
    case compressed([UInt8])
    /// As it is: the page of this number of the piece.
    case plain(Int)
  }

  /// The pages of a piece, compressed by as many threads as there are processors.
  private func compress(_ bytes: [UInt8]) -> [Page] {
    let size = Int(Self.block)
    let count = bytes.count / size
    let share = max(64, (count + max(1, compressors.count) - 1) / max(1, compressors.count))
    let results = Locked([Int: [Page]]())
    let work: @Sendable (Int, PageCompressor?) -> Void = { first, compressor in
      var pages: [Page] = []
      bytes.withUnsafeBytes { all in
        for index in first..<min(first + share, count) {
          if ZeroPages.isZero(all, index * size) {
            pages.append(.zero)
          } else {
            let page = UnsafeRawBufferPointer(rebasing: all[index * size..<(index + 1) * size])
            pages.append(compressor?.compress(page).map { .compressed($0) } ?? .plain(index))
          }
        }
      }
      results.withLock { $0[first] = pages }
    }
    let starts = Array(stride(from: 0, to: count, by: share))
    let threads = starts.dropFirst().enumerated().map { index, first in
      let compressor = index + 1 < compressors.count ? compressors[index + 1] : nil
      guard let thread = try? DedicatedThread(name: "grass-compress", { work(first, compressor) }) else {
        work(first, compressor)
        return nil as DedicatedThread?
      }
      return thread
    }
    if let first = starts.first { work(first, compressors.first) }
    for thread in threads { thread?.join() }
    return results.withLock { results in starts.flatMap { results[$0] ?? [] } }
  }
}
