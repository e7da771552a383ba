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
///
/// Then, where that is asked for, what was kept is held against the memory by its digests, and what differs is read again, in rounds
/// (`ConsistencyRounds`): the image says which of its pages are of one instant.
public struct ImageRecording: Sendable {
  public let memory: any PhysicalMemory
  public let contents: ImageContents
  /// Which host it is, by a name that stays the same from image to image.
  public let host: String
  /// What tells this image from any other of the host: its boot.
  public let identity: String
  /// How often what was kept is held against the memory, at most; 0 for never.
  public let rounds: Int
  /// Of a memory that is an image itself, what is known of its instant: it is then held against nothing.
  public let consistency: ImageConsistency?

  /// More runs of pages that moved an image does not list: those between count as moved, too.
  private static let mostMoved = 1 << 22

  public init(
    of memory: any PhysicalMemory, _ contents: ImageContents, host: String, rounds: Int = 0,
    consistency: ImageConsistency? = nil, identity: String = ""
  ) {
    (self.memory, self.contents, self.host) = (memory, contents, host)
    (self.rounds, self.consistency) = (consistency == nil ? rounds : 0, consistency)
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
  ///   - progress: called after each window, and after each 64 MiB that were compared; it ends where that returns false, and can be
  ///     gone on with.
  /// - Returns: the image as the store has it.
  /// - Throws: ``StoreError``. Cost: a pass over the memory, or over what changed, and SHA-256 of what was read; some 100 MiB here. For each
  ///   round a pass over the memory by who owns it, and 16 bytes a page on the link.
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
    var counts = StoredImage.Counts()
    /// The windows of the image, and which place each has in the journal.
    let windows: [(number: UInt64, pieces: [MemorySegment])]
    let places: [UInt64: Int]
    let before: UInt64

    init(_ recording: ImageRecording, _ plan: ImagePlan, _ journal: WindowJournal, _ store: ImageStore) {
      (self.recording, self.plan, self.journal, self.store) = (recording, plan, journal, store)
      seed = store.secret.seed(of: recording.host)
      let count = min(8, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
      compressors = (0..<count).map { _ in ObjectCompressor() }
      windows = Array(IteratorSequence(WindowSequence(plan.contents.runs)))
      places = Dictionary(uniqueKeysWithValues: windows.enumerated().map { ($1.number, $0) })
      before = store.objects.appended
    }

    mutating func run(
      _ signer: CertifierIdentity?, _ progress: (AcquisitionProgress) -> Bool
    ) throws(StoreError) -> Outcome {
      let total = plan.contents.byteCount
      let start = ContinuousClock.now
      var unread = UnreadRanges()
      var comparing = try comparing()
      let isKept = windows.indices.map { takeOver($0) }
      let earlier = counts
      let reader = WindowReader(
        recording.memory, zip(windows, isKept).filter { !$0.1 }.map(\.0), base: store.base(of: recording.host))
      var done = counts.resumed
      for place in windows.indices {
        if isKept[place] {
          // It was there a moment ago.
          guard let window = journal.window(place) else {
            throw StoreError(journal.path, .damaged("it was changed meanwhile"))
          }
          try note(window, windows[place].pieces, &comparing)
          continue
        }
        guard let window = reader.next() else { break }
        counts.read += window.read
        counts.digests += window.digestBytes
        if let fault = window.failure { throw StoreError(store.path, .memory(fault)) }
        for range in window.unread { unread.add(range) }
        counts.unread = earlier.unread + unread.count
        try keep(window, since: earlier.stored, &comparing)
        done += Self.size(window.pieces)
        try report(
          .init(.copying, of: total, done: done, resumed: counts.resumed, elapsed: .now - start), to: progress)
      }
      let consistency = try compare(&comparing, since: earlier.stored, progress)?.joined(most: ImageRecording.mostMoved)
      let root = try tree()
      try store.objects.finishPack()
      counts.memory = total
      counts.stored = earlier.stored + store.objects.appended - before
      var note = plan.contents.remarks + ["UNREAD_BYTES=\(counts.unread)", plan.contents.registersRemark]
      if counts.resumed > 0 { note.append("RESUMED=\(counts.resumed)") }
      note += consistency?.note ?? []
      let image = try StoredImage.file(
        plan: plan, host: recording.host, ended: UTCTime.text(UTCTime.now), root: root,
        height: ImageTree.height(end: plan.contents.end), number: (try store.images().images.last?.number ?? 0) &+ 1,
        counts: counts, note: note, consistency: consistency, signer: signer)
      return Outcome(image: try store.commit(image, host: recording.host), unread: unread.ranges)
    }

    private func report(
      _ state: AcquisitionProgress, to progress: (AcquisitionProgress) -> Bool
    ) throws(StoreError) {
      if !progress(state) { throw StoreError(store.path, .cancelled) }
    }

    private static func size(_ pieces: [MemorySegment]) -> UInt64 { pieces.reduce(0) { $0 + $1.count } }

    // MARK: What an earlier run has left

    /// Takes over the window that the journal has at a place, where the store has all that it names.
    ///
    /// - Returns: false for one to be read.
    private mutating func takeOver(_ place: Int) -> Bool {
      guard let window = journal.window(place), window.number == windows[place].number,
        window.leaves.allSatisfy(hasAll)
      else { return false }
      counts.resumed += Self.size(windows[place].pieces)
      // As they were when the last one was written.
      counts.read = max(counts.read, window.counts.read)
      counts.digests = max(counts.digests, window.counts.digests)
      counts.stored = max(counts.stored, window.counts.stored)
      counts.unread = max(counts.unread, window.counts.unread)
      return true
    }

    private func hasAll(_ leaf: ObjectName) -> Bool {
      if leaf.isMark { return true }
      guard let node = try? store.objects.read(leaf, .node(1)) else { return false }
      return ImageTree.names(node).allSatisfy { $0.isMark || store.objects.contains($0) }
    }

    // MARK: Keeping

    /// Stores what of a window the store does not have, then its line of the journal.
    private mutating func keep(
      _ contents: WindowContents, since kept: UInt64, _ comparing: inout ConsistencyRounds?
    ) throws(StoreError) {
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
        leaves.append(try TreeBuilder.keep(pages, 1, store.objects, compressors[0]))
      }
      let window = WindowJournal.Window(number: contents.number, leaves: leaves, digests: digests)
      try write(window, since: kept)
      try note(window, contents.pieces, &comparing)
    }

    /// Writes a window to the journal, and what it names before.
    private mutating func write(_ unwritten: WindowJournal.Window, since kept: UInt64) throws(StoreError) {
      guard let place = places[unwritten.number] else { return }
      // What the journal names is in the system's hands before.
      try store.objects.flush()
      counts.stored = kept + store.objects.appended - before
      var window = unwritten
      window.counts = counts
      try journal.write(window, at: place)
    }

    /// The root of the tree over all windows.
    private func tree() throws(StoreError) -> ObjectName {
      var tree = TreeBuilder(ImageTree.height(end: plan.contents.end), store.objects, compressors[0])
      for (place, window) in windows.enumerated() {
        guard let kept = journal.window(place), kept.number == window.number else {
          throw StoreError(journal.path, .damaged("it was changed meanwhile"))
        }
        for (index, leaf) in kept.leaves.enumerated() {
          try tree.add(leaf: leaf, window.number * UInt64(WindowJournal.leaves) + UInt64(index))
        }
      }
      return try tree.finish()
    }

    // MARK: Holding it against the memory

    private func comparing() throws(StoreError) -> ConsistencyRounds? {
      guard recording.rounds > 0 else { return nil }
      do throws(AcquisitionError) {
        return try ConsistencyRounds(of: recording.memory, framesOf: plan.contents.runs, seed: seed, in: store.path)
      } catch {
        throw StoreError(error, of: store.path)
      }
    }

    /// Notes what is to be held against the memory of a window that was written.
    private func note(
      _ window: WindowJournal.Window, _ pieces: [MemorySegment], _ comparing: inout ConsistencyRounds?
    ) throws(StoreError) {
      let first = window.number * WindowJournal.bytes
      for piece in pieces {
        do throws(AcquisitionError) {
          try comparing?.addNext(piece.count) { part in
            let frame = Int((part.start.rawValue - first) / ImageTree.page)
            if part.count == ImageTree.page {
              let digest = window.digests[frame]
              return digest == MemoryDigest(low: 0, high: 0) ? nil : digest
            }
            // Of parts of frames the journal has none. One that is damaged meanwhile differs, and is read again.
            return (try? bytes(of: window, frame)).map { page in
              let offset = Int(part.start.rawValue % ImageTree.page)
              return page[offset..<offset + Int(part.count)].withUnsafeBytes { MemoryDigest($0, seed) }
            }
          }
        } catch {
          throw StoreError(error, of: store.path)
        }
      }
    }

    private func names(_ leaf: ObjectName) throws(ObjectStore.Fault) -> [ObjectName] {
      leaf.isMark ? ImageTree.uniform(leaf) : ImageTree.names(try store.objects.read(leaf, .node(1)))
    }

    private func page(_ name: ObjectName) throws(ObjectStore.Fault) -> [UInt8] {
      name == .zero ? [UInt8](repeating: 0, count: ObjectKind.size) : try store.objects.read(name, .page)
    }

    /// The bytes of a frame as the store has them.
    private func bytes(of window: WindowJournal.Window, _ frame: Int) throws(ObjectStore.Fault) -> [UInt8] {
      let names = try names(window.leaves[frame / WindowJournal.framesPerLeaf])
      return try page(names[frame % WindowJournal.framesPerLeaf])
    }

    /// Makes the rounds.
    private mutating func compare(
      _ comparing: inout ConsistencyRounds?, since kept: UInt64, _ progress: (AcquisitionProgress) -> Bool
    ) throws(StoreError) -> ImageConsistency? {
      guard var rounds = comparing else { return recording.consistency }
      var (round, start) = (0, ContinuousClock.now)
      var amended: Amended?
      var failure: StoreError?
      let total = plan.contents.byteCount
      defer { if !recording.memory.isNear { counts.digests += rounds.asked * 16 } }
      let found: ImageConsistency
      do throws(AcquisitionError) {
        found = try rounds.run(most: recording.rounds) { number, done, moved throws(AcquisitionError) in
          if number != round { (round, start) = (number, .now) }
          do throws(StoreError) {
            try finish(&amended, since: kept)
          } catch {
            failure = error
            throw AcquisitionError(store.path, .cancelled)
          }
          let state = AcquisitionProgress(
            .comparing(round: number, moved: moved), of: total, done: done, resumed: 0, elapsed: .now - start)
          if !progress(state) { throw AcquisitionError(store.path, .cancelled) }
        } rewrite: { bytes, _, address throws(AcquisitionError) in
          do throws(StoreError) {
            try rewrite(bytes, address, &amended, since: kept)
          } catch {
            failure = error
            throw AcquisitionError(store.path, .cancelled)
          }
        }
      } catch {
        throw failure ?? StoreError(error, of: store.path)
      }
      return found
    }

    /// A window some of whose pages are read again.
    private struct Amended {
      var window: WindowJournal.Window
      /// By numbers of its leaves, the names in these.
      var names: [Int: [ObjectName]] = [:]
    }

    /// Keeps a page, or a part of one, that was read again: pages come in ascending order in each round.
    private mutating func rewrite(
      _ bytes: UnsafeRawBufferPointer, _ address: PhysicalAddress, _ amended: inout Amended?, since kept: UInt64
    ) throws(StoreError) {
      counts.read += UInt64(bytes.count)
      let number = address.rawValue / WindowJournal.bytes
      if amended?.window.number != number { try finish(&amended, since: kept) }
      guard let window = amended?.window ?? places[number].flatMap({ journal.window($0) }) else {
        throw StoreError(journal.path, .damaged("it was changed meanwhile"))
      }
      var own = amended ?? Amended(window: window)
      let frame = Int(address.rawValue % WindowJournal.bytes / ImageTree.page)
      let (leaf, index) = (frame / WindowJournal.framesPerLeaf, frame % WindowJournal.framesPerLeaf)
      var (names, whole): ([ObjectName], [UInt8])
      do throws(ObjectStore.Fault) {
        if let known = own.names[leaf] { names = known } else { names = try self.names(window.leaves[leaf]) }
        // What could not be read is named as that, and stays so.
        guard names[index] != .unread else { return }
        whole = bytes.count < ObjectKind.size ? try page(names[index]) : []
      } catch {
        throw StoreError(store.path, .damaged("\(error)"))
      }
      if bytes.count < ObjectKind.size {
        let offset = Int(address.rawValue % ImageTree.page)
        whole.replaceSubrange(offset..<offset + bytes.count, with: bytes)
      } else {
        whole = Array(bytes)
        own.window.digests[frame] = MemoryDigest(bytes, seed)
      }
      let (name, object) = whole.withUnsafeBytes { page -> (ObjectName, Pack.Stored?) in
        if ZeroPages.isZero(page, 0) { return (.zero, nil) }
        let name = ObjectKind.page.name(of: page)
        return (name, store.objects.contains(name) ? nil : compressors[0].object(page, .page, name))
      }
      if let object { try store.objects.append(object) }
      names[index] = name
      own.names[leaf] = names
      amended = own
    }

    /// Writes a window whose pages were read again.
    private mutating func finish(_ amended: inout Amended?, since kept: UInt64) throws(StoreError) {
      guard let last = amended else { return }
      amended = nil
      var window = last.window
      for (leaf, names) in last.names {
        window.leaves[leaf] = try TreeBuilder.keep(names, 1, store.objects, compressors[0])
      }
      try write(window, since: kept)
    }

    // MARK: Names of pages

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

extension StoreError {
  /// Why what is in a store could not be held against the memory.
  fileprivate init(_ error: AcquisitionError, of path: String) {
    switch error.reason {
    case .system(let call, let code): self = .system(error.subject, call, code)
    case .memory(let fault): self.init(path, .memory(fault))
    default: self.init(path, .cancelled)
    }
  }
}
