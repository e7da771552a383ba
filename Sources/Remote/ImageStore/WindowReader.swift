import Host
import Memory

/// The windows of an image in ascending order, each with what of the memory's runs lies in it.
struct WindowSequence: IteratorProtocol {
  private let runs: [MemorySegment]
  private var run = 0
  private var position: UInt64 = 0

  init(_ runs: [MemorySegment]) { self.runs = runs }

  mutating func next() -> (number: UInt64, pieces: [MemorySegment])? {
    func end(_ index: Int) -> UInt64 { runs[index].start.rawValue + runs[index].count }
    while run < runs.count, end(run) <= position { run += 1 }
    guard run < runs.count else { return nil }
    position = max(position, runs[run].start.rawValue)
    let number = position / WindowJournal.bytes
    let stop = (number + 1) * WindowJournal.bytes
    var pieces: [MemorySegment] = []
    while run < runs.count, runs[run].start.rawValue < stop {
      let start = max(position, runs[run].start.rawValue)
      pieces.append(MemorySegment(start: PhysicalAddress(start), count: min(end(run), stop) - start))
      guard end(run) <= stop else { break }
      run += 1
    }
    position = stop
    return (number, pieces)
  }
}

/// A window of memory as it was read.
struct WindowContents: Sendable {
  var number: UInt64
  /// Of each frame: its name where that is known without its bytes, nil where ``bytes`` has them.
  var names = [ObjectName?](repeating: .absent, count: WindowJournal.frames)
  /// Of each frame whose name was kept from an earlier image.
  var digests = [MemoryDigest](repeating: MemoryDigest(low: 0, high: 0), count: WindowJournal.frames)
  /// The frames whose bytes are here, in ascending order, and the bytes: a page each, zeros where there is no memory.
  var frames: [Int] = []
  var bytes: [UInt8] = []
  /// Frames that lie in one run whole: only of these there are digests.
  var isWhole = [Bool](repeating: false, count: WindowJournal.frames)
  /// The pieces of memory in it.
  var pieces: [MemorySegment]
  var read: UInt64 = 0
  var digestBytes: UInt64 = 0
  var unread: [MemorySegment] = []
  /// Why the memory as a whole cannot be reached any more.
  var failure: MemoryFault?
}

/// An earlier image of the same host, by which what has not changed is not read again.
final class BaseImage {
  private let journal: WindowJournal
  private let store: ObjectStore
  private var place = 0
  private let count: Int
  let seed: MemoryDigest.Seed

  init(_ journal: WindowJournal, _ seed: MemoryDigest.Seed, _ store: ObjectStore) {
    (self.journal, self.seed, self.store, count) = (journal, seed, store, journal.count)
  }

  deinit { journal.close() }

  /// What the image has of a window; nil where nothing is known of it.
  ///
  /// Windows are asked for in ascending order.
  func window(_ number: UInt64) -> WindowJournal.Window? {
    while place < count, let there = journal.number(place), there < number { place += 1 }
    guard place < count, let window = journal.window(place), window.number == number else { return nil }
    return window
  }

  /// The names of the pages of a leaf; nil where it is not to be had: its pages are then read.
  func pages(_ leaf: ObjectName) -> [ObjectName]? {
    if leaf.isMark { return ImageTree.uniform(leaf) }
    return (try? store.read(leaf, .node(1))).map(ImageTree.names)
  }

  /// Whether a page is there that an image may have in place of its own.
  func has(_ name: ObjectName) -> Bool { name == .zero || !name.isMark && store.contains(name) }
}

/// Reads the next window of an image's memory while the one before it is stored.
final class WindowReader {
  private let source: WindowSource
  private var windows: ArraySlice<(number: UInt64, pieces: [MemorySegment])>
  private var pending: (thread: DedicatedThread?, result: Locked<WindowContents?>)?

  /// `windows` are those to read, in ascending order.
  init(_ memory: any PhysicalMemory, _ windows: [(number: UInt64, pieces: [MemorySegment])], base: BaseImage?) {
    (source, self.windows) = (WindowSource(memory, base), windows[...])
    start()
  }

  deinit { pending?.thread?.join() }

  /// The next window; nil at the end.
  func next() -> WindowContents? {
    guard let pending else { return nil }
    pending.thread?.join()
    self.pending = nil
    let contents = pending.result.withLock { $0 }
    if contents?.failure == nil { start() }
    return contents
  }

  private func start() {
    guard let (number, pieces) = windows.popFirst() else { return }
    let result = Locked<WindowContents?>(nil)
    let body: @Sendable () -> Void = { [source] in
      let contents = source.read(number, pieces)
      result.withLock { $0 = contents }
    }
    let thread = try? DedicatedThread(name: "grass-read", body)
    // Without a thread it only takes longer.
    if thread == nil { body() }
    pending = (thread, result)
  }
}

/// Reads windows of a memory, for one thread at a time.
///
/// Where there is an earlier image and the memory is far, first the digests of its pages, then those pages that are others. As
/// much is read in one call as comes in about a quarter of a second.
private final class WindowSource: @unchecked Sendable {
  // Used by one thread, which is joined before the next begins.
  private let memory: any PhysicalMemory
  private let base: BaseImage?
  private var size: UInt64 = 1 << 20

  private static let patience: UInt64 = 250_000_000
  private static let page: UInt64 = 4096

  init(_ memory: any PhysicalMemory, _ base: BaseImage?) { (self.memory, self.base) = (memory, base) }

  func read(_ number: UInt64, _ pieces: [MemorySegment]) -> WindowContents {
    var contents = WindowContents(number: number, pieces: pieces)
    let first = number * WindowJournal.bytes
    var wanted = [Bool](repeating: false, count: WindowJournal.frames)
    for piece in pieces {
      let (start, end) = (piece.start.rawValue - first, piece.start.rawValue - first + piece.count)
      for frame in Int(start / Self.page)..<Int((end + Self.page - 1) / Self.page) { wanted[frame] = true }
      for frame in Self.whole(start, end) { contents.isWhole[frame] = true }
    }
    do throws(MemoryFault) {
      if let base, !memory.isNear, let window = base.window(number) {
        try keepUnchanged(&contents, &wanted, window, base, pieces, first)
      }
      contents.frames = wanted.indices.filter { wanted[$0] }
      contents.bytes = [UInt8](repeating: 0, count: contents.frames.count * Int(Self.page))
      for frame in contents.frames { contents.names[frame] = nil }
      try readPages(&contents, wanted, pieces, first)
    } catch {
      contents.failure = error
    }
    return contents
  }

  /// The frames that lie between two offsets whole.
  private static func whole(_ start: UInt64, _ end: UInt64) -> Range<Int> {
    let (low, high) = (Int((start + page - 1) / page), Int(end / page))
    return low..<max(low, high)
  }

  /// Takes from an earlier image what its digests say has not changed.
  private func keepUnchanged(
    _ contents: inout WindowContents, _ wanted: inout [Bool], _ window: WindowJournal.Window, _ base: BaseImage,
    _ pieces: [MemorySegment], _ first: UInt64
  ) throws(MemoryFault) {
    var now = [MemoryDigest?](repeating: nil, count: WindowJournal.frames)
    for piece in pieces {
      let frames = Self.whole(piece.start.rawValue - first, piece.start.rawValue - first + piece.count)
      guard !frames.isEmpty else { continue }
      let digests = try memory.digests(
        ofPagesIn: MemorySegment(
          start: PhysicalAddress(first + UInt64(frames.lowerBound) * Self.page), count: UInt64(frames.count) * Self.page
        ),
        base.seed)
      for (frame, digest) in zip(frames, digests) { now[frame] = digest }
      contents.digestBytes += UInt64(frames.count) * 16
    }
    for (leaf, name) in window.leaves.enumerated() {
      let frames = leaf * WindowJournal.framesPerLeaf..<(leaf + 1) * WindowJournal.framesPerLeaf
      let candidates = frames.filter { wanted[$0] && now[$0] != nil && now[$0] == window.digests[$0] }
      guard !candidates.isEmpty, let pages = base.pages(name), pages.count == frames.count else { continue }
      for frame in candidates where base.has(pages[frame - frames.lowerBound]) {
        contents.names[frame] = pages[frame - frames.lowerBound]
        contents.digests[frame] = window.digests[frame]
        wanted[frame] = false
      }
    }
  }

  /// Reads what is wanted into the places of its frames.
  private func readPages(
    _ contents: inout WindowContents, _ wanted: [Bool], _ pieces: [MemorySegment], _ first: UInt64
  ) throws(MemoryFault) {
    var slots = [Int](repeating: 0, count: WindowJournal.frames)
    for (slot, frame) in contents.frames.enumerated() { slots[frame] = slot }
    // Runs of wanted frames in each piece.
    var ranges: [MemorySegment] = []
    for piece in pieces {
      let end = piece.start.rawValue + piece.count
      var start = piece.start.rawValue
      while start < end {
        let isWanted = wanted[Int((start - first) / Self.page)]
        var stop = start
        while stop < end, wanted[Int((stop - first) / Self.page)] == isWanted {
          stop = min(end, (stop / Self.page + 1) * Self.page)
        }
        if isWanted { ranges.append(MemorySegment(start: PhysicalAddress(start), count: stop - start)) }
        start = stop
      }
    }
    for range in ranges { memory.prepareCache(of: range) }
    defer { for range in ranges { memory.releaseCache(of: range) } }
    var rest = ranges[...]
    while !rest.isEmpty {
      var (batch, asked, count): (ReadBatch<PhysicalAddress>, [MemorySegment], UInt64) = (.init(), [], 0)
      while count < size, var range = rest.popFirst() {
        if range.count > size - count {
          // In whole pages, however slow it is.
          let part = max(Self.page, (size - count) / Self.page * Self.page)
          let left = Self.page - range.start.rawValue % Self.page
          let taken = min(range.count, left == Self.page ? part : left)
          if taken < range.count {
            rest.insert(
              MemorySegment(start: range.start + Int(taken), count: range.count - taken), at: rest.startIndex)
          }
          range.count = taken
        }
        batch.add(range.start, count: Int(range.count))
        asked.append(range)
        count += range.count
      }
      let began = SystemCall.monotonicNanoseconds()
      memory.read(&batch)
      let time = SystemCall.monotonicNanoseconds() - began
      if time < Self.patience / 2 { size = min(size * 2, WindowJournal.bytes) }
      if time > Self.patience * 2 { size = max(size / 2, Self.page * 16) }
      contents.read += count
      if let lost = batch.faults.values.first(where: \.isOfSource) { throw lost }
      for (index, range) in asked.enumerated() {
        if batch.faults[index] == nil {
          let offset = batch.entries[index].offset
          Self.place(
            batch.bytes[offset..<offset + Int(range.count)], at: range.start.rawValue - first, slots, &contents)
        } else {
          try readSingly(range, first, slots, &contents)
        }
      }
    }
  }

  /// Reads what failed as a whole page by page, and notes which of it cannot be read.
  private func readSingly(
    _ range: MemorySegment, _ first: UInt64, _ slots: [Int], _ contents: inout WindowContents
  ) throws(MemoryFault) {
    var batch = ReadBatch<PhysicalAddress>()
    var pages: [MemorySegment] = []
    var start = range.start.rawValue
    let end = start + range.count
    while start < end {
      let stop = min(end, (start / Self.page + 1) * Self.page)
      pages.append(MemorySegment(start: PhysicalAddress(start), count: stop - start))
      batch.add(PhysicalAddress(start), count: Int(stop - start))
      start = stop
    }
    memory.read(&batch)
    if let lost = batch.faults.values.first(where: \.isOfSource) { throw lost }
    for (index, page) in pages.enumerated() {
      if let bytes = try? batch.reader(index).copy() {
        Self.place(bytes[...], at: page.start.rawValue - first, slots, &contents)
      } else {
        // Of a page that lies in two runs, all of it.
        contents.names[Int((page.start.rawValue - first) / Self.page)] = .unread
        contents.unread.append(page)
      }
    }
  }

  private static func place(
    _ bytes: ArraySlice<UInt8>, at offset: UInt64, _ slots: [Int], _ contents: inout WindowContents
  ) {
    let place = slots[Int(offset / page)] * Int(page) + Int(offset % page)
    contents.bytes.withUnsafeMutableBytes { target in
      bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: target[place...]).copyMemory(from: $0) }
    }
  }
}
