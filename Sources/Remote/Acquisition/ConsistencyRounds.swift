import Glibc
package import Memory

/// Finds out which pages of an image hold what the memory held at one instant, and copies the others again.
///
/// A copy takes time, and the host goes on meanwhile. So when all pages are there, the instant T is taken, and then the memory's
/// digests are asked for: a page that is now as it was copied held its value from before T until after it. All such pages
/// together are of T. Those that differ are copied again, and again all digests are asked for, which takes less time than a
/// copy, in rounds until the number of those that differ falls no more. Pages that were copied again are the first to be compared: what
/// moves must stand still only that long. What is left is named, with the times between which it changed.
///
/// That a page changed and changed back in between is not seen. The digests' seed is one that who writes the memory does not know,
/// so that nobody makes another page of the same digest. Cost: a pass over the memory for each round by who owns it, 16 bytes a page on the link, and
/// as many in a file here.
package struct ConsistencyRounds {
  /// Pages of the image that lie side by side: the number of the first among all, and where they begin.
  fileprivate struct Run {
    var first: UInt64
    var position: UInt64
    var segment: MemorySegment
  }

  let memory: any PhysicalMemory
  let layout: ImageLayout
  let digests: PageDigests
  /// When pages were copied, in milliseconds since 1970: all up to each position, in ascending order.
  private(set) var copies: [(end: UInt64, time: UInt64)] = []
  private var recopies: [UInt64: UInt64] = [:]
  /// How many digests were asked for so far.
  package private(set) var asked: UInt64 = 0
  /// Of each run of the layout, the number of its first page.
  private let firsts: [UInt64]

  static let page = UInt64(ZeroPages.size)
  /// So much is compared at a time, and copied again.
  private static let window: UInt64 = 64 << 20
  private static let mostAgain = 4096
  /// A round that leaves more than this of what the one before left, in percent, is the last.
  private static let worthwhile: UInt64 = 90

  init(
    of memory: any PhysicalMemory, _ layout: ImageLayout, seed: MemoryDigest.Seed, beside path: String?
  ) throws(AcquisitionError) {
    self.memory = memory
    self.layout = layout
    digests = try PageDigests(seed: seed, beside: path)
    var next: UInt64 = 0
    firsts = layout.placements.map { placement in
      defer { next += (placement.segment.count + Self.page - 1) / Self.page }
      return next
    }
  }

  /// Rounds of whoever keeps frames rather than a file: a run that begins within a frame has a part of that as its first page.
  ///
  /// `runs` are the memory, in ascending order; digests under `seed` are kept in the folder `path`, in a file without a name.
  ///
  /// - Throws: ``AcquisitionError`` where there can be no such file.
  package init(
    of memory: any PhysicalMemory, framesOf runs: [MemorySegment], seed: MemoryDigest.Seed, in path: String
  ) throws(AcquisitionError) {
    var layout = ImageLayout(head: [], placements: [], end: 0)
    for run in runs {
      let first = min(run.count, (Self.page - run.start.rawValue % Self.page) % Self.page)
      for part in [
        MemorySegment(start: run.start, count: first),
        MemorySegment(start: run.start + Int(first), count: run.count - first),
      ] where part.count > 0 {
        layout.placements.append(.init(segment: part, offset: 0, position: layout.byteCount))
      }
    }
    try self.init(of: memory, layout, seed: seed, beside: path + "/")
  }

  /// Notes that the next `count` bytes of the memory were copied; `digest` gives that of a frame or a part of one as it was, nil where it
  /// could not be read.
  ///
  /// - Throws: ``AcquisitionError`` where it cannot be kept.
  package mutating func addNext(
    _ count: UInt64, _ digest: (MemorySegment) -> MemoryDigest?
  ) throws(AcquisitionError) {
    let start = copies.last?.end ?? 0
    for run in runs(start..<start + count) {
      try digests.set((0..<run.pageCount).map { digest(run.page($0).segment) }, from: run.first)
    }
    copies.append((start + count, Self.now()))
  }

  /// The pages at positions `range`, which begins and ends with a page.
  private func runs(_ range: Range<UInt64>) -> [Run] {
    layout.pieces(range).map { piece in
      let run = layout.index(of: piece.position)
      return Run(
        first: firsts[run] + (piece.position - layout.placements[run].position) / Self.page, position: piece.position,
        segment: piece.segment)
    }
  }

  /// Notes what was copied.
  mutating func add(_ piece: PieceReader.Piece) throws(AcquisitionError) {
    let unread = Set(piece.unread.map(\.start))
    for run in runs(piece.range) {
      let offset = Int(run.position - piece.range.lowerBound)
      let digests = stride(from: 0, to: Int(run.segment.count), by: Int(Self.page)).map { start -> MemoryDigest? in
        guard unread.isEmpty || !unread.contains(run.segment.start + start) else { return nil }
        return piece.bytes.withUnsafeBytes { bytes in
          let end = min(offset + start + Int(Self.page), offset + Int(run.segment.count))
          return MemoryDigest(UnsafeRawBufferPointer(rebasing: bytes[offset + start..<end]), self.digests.seed)
        }
      }
      try self.digests.set(digests, from: run.first)
    }
    copies.append((piece.range.upperBound, Self.now()))
  }

  /// Notes what the file has of an image that is gone on with.
  mutating func add(
    _ range: Range<UInt64>, of writer: any ImageWriter, in output: ImageOutput, unread: [MemorySegment]
  ) throws(AcquisitionError) {
    let unread = Set(unread.map(\.start))
    for run in runs(range) {
      let pages = try writer.pages(run.position..<run.position + run.segment.count, of: output)
      let digests = pages.enumerated().map { index, page -> MemoryDigest? in
        guard let page, !unread.contains(run.segment.start + index * Int(Self.page)) else { return nil }
        return page.withUnsafeBytes { MemoryDigest($0, self.digests.seed) }
      }
      try self.digests.set(digests, from: run.first)
    }
    // When that was is not known any more; not after now.
    copies.append((range.upperBound, Self.now()))
  }

  /// Makes rounds, `most` at most, between which `rewrite` is given pages anew.
  ///
  /// - Parameters:
  ///   - most: how many rounds there may be, one at least.
  ///   - progress: called with the round, what of the memory was compared in it, and how many pages differ so far.
  ///   - rewrite: takes a page, the position where it belongs, and its address.
  /// - Returns: how much of the image is of which instant.
  /// - Throws: ``AcquisitionError`` where the memory is gone, the digests cannot be kept, and what the two throw.
  package mutating func run(
    most: Int, _ progress: (_ round: Int, _ done: UInt64, _ moved: UInt64) throws(AcquisitionError) -> Void,
    rewrite: (_ bytes: UnsafeRawBufferPointer, _ position: UInt64, _ address: PhysicalAddress)
      throws(AcquisitionError) -> Void
  ) throws(AcquisitionError) -> ImageConsistency {
    var outcome = ImageConsistency()
    var previous: UInt64 = .max
    var again: [Run] = []
    while true {
      outcome.rounds += 1
      outcome.instant = Self.now()
      var found = Differences()
      try compare(again, &found)
      try compareOthers(than: again, &found) { done, moved throws(AcquisitionError) in
        try progress(outcome.rounds, done, moved)
      }
      let (moved, count) = (found.runs.sorted { $0.run.position < $1.run.position }, found.count)
      outcome.movedCount = count
      let isLast = count == 0 || outcome.rounds >= most || count > previous / 100 * Self.worthwhile
      guard !isLast else {
        outcome.settled = pageCount - count - found.unread
        outcome.moved = frames(of: moved)
        return outcome
      }
      previous = count
      again = moved.map(\.run)
      try copyAgain(again, rewrite)
    }
  }

  private var pageCount: UInt64 {
    guard let first = firsts.last, let run = layout.placements.last else { return 0 }
    return first + (run.segment.count + Self.page - 1) / Self.page
  }

  /// Pages whose digests are others than those of their copies, and when that was seen.
  private struct Differences {
    var runs: [(run: Run, changed: UInt64)] = []
    var count: UInt64 = 0
    /// Pages that could not be read, neither then nor now.
    var unread: UInt64 = 0

    mutating func add(_ page: Run, at time: UInt64) {
      count += 1
      if let last = runs.last, last.changed == time, last.run.position + last.run.segment.count == page.position,
        last.run.segment.start.rawValue + last.run.segment.count == page.segment.start.rawValue
      {
        runs[runs.count - 1].run.segment.count += page.segment.count
      } else {
        runs.append((page, time))
      }
    }
  }

  /// Compares some runs.
  private mutating func compare(_ runs: [Run], _ found: inout Differences) throws(AcquisitionError) {
    var rest = runs[...]
    while !rest.isEmpty {
      var some: [Run] = []
      var size: UInt64 = 0
      while let run = rest.first, some.isEmpty || size + run.segment.count <= Self.window {
        some.append(rest.removeFirst())
        size += run.segment.count
      }
      let digests: [[MemoryDigest?]]
      do throws(MemoryFault) {
        digests = try memory.digests(ofPagesIn: some.map(\.segment), self.digests.seed)
      } catch {
        throw AcquisitionError("the image", .memory(error))
      }
      let time = Self.now()
      for (run, now) in zip(some, digests) {
        asked += UInt64(now.count)
        let copied = try self.digests.digests(run.first, count: now.count)
        for (index, (now, copied)) in zip(now, copied).enumerated() {
          if now != copied { found.add(run.page(index), at: time) } else if now == nil { found.unread += 1 }
        }
      }
    }
  }

  /// Compares all but the runs in `done`, which are in ascending order.
  private mutating func compareOthers(
    than done: [Run], _ found: inout Differences,
    _ progress: (_ done: UInt64, _ moved: UInt64) throws(AcquisitionError) -> Void
  ) throws(AcquisitionError) {
    var done = done[...]
    var position: UInt64 = 0
    while position < layout.byteCount {
      let end = layout.pageBoundary(atOrBefore: min(position + Self.window, layout.byteCount))
      var ranges: [Range<UInt64>] = []
      var start = position
      while let next = done.first, next.position < end {
        if start < next.position { ranges.append(start..<next.position) }
        let nextEnd = next.position + next.segment.count
        start = min(nextEnd, end)
        guard nextEnd <= end else { break }
        done.removeFirst()
      }
      if start < end { ranges.append(start..<end) }
      let others = ranges.flatMap { runs($0) }
      try compare(others, &found)
      position = end
      try progress(position, found.count)
    }
  }

  /// Copies pages again: into the image, and their digests.
  private mutating func copyAgain(
    _ runs: [Run],
    _ rewrite: (_ bytes: UnsafeRawBufferPointer, _ position: UInt64, _ address: PhysicalAddress)
      throws(AcquisitionError) -> Void
  ) throws(AcquisitionError) {
    let pages = runs.lazy.flatMap { run in (0..<run.pageCount).lazy.map { run.page($0) } }
    var rest = Array(pages)[...]
    while !rest.isEmpty {
      let some = rest.prefix(Self.mostAgain)
      rest = rest.dropFirst(some.count)
      var batch = ReadBatch<PhysicalAddress>()
      for page in some { batch.add(page.segment.start, count: Int(page.segment.count)) }
      memory.read(&batch)
      if let lost = batch.faults.values.first(where: \.isOfSource) {
        throw AcquisitionError("the image", .memory(lost))
      }
      let time = Self.now()
      for (index, page) in some.enumerated() {
        // What cannot be read any more keeps what was read of it, and goes on being named as moved.
        guard let bytes = try? batch.reader(index).copy() else { continue }
        try bytes.span.bytes.withUnsafeBytes { bytes throws(AcquisitionError) in
          try rewrite(bytes, page.position, page.segment.start)
        }
        let digest = bytes.withUnsafeBytes { MemoryDigest($0, digests.seed) }
        try digests.set([digest], from: page.first)
        recopies[page.first] = time
      }
    }
  }

  /// The frames of pages that moved, with when they had been copied.
  private func frames(of moved: [(run: Run, changed: UInt64)]) -> [MovedFrames.Run] {
    var frames: [MovedFrames.Run] = []
    var copies = copies[...]
    for (run, changed) in moved {
      for index in 0..<run.pageCount {
        let page = run.page(index)
        while let first = copies.first, first.end <= page.position { copies.removeFirst() }
        let copied = recopies[page.first] ?? copies.first?.time ?? 0
        let first = page.segment.start.rawValue / Self.page
        let end = (page.segment.start.rawValue + page.segment.count + Self.page - 1) / Self.page
        let start = max(first, frames.last?.frames.upperBound ?? 0)
        guard start < end else { continue }
        if let last = frames.last, last.frames.upperBound == start, last.copied == copied, last.changed == changed {
          frames[frames.count - 1].frames = last.frames.lowerBound..<end
        } else {
          frames.append(MovedFrames.Run(start..<end, copied: copied, changed: changed))
        }
      }
    }
    return frames
  }

  /// This machine's time in milliseconds since 1970.
  package static func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(clamping: time.tv_sec) * 1000 + UInt64(clamping: time.tv_nsec) / 1_000_000
  }
}

extension ConsistencyRounds.Run {
  fileprivate var pageCount: Int { Int((segment.count + ConsistencyRounds.page - 1) / ConsistencyRounds.page) }

  fileprivate func page(_ index: Int) -> Self {
    let offset = UInt64(index) * ConsistencyRounds.page
    return Self(
      first: first + UInt64(index), position: position + offset,
      segment: MemorySegment(
        start: segment.start + Int(offset), count: min(ConsistencyRounds.page, segment.count - offset)))
  }
}
