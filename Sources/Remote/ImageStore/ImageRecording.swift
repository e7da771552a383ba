public import Acquisition
import Crypto
import Glibc
import Host
public import Keys
public import Memory

/// Takes an image of a memory into a store.
///
/// Memory is read in windows of 16 MiB, the next while one is stored; of each a line of the image's journal is kept, so that
/// whoever runs the same again after an interruption goes on behind the last. Where the store has an earlier image of the same
/// host and the memory is far, only pages whose digests are others are read. A page may change between its digest and its read: what
/// is kept of it is the digest and the SHA-256 of the bytes that were read.
public struct ImageRecording: Sendable {
  public let memory: any PhysicalMemory
  public let contents: ImageContents
  /// Which host it is, by a name that stays the same from image to image.
  public let host: String
  /// What tells this image from any other of the host: its boot.
  public let identity: String

  public init(of memory: any PhysicalMemory, _ contents: ImageContents, host: String, identity: String = "") {
    (self.memory, self.contents, self.host) = (memory, contents, host)
    self.identity = "level \(contents.level.rawValue)\(identity.isEmpty ? "" : ", \(identity)")"
  }

  /// What came of it.
  public struct Outcome: Sendable {
    public let image: StoredImage
    /// What could not be read in this run, in ascending order, ``AcquisitionSummary/mostUnread`` ranges at most.
    public let unread: [MemorySegment]
  }

  /// Takes the image, or goes on with one that was begun.
  ///
  /// - Parameters:
  ///   - store: opened for writing.
  ///   - signer: who signs it; nil for nobody.
  ///   - progress: called after each window; it ends where that returns false, and can be gone on with.
  /// - Returns: the image as the store has it.
  /// - Throws: ``StoreError``. Cost: a pass over the memory, or over what changed, and SHA-256 of what was read; some 100 MiB here.
  public func run(
    into store: ImageStore, signer: CertifierIdentity? = nil, progress: (AcquisitionProgress) -> Bool = { _ in true }
  ) throws(StoreError) -> Outcome {
    var plan = ImagePlan(identity: identity, began: UTCTime.text(UTCTime.now), contents: contents)
    let begun = store.begunPaths(host)
    if let bytes = try? StoreFiles.contents(begun.plan, limit: StoredImage.limit), let found = ImagePlan(bytes),
      found.identity == identity
    {
      plan = found
    } else {
      // Of another boot: what it read is in the store, and found there by its names.
      unlink(begun.journal)
      try StoreFiles.replace(begun.plan, plan.bytes)
    }
    let journal = try WindowJournal(
      begun.journal, store.secret, plan: Array(SHA256.hash(data: plan.bytes)), writing: true)
    defer { journal.close() }
    var run = Run(self, plan, journal, store)
    return try run.run(signer, progress)
  }

  /// One run of it.
  private struct Run {
    let recording: ImageRecording
    let plan: ImagePlan
    let journal: WindowJournal
    let store: ImageStore
    let seed: MemoryDigest.Seed
    let compressors: [ObjectCompressor]
    var tree: TreeBuilder
    var counts = StoredImage.Counts()
    var windows: WindowSequence
    /// How many windows are done.
    var place = 0
    /// Bytes of memory in them.
    var done: UInt64 = 0
    let before: UInt64

    init(_ recording: ImageRecording, _ plan: ImagePlan, _ journal: WindowJournal, _ store: ImageStore) {
      (self.recording, self.plan, self.journal, self.store) = (recording, plan, journal, store)
      seed = store.secret.seed(of: recording.host)
      let count = min(8, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
      compressors = (0..<count).map { _ in ObjectCompressor() }
      tree = TreeBuilder(ImageTree.height(end: plan.contents.end), store.objects, compressors[0])
      windows = WindowSequence(plan.contents.runs)
      before = store.objects.appended
    }

    mutating func run(
      _ signer: CertifierIdentity?, _ progress: (AcquisitionProgress) -> Bool
    ) throws(StoreError) -> Outcome {
      try goOn()
      let kept = counts
      counts.resumed = done
      let total = plan.contents.byteCount
      let start = ContinuousClock.now
      var unread = UnreadRanges()
      let reader = WindowReader(recording.memory, windows, base: store.base(of: recording.host))
      while let window = reader.next() {
        counts.read += window.read
        counts.digests += window.digestBytes
        if let fault = window.failure { throw StoreError(store.path, .memory(fault)) }
        for range in window.unread { unread.add(range) }
        counts.unread = kept.unread + unread.count
        try keep(window, since: kept.stored)
        done += window.memory
        let isWanted = progress(
          AcquisitionProgress(of: total, done: done, resumed: counts.resumed, elapsed: .now - start))
        if !isWanted { throw StoreError(store.path, .cancelled) }
      }
      let root = try tree.finish()
      try store.objects.finishPack()
      counts.memory = total
      counts.stored = kept.stored + store.objects.appended - before
      var note = plan.contents.remarks + ["UNREAD_BYTES=\(counts.unread)", plan.contents.registersRemark]
      if counts.resumed > 0 { note.append("RESUMED=\(counts.resumed)") }
      let image = try StoredImage.file(
        plan: plan, host: recording.host, ended: UTCTime.text(UTCTime.now), root: root,
        height: ImageTree.height(end: plan.contents.end), number: (try store.images().images.last?.number ?? 0) &+ 1,
        counts: counts, note: note, signer: signer)
      return Outcome(image: try store.commit(image, host: recording.host), unread: unread.ranges)
    }

    /// Takes over what the journal has, as far as the store has what it names.
    private mutating func goOn() throws(StoreError) {
      while place < journal.count {
        var ahead = windows
        guard let (number, pieces) = ahead.next(), let window = journal.window(place), window.number == number,
          window.leaves.allSatisfy(hasAll)
        else { break }
        for (index, leaf) in window.leaves.enumerated() {
          try tree.add(leaf: leaf, number * UInt64(WindowJournal.leaves) + UInt64(index))
        }
        windows = ahead
        place += 1
        counts = window.counts
        done += pieces.reduce(0) { $0 + $1.count }
      }
      try journal.cut(to: place)
    }

    private func hasAll(_ leaf: ObjectName) -> Bool {
      if leaf.isMark { return true }
      guard let node = try? store.objects.read(leaf, .node(1)) else { return false }
      return ImageTree.names(node).allSatisfy { $0.isMark || store.objects.contains($0) }
    }

    /// Stores what of a window the store does not have, then its line of the journal.
    private mutating func keep(_ contents: WindowContents, since kept: UInt64) throws(StoreError) {
      var (names, digests) = (contents.names, contents.digests)
      for page in hashed(contents) {
        names[page.frame] = page.name
        if contents.isWhole[page.frame] { digests[page.frame] = page.digest }
        if let object = page.object { try store.objects.append(object) }
      }
      var leaves: [ObjectName] = []
      for index in 0..<WindowJournal.leaves {
        let first = index * WindowJournal.framesPerLeaf
        let pages = names[first..<first + WindowJournal.framesPerLeaf].map { $0 ?? .unread }
        let leaf = try TreeBuilder.keep(pages, 1, store.objects, compressors[0])
        try tree.add(leaf: leaf, contents.number * UInt64(WindowJournal.leaves) + UInt64(index))
        leaves.append(leaf)
      }
      // What the journal names is in the system's hands before.
      try store.objects.flush()
      counts.stored = kept + store.objects.appended - before
      try journal.write(
        WindowJournal.Window(number: contents.number, counts: counts, leaves: leaves, digests: digests), at: place)
      place += 1
    }

    private struct Page: Sendable {
      var frame: Int
      var name: ObjectName
      var digest: MemoryDigest
      /// What is to be stored; nil where it is there.
      var object: Pack.Stored?
    }

    /// The pages of a window with their names, by as many threads as there are processors.
    private func hashed(_ contents: WindowContents) -> [Page] {
      let size = ObjectKind.size
      let share = max(64, (contents.frames.count + compressors.count - 1) / compressors.count)
      let results = Locked([Int: [Page]]())
      let (objects, seed) = (store.objects, seed)
      let work: @Sendable (Int, Compressor) -> Void = { first, compressor in
        var pages: [Page] = []
        contents.bytes.withUnsafeBytes { all in
          for slot in first..<min(first + share, contents.frames.count)
          where contents.names[contents.frames[slot]] == nil {
            let bytes = UnsafeRawBufferPointer(rebasing: all[slot * size..<(slot + 1) * size])
            let digest = MemoryDigest(bytes, seed)
            var page = Page(frame: contents.frames[slot], name: .zero, digest: digest)
            if !ZeroPages.isZero(bytes, 0) {
              page.name = ObjectKind.page.name(of: bytes)
              if !objects.contains(page.name) { page.object = compressor.value.object(bytes, .page, page.name) }
            }
            pages.append(page)
          }
        }
        results.withLock { $0[first] = pages }
      }
      let starts = Array(stride(from: 0, to: contents.frames.count, by: share))
      let threads = starts.dropFirst().enumerated().map { index, first in
        let compressor = Compressor(value: compressors[index + 1])
        guard let thread = try? DedicatedThread(name: "grass-hash", { work(first, compressor) }) else {
          work(first, compressor)
          return nil as DedicatedThread?
        }
        return thread
      }
      if let first = starts.first { work(first, Compressor(value: compressors[0])) }
      for thread in threads { thread?.join() }
      return results.withLock { results in starts.flatMap { results[$0] ?? [] } }
    }

    /// Given to one thread at a time.
    private struct Compressor: @unchecked Sendable {
      let value: ObjectCompressor
    }
  }
}

/// Ranges that could not be read, joined where they touch.
private struct UnreadRanges {
  private(set) var ranges: [MemorySegment] = []
  private(set) var count: UInt64 = 0

  mutating func add(_ range: MemorySegment) {
    count += range.count
    if let last = ranges.last, last.start.rawValue + last.count == range.start.rawValue {
      ranges[ranges.count - 1].count += range.count
    } else if ranges.count < AcquisitionSummary.mostUnread {
      ranges.append(range)
    }
  }
}
