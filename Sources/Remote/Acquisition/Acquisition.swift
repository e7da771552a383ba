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
    /// A file of this name, encrypted by age to these recipients as it comes: public keys, or files of such.
    ///
    /// What was encrypted cannot be read here again, nor can age go on with a file. So where it is interrupted, what there is becomes a file
    /// by itself, `FILE.001`, and what comes later is the next: decrypted one after the other, they are the image. Plan and
    /// journal lie beside it meanwhile, with no byte of its pages.
    case encrypted(String, to: [String])
  }

  public let memory: any PhysicalMemory
  public let contents: ImageContents
  public let format: ImageFormat
  /// How pages of a kdump are compressed.
  public let compression: PageCompression
  /// How often what was copied is held against the memory, at most; 0 for never.
  public let rounds: Int
  /// Of a memory that is an image itself, what is known of its instant: the new image says the same, and is held against nothing.
  public let consistency: ImageConsistency?
  /// What tells this image from any other: the host and its boot, the format, the level.
  public let identity: String

  public init(
    of memory: any PhysicalMemory, _ contents: ImageContents, as format: ImageFormat,
    compression: PageCompression = .zstd, rounds: Int = 0, consistency: ImageConsistency? = nil, identity: String = ""
  ) {
    (self.memory, self.contents, self.format, self.compression) = (memory, contents, format, compression)
    (self.rounds, self.consistency) = (consistency == nil ? rounds : 0, consistency)
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
        begun = ImageJournal.contents(of: path)
      }
      var writer = try format.writer(plan.contents, compression)
      begun = try Self.proven(begun, writer, output, rounds > 0)
      if let last = begun.parts.last { writer.state = begun.isRewritten ? max(last.state, output.size) : last.state }
      let journal = try ImageJournal(of: path, plan: plan, begun)
      do throws(AcquisitionError) {
        let summary = try write(plan, to: output, writer, journal: journal, begun, progress)
        journal.close(isWhole: true, of: path)
        return summary
      } catch {
        journal.close(isWhole: false, of: path)
        throw error
      }
    case .encrypted(let path, let recipients): return try encrypt(path, to: recipients, progress)
    }
  }

  /// What was there when a run began; pages may have been copied again since, in their place or behind all others.
  private typealias Begun = ImageJournal.Contents

  /// The name of the n-th file of an encrypted image that was interrupted, from 1 on.
  public static func path(ofFile number: Int, of image: String) -> String {
    let digits = String(number)
    return "\(image).\(String(repeating: "0", count: max(0, 3 - digits.count)))\(digits)"
  }

  private func encrypt(
    _ path: String, to recipients: [String], _ progress: (AcquisitionProgress) -> Bool
  ) throws(AcquisitionError) -> AcquisitionSummary {
    func reporting<Value>(_ body: () throws(Encryption.Failure) -> Value) throws(AcquisitionError) -> Value {
      do throws(Encryption.Failure) { return try body() } catch {
        throw AcquisitionError(path, .encryption("\(error)"))
      }
    }
    // Whoever writes it keeps others out by this.
    let lock = try ImageOutput(path: path)
    defer { withExtendedLifetime(lock) {} }
    var (plan, begun) = (ImagePlan(identity: identity, began: Self.now(), contents: fitting), Begun())
    let kept = ImageJournal.plan(of: path)
    if let kept {
      guard kept.identity == identity else {
        throw AcquisitionError(path, .otherImage(found: kept.identity, wanted: identity))
      }
      begun = ImageJournal.contents(of: path)
    }
    // Of a file that had no end there is nothing.
    begun.parts = Array(begun.parts.prefix(begun.ends.last?.parts ?? 0))
    begun.isRewritten = false
    if !begun.parts.isEmpty, let kept { plan = kept.with(plan.contents.kernel?.registers ?? [:]) }
    let number = begun.ends.count + 1
    let name = Self.path(ofFile: number, of: path)
    // Of a run that was killed before it could say that it is there; what nothing is known of is somebody's.
    if kept != nil { unlink(name) }
    guard access(name, F_OK) != 0 else { throw AcquisitionError(name, .exists) }
    let encryption = try reporting { () throws(Encryption.Failure) in try Encryption(to: recipients, path) }
    let output: ImageOutput
    var writer: any ImageWriter
    let journal: ImageJournal
    do throws(AcquisitionError) {
      output = try ImageOutput(
        stream: encryption.input, isFlattened: format == .kdump, from: begun.ends.last?.position ?? 0, name: path)
      writer = try format.writer(plan.contents, compression)
      // Registers are no pages, and secrets like these.
      journal = try ImageJournal(of: path, plan: plan.with([:]), begun)
    } catch {
      encryption.abandon()
      throw error
    }
    if let end = begun.ends.last { writer.state = max(writer.state, end.position) }
    do throws(AcquisitionError) {
      var summary = try write(plan, to: output, writer, journal: journal, begun, progress)
      try reporting { () throws(Encryption.Failure) in try encryption.finish(as: number > 1 ? name : nil) }
      summary.fileCount = number
      journal.close(isWhole: true, of: path)
      unlink(ImageOutput.partialPath(of: path))
      return summary
    } catch {
      let written = ImageJournal.contents(of: path).parts.count
      if error.isInterruption, written > begun.parts.count {
        try reporting { () throws(Encryption.Failure) in try encryption.finish(as: name) }
        try journal.appendEnd(output.position)
      } else {
        encryption.abandon()
      }
      journal.close(isWhole: false, of: path)
      throw error
    }
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
      // What was encrypted before cannot be held against anything any more.
      rounds > 0 && (done.isEmpty || !output.isStream)
      ? try ConsistencyRounds(of: memory, layout, seed: .random(), beside: output.isStream ? nil : output.name) : nil
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
          range: piece.range, state: writer.state,
          // Nothing that tells of pages lies in clear beside those that are encrypted.
          digest: output.isStream ? MemoryDigest(low: 0, high: 0) : writer.digest(piece), unread: piece.unread))
      try report(.copying, piece.range.upperBound, resumed: summary.resumed)
    }
    if comparing != nil, !begun.isRewritten { try journal?.appendAgain() }
    var round = 0
    let outcome = try comparing?.run(most: output.takesRewriting ? rounds : 1) {
      number, done, moved throws(AcquisitionError) in
      if number != round { (round, start) = (number, clock.now) }
      try report(.comparing(round: number, moved: moved), done, resumed: 0)
    } rewrite: { bytes, position, _ throws(AcquisitionError) in
      try writer.rewrite(bytes, at: position, to: output)
    }
    summary.consistency = outcome ?? consistency
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
    lines += summary.consistency?.note ?? []
    lines.append("UNREAD_BYTES=\(summary.unreadCount)")
    lines += summary.unread.map { "UNREAD=\($0.start)+0x\(String($0.count, radix: 16))" }
    return lines
  }

  private static func now() -> String { text(ConsistencyRounds.now()) }

  /// Milliseconds since 1970 as a date and time of UTC.
  static func text(_ milliseconds: UInt64) -> String {
    var seconds = time_t(clamping: milliseconds / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S.", &parts)
    let rest = String(milliseconds % 1000 + 1000).dropFirst()
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) + rest + "Z"
  }
}
