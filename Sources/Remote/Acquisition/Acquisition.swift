import Glibc
public import Memory

/// Writes an image of a host's physical memory.
///
/// The memory is read once, in ascending order, some MiB at a time, and while one part is written the next is read. What
/// cannot be read becomes zeros, and is named in the image's note. Until it is whole the file is called `FILE.part`.
public struct Acquisition: Sendable {
  /// Where an image goes.
  public enum Destination: Sendable {
    /// A file of this name, which must not be there yet.
    case file(String)
    /// A pipe or whatever else is open and takes bytes in their order; it stays the caller's.
    case descriptor(CInt)
  }

  public let memory: any PhysicalMemory
  public let contents: ImageContents
  public let format: ImageFormat

  public init(of memory: any PhysicalMemory, _ contents: ImageContents, as format: ImageFormat) {
    (self.memory, self.contents, self.format) = (memory, contents, format)
  }

  /// Writes the image.
  ///
  /// - Parameters:
  ///   - destination: where to.
  ///   - progress: called after each part; the acquisition ends where it returns false.
  /// - Returns: what was written, and what of it could not be read.
  /// - Throws: ``AcquisitionError`` where it cannot be written, the memory is gone, or `progress` ended it. Cost: one pass over
  ///   the memory, and 32 MiB here whatever its size.
  public func run(
    to destination: Destination, progress: (AcquisitionProgress) -> Bool = { _ in true }
  ) throws(AcquisitionError) -> AcquisitionSummary {
    let began = Self.now()
    let contents = joined
    let layout = try format.layout(contents)
    let output =
      switch destination {
      case .file(let path): try ImageOutput(path: path)
      case .descriptor(let descriptor): ImageOutput(stream: descriptor)
      }
    try output.setSize(0)
    try output.write(layout.head, at: 0)
    var summary = AcquisitionSummary()
    summary.byteCount = layout.byteCount
    let clock = ContinuousClock()
    let start = clock.now
    let reader = PieceReader(memory, layout, from: 0)
    while let piece = reader.next() {
      if let fault = piece.failure { throw AcquisitionError(output.name, .memory(fault)) }
      try write(piece, layout, to: output)
      for range in piece.unread { summary.add(unread: range) }
      let isWanted = progress(
        AcquisitionProgress(
          done: piece.range.upperBound, total: layout.byteCount, resumed: 0, elapsed: clock.now - start))
      if !isWanted { throw AcquisitionError(output.name, .cancelled) }
    }
    summary.note = note(began: began, contents, summary)
    let tail = layout.tail?(Array(summary.note.joined(separator: "\n").utf8)) ?? []
    try output.setSize(layout.end)
    try output.write(tail, at: layout.end)
    try output.finish()
    return summary
  }

  /// The contents, in no more runs than this format takes.
  private var joined: ImageContents {
    var contents = contents
    guard let most = format.mostRuns, contents.runs.count > most else { return contents }
    contents.runs = FrameSelection.join(
      contents.runs, most: most, forbidden: contents.forbidden, segments: contents.segments)
    return contents
  }

  private func write(
    _ piece: PieceReader.Piece, _ layout: ImageLayout, to output: ImageOutput
  ) throws(AcquisitionError) {
    try piece.bytes.span.bytes.withUnsafeBytes { bytes throws(AcquisitionError) in
      for part in layout.pieces(piece.range) {
        if !part.prefix.isEmpty { try output.write(part.prefix, at: part.offset - UInt64(part.prefix.count)) }
        let offset = Int(part.position - piece.range.lowerBound)
        try output.write(
          UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + Int(part.segment.count)]), at: part.offset)
      }
    }
  }

  /// What the image says of itself, a line each.
  private func note(began: String, _ contents: ImageContents, _ summary: AcquisitionSummary) -> [String] {
    var lines = ["FORMAT=1", "BEGAN=\(began)", "ENDED=\(Self.now())", "BYTES=\(summary.byteCount)"]
    // Caches of the host are snooped by who reads its memory; registers are not in memory at all.
    lines.append("REGISTERS=absent")
    lines += contents.remarks
    lines.append("UNREAD_BYTES=\(summary.unreadCount)")
    lines += summary.unread.map { "UNREAD=\($0.start)+0x\(String($0.count, radix: 16))" }
    return lines
  }

  /// The time of this machine, in UTC, to the second.
  private static func now() -> String {
    var seconds = time(nil)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
