import Glibc
public import Memory

/// Writes an image of a host's physical memory.
///
/// The memory is read once, in ascending order, some MiB at a time, and while one part is written the next is read. Then, where
/// that is asked for, it is held against the memory (``ConsistencyRounds``). What
/// cannot be read becomes zeros, and is named in the image's note. Until it is whole the file is called `FILE.part`, and beside it
/// lie `FILE.part.plan` and `FILE.part.journal`, by which whoever runs the same acquisition again goes on with it.
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
  /// How pages of a kdump are compressed.
  public let compression: PageCompression
  /// How often what was copied is held against the memory, at most; 0 for never.
  public let rounds: Int
  /// What tells this image from any other: the host and its boot, the format, the level.
  public let identity: String

  public init(
    of memory: any PhysicalMemory, _ contents: ImageContents, as format: ImageFormat,
    compression: PageCompression = .zstd, rounds: Int = 0, identity: String = ""
  ) {
    (self.memory, self.contents, self.format, self.compression) = (memory, contents, format, compression)
    self.rounds = rounds
    let form = format == .kdump ? "\(format.rawValue) with \(compression.rawValue)" : format.rawValue
    self.identity = "\(form), level \(contents.level.rawValue)\(identity.isEmpty ? "" : ", \(identity)")"
  }

  /// Writes the image, or goes on with one that was begun: what a file's plan says counts then, not ``contents``.
  ///
  /// - Parameters:
  ///   - destination: where to.
  ///   - progress: called after each part; the acquisition ends where it returns false, and can be gone on with.
  /// - Returns: what was written, and what of it could not be read.
  /// - Throws: ``AcquisitionError`` where it cannot be written, the memory is gone, or `progress` ended it. Cost: one pass over
  ///   the memory, and some 64 MiB here whatever its size; to go on, a pass over what the file has.
  public func run(
    to destination: Destination, progress: (AcquisitionProgress) -> Bool = { _ in true }
  ) throws(AcquisitionError) -> AcquisitionSummary {
    switch destination {
    case .descriptor(let descriptor):
      let output = try ImageOutput(stream: descriptor, isFlattened: format == .kdump)
      let plan = ImagePlan(identity: identity, began: Self.now(), contents: fitting)
      return try write(plan, to: output, format.writer(plan.contents, compression), journal: nil, Begun(), progress)
    case .file(let path):
      let output = try ImageOutput(path: path)
      var (plan, begun) = (ImagePlan(identity: identity, began: Self.now(), contents: fitting), Begun())
      if let kept = ImageJournal.plan(of: path) {
        guard kept.identity == identity else {
          throw AcquisitionError(
            ImageOutput.partialPath(of: path), .otherImage(found: kept.identity, wanted: identity))
        }
        plan = kept
        (begun.parts, begun.isRewritten) = ImageJournal.parts(of: path)
      }
      var writer = try format.writer(plan.contents, compression)
      begun = try Self.proven(begun, writer, output, rounds > 0)
      if let last = begun.parts.last { writer.state = begun.isRewritten ? max(last.state, output.size) : last.state }
      let journal = try ImageJournal(of: path, plan: plan, parts: begun.parts, isRewritten: begun.isRewritten)
      do throws(AcquisitionError) {
        let summary = try write(plan, to: output, writer, journal: journal, begun, progress)
        journal.close(isWhole: true, of: path)
        return summary
      } catch {
        journal.close(isWhole: false, of: path)
        throw error
      }
    }
  }

  /// What was there when a run began.
  private struct Begun {
    var parts: [ImageJournal.Part] = []
    /// Pages may have been copied again since, in their place or behind all others.
    var isRewritten = false
  }

  /// As much of what a journal names as the file has, as it was written.
  private static func proven(
    _ begun: Begun, _ writer: any ImageWriter, _ output: ImageOutput, _ comparesWithMemory: Bool
  ) throws(AcquisitionError) -> Begun {
    let isRewritten =
      begun.isRewritten && comparesWithMemory && begun.parts.last?.range.upperBound == writer.layout.byteCount
    let parts = try proven(begun.parts, writer, output, isRewritten: isRewritten)
    return Begun(parts: parts, isRewritten: isRewritten && parts.count == begun.parts.count)
  }

  private static func proven(
    _ parts: [ImageJournal.Part], _ writer: any ImageWriter, _ output: ImageOutput, isRewritten: Bool
  ) throws(AcquisitionError) -> [ImageJournal.Part] {
    var state = writer.state
    for (index, part) in parts.enumerated() {
      guard part.range.upperBound <= writer.layout.byteCount, part.state >= state,
        writer.layout.pageBoundary(atOrBefore: part.range.upperBound) == part.range.upperBound,
        part.range.upperBound - part.range.lowerBound <= PieceReader.largest,
        part.state - state <= 2 * PieceReader.largest
      else { return Array(parts[..<index]) }
      defer { state = part.state }
      // All pages are compared with the memory then.
      if isRewritten { continue }
      var digests: [MemoryDigest] = []
      for range in writer.fileRanges(part.range, states: state..<part.state) {
        var bytes = try output.read(range.lowerBound, count: Int(range.upperBound - range.lowerBound))
        // The file's end may be a hole that was not written yet; in the image it is zeros.
        bytes += [UInt8](repeating: 0, count: Int(range.upperBound - range.lowerBound) - bytes.count)
        digests.append(bytes.withUnsafeBytes { MemoryDigest($0) })
      }
      guard MemoryDigest(ofPieces: digests) == part.digest else { return Array(parts[..<index]) }
    }
    return parts
  }

  private func write(
    _ plan: ImagePlan, to output: ImageOutput, _ unbegun: any ImageWriter, journal: ImageJournal?, _ begun: Begun,
    _ progress: (AcquisitionProgress) -> Bool
  ) throws(AcquisitionError) -> AcquisitionSummary {
    var writer = unbegun
    let (layout, done) = (writer.layout, begun.parts)
    var summary = AcquisitionSummary()
    summary.byteCount = layout.byteCount
    summary.resumed = done.last?.range.upperBound ?? 0
    summary.frames = plan.contents.frames
    for part in done { for range in part.unread { summary.add(unread: range) } }
    // Zeros are holes, so what comes after the last part that counts must be gone.
    if !output.isStream, !begun.isRewritten { try output.setSize(done.isEmpty ? 0 : writer.end(of: done)) }
    if done.isEmpty { try writer.begin(output) }
    var comparing =
      rounds > 0 ? try ConsistencyRounds(of: memory, layout, beside: output.isStream ? nil : output.name) : nil
    for part in done { try comparing?.add(part.range, of: writer, in: output, unread: part.unread) }
    let clock = ContinuousClock()
    var start = clock.now
    func report(_ stage: AcquisitionProgress.Stage, _ done: UInt64, resumed: UInt64) throws(AcquisitionError) {
      let isWanted = progress(
        AcquisitionProgress(
          stage: stage, done: done, total: layout.byteCount, resumed: resumed, elapsed: clock.now - start))
      if !isWanted { throw AcquisitionError(output.name, .cancelled) }
    }
    let reader = PieceReader(memory, layout, from: summary.resumed)
    while let piece = reader.next() {
      if let fault = piece.failure { throw AcquisitionError(output.name, .memory(fault)) }
      try writer.write(piece, to: output)
      try comparing?.add(piece)
      for range in piece.unread { summary.add(unread: range) }
      try journal?.append(
        ImageJournal.Part(
          range: piece.range, state: writer.state, digest: writer.digest(piece), unread: piece.unread))
      try report(.copying, piece.range.upperBound, resumed: summary.resumed)
    }
    if comparing != nil, !begun.isRewritten { try journal?.appendAgain() }
    var round = 0
    let outcome = try comparing?.run(most: output.takesRewriting ? rounds : 1) {
      number, done, moved throws(AcquisitionError) in
      if number != round { (round, start) = (number, clock.now) }
      try report(.comparing(round: number, moved: moved), done, resumed: 0)
    } rewrite: { bytes, position throws(AcquisitionError) in
      try writer.rewrite(bytes, at: position, to: output)
    }
    if let outcome { summary.add(outcome) }
    summary.note = note(plan, summary)
    try writer.finish(output, ImageEnd(note: Array(summary.note.joined(separator: "\n").utf8), moved: summary.moved))
    try output.finish()
    return summary
  }

  /// The contents as this format can have them: in no more runs than it takes, and in whole pages where it has no others.
  private var fitting: ImageContents {
    var contents = format == .kdump ? contents.wholeFrames() : contents
    guard let most = format.mostRuns, contents.runs.count > most else { return contents }
    contents.runs = FrameSelection.join(
      contents.runs, most: most, forbidden: contents.forbidden, segments: contents.segments)
    return contents
  }

  /// What the image says of itself, a line each.
  private func note(_ plan: ImagePlan, _ summary: AcquisitionSummary) -> [String] {
    var lines = ["FORMAT=1", "BEGAN=\(plan.began)", "ENDED=\(Self.now())", "BYTES=\(summary.byteCount)"]
    if summary.resumed > 0 { lines.append("RESUMED=\(summary.resumed)") }
    lines.append(plan.contents.registersRemark)
    lines += plan.contents.remarks
    if let outcome = summary.consistency {
      lines.append("ROUNDS=\(outcome.rounds)")
      lines.append("INSTANT=\(Self.text(outcome.instant))")
      lines.append("PAGES_OF_THE_INSTANT=\(outcome.settled)")
      lines.append("PAGES_MOVED=\(outcome.movedCount)")
    }
    lines.append("UNREAD_BYTES=\(summary.unreadCount)")
    lines += summary.unread.map { "UNREAD=\($0.start)+0x\(String($0.count, radix: 16))" }
    return lines
  }

  private static func now() -> String { text(ConsistencyRounds.now()) }

  /// Milliseconds since 1970 as a date and time of UTC.
  private static func text(_ milliseconds: UInt64) -> String {
    var seconds = time_t(clamping: milliseconds / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S.", &parts)
    let rest = String(milliseconds % 1000 + 1000).dropFirst()
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) + rest + "Z"
  }
}
