import Foundation
import Host
import Memory
import Scratch
import Synchronization
import Testing

@testable import Acquisition

/// Images of a memory that changes while they are taken.
struct ConsistencyTests {
  private static let page = AcquisitionTests.page

  /// Memory in which somebody writes, between what is read of it.
  private final class MovingMemory: PhysicalMemory {
    private struct State {
      var memory = SyntheticMemory()
      var bytesRead = 0
      var digestsAsked = 0
    }
    private let state = Mutex(State())
    /// Called before the n-th question for digests is answered, from 0 on.
    private let change: @Sendable (Int, inout SyntheticMemory) -> Void
    let segments: [MemorySegment]

    init(pages: Int, change: @escaping @Sendable (Int, inout SyntheticMemory) -> Void = { _, _ in }) {
      self.change = change
      segments = state.withLock { state in
        state.memory.add(AcquisitionTests.bytes(pages * page, seed: 7), at: PhysicalAddress(0x10_0000))
        state.memory.add(AcquisitionTests.bytes(3 * page + 100, seed: 9), at: PhysicalAddress(0x1000_0000))
        return state.memory.segments
      }
    }

    var bytesRead: Int { state.withLock { $0.bytesRead } }
    var now: SyntheticMemory { state.withLock { $0.memory } }
    func write(_ bytes: [UInt8], at address: PhysicalAddress) { state.withLock { $0.memory.write(bytes, at: address) } }

    func read(_ batch: inout ReadBatch<PhysicalAddress>) {
      state.withLock { state in
        state.bytesRead += batch.entries.reduce(0) { $0 + $1.count }
        state.memory.read(&batch)
      }
    }

    func digests(
      ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed
    ) throws(MemoryFault) -> [[MemoryDigest?]] {
      let memory = state.withLock { state in
        change(state.digestsAsked, &state.memory)
        state.digestsAsked += 1
        return state.memory
      }
      return try memory.digests(ofPagesIn: ranges, seed)
    }
  }

  private static func address(ofPage number: Int) -> PhysicalAddress { PhysicalAddress(0x10_0000) + number * page }

  private static func acquire(
    _ memory: MovingMemory, _ format: ImageFormat, to destination: Acquisition.Destination, rounds: Int = 8,
    progress: (AcquisitionProgress) -> Bool = { _ in true }
  ) throws -> AcquisitionSummary {
    try Acquisition(of: memory, AcquisitionTests.contents(memory), as: format, rounds: rounds)
      .run(to: destination, progress: progress)
  }

  /// Whole pages of the image are those of the memory; formats of whole pages have no others.
  private static func expectSame(_ path: String, _ memory: SyntheticMemory) throws {
    let image = try #require(try MemoryImage.openReadable(path).last)
    for segment in memory.segments {
      let count = Int(segment.count) / page * page
      let (own, other) = (try memory.read(segment.start, count: count), try image.read(segment.start, count: count))
      let differing = (0..<count / page).filter {
        own[$0 * page..<($0 + 1) * page] != other[$0 * page..<($0 + 1) * page]
      }
      #expect(differing.isEmpty, "pages of the segment at \(segment.start)")
    }
  }

  @Test(arguments: ImageFormat.allCases) func memoryThatStandsStillIsOfOneInstant(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let memory = MovingMemory(pages: 700)
    let before = ConsistencyRounds.now()
    let summary = try Self.acquire(memory, format, to: .file(scratch.file("image")))
    let found = try #require(summary.consistency)
    #expect(found.rounds == 1 && found.movedCount == 0 && found.instant >= before)
    #expect(found.settled == (format == .kdump ? 703 : 704))
    #expect(summary.note.contains("PAGES_MOVED=0") && summary.note.contains("PAGES_OF_THE_INSTANT=\(found.settled)"))
    try Self.expectSame(scratch.file("image"), memory.now)
    #expect(try scratch.names() == ["image"], "nothing is left beside it")
    let image = try #require(try MemoryImage.openReadable(scratch.file("image")).last)
    #expect(image.movedFrames?.count ?? 0 == 0)
  }

  /// Pages that changed after they were copied are copied again, in whatever form they lie in the image.
  @Test(arguments: ImageFormat.allCases) func whatChangedOnceIsCopiedAgain(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let zeros = [UInt8](repeating: 0, count: Self.page)
    func memory() -> MovingMemory {
      MovingMemory(pages: 700) { asked, memory in
        guard asked == 0 else { return }
        for page in [0, 5, 6, 699] {
          memory.write(AcquisitionTests.bytes(8, seed: 3), at: Self.address(ofPage: page) + 16)
        }
        // To zeros, which must not be passed over.
        memory.write(zeros, at: Self.address(ofPage: 300))
      }
    }
    let own = memory()
    let summary = try Self.acquire(own, format, to: .file(scratch.file("image")))
    #expect(summary.consistency?.rounds == 2 && summary.consistency?.movedCount == 0)
    try Self.expectSame(scratch.file("image"), own.now)
    // A pipe cannot go back, but for makedumpfile's flattened form.
    let piped = memory()
    try scratch.write([], to: "stream")
    let descriptor = open(scratch.file("stream"), O_WRONLY)
    defer { close(descriptor) }
    let second = try Self.acquire(piped, format, to: .descriptor(descriptor))
    #expect(second.consistency?.movedCount == (format == .kdump ? 0 : 5))
    if format == .kdump {
      // As it came, and as makedumpfile would have it.
      try Self.expectSame(scratch.file("stream"), piped.now)
      try scratch.write(KdumpImage.unflattened(try scratch.read("stream")), to: "unflattened")
      try Self.expectSame(scratch.file("unflattened"), piped.now)
    }
  }

  /// What never stands still is named, and whoever looks at it hears of that.
  @Test(arguments: ImageFormat.allCases) func whatGoesOnChangingIsListed(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let memory = MovingMemory(pages: 700) { asked, memory in
      for page in [9, 10, 400] {
        memory.write(AcquisitionTests.bytes(8, seed: UInt64(asked + page)), at: Self.address(ofPage: page))
      }
    }
    let path = scratch.file("image")
    let before = ConsistencyRounds.now()
    let summary = try Self.acquire(memory, format, to: .file(path))
    #expect(summary.consistency?.rounds == 2 && summary.consistency?.movedCount == 3)
    // As the command does it for formats that have no place for it.
    if !format.holdsNote { try scratch.write(summary.moved, to: "image.moved") }
    let image = try #require(try MemoryImage.openReadable(path).last)
    let moved = try #require(image.movedFrames)
    #expect(moved.runs.map(\.frames) == [0x109..<0x10b, 0x290..<0x291])
    for run in moved.runs {
      #expect(before <= run.copied && run.copied <= run.changed && run.changed <= ConsistencyRounds.now())
    }
    _ = try image.read(Self.address(ofPage: 11), count: 100)
    #expect(moved.readFrames == [])
    _ = try image.read(Self.address(ofPage: 8) + 4000, count: 97)
    #expect(moved.readFrames == [0x109])
    _ = try image.read(Self.address(ofPage: 10), count: 8)
    _ = try image.read(Self.address(ofPage: 399), count: 3 * 4096)
    #expect(moved.readFrames == [0x109, 0x10a, 0x290])
  }

  /// Ended while pages were copied again: what was copied is not copied once more.
  @Test(arguments: ImageFormat.allCases) func goesOnAmidTheRounds(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let memory = MovingMemory(pages: 700) { asked, memory in
      guard asked == 0 else { return }
      for page in 20..<30 { memory.write(AcquisitionTests.bytes(8, seed: 3), at: Self.address(ofPage: page)) }
    }
    let path = scratch.file("image")
    #expect(throws: AcquisitionError.self) {
      try Self.acquire(memory, format, to: .file(path)) { progress in
        if case .comparing(round: 2, _) = progress.stage { false } else { true }
      }
    }
    let copied = memory.bytesRead
    // Meanwhile the host went on.
    memory.write(AcquisitionTests.bytes(16, seed: 4), at: Self.address(ofPage: 600))
    let summary = try Self.acquire(memory, format, to: .file(path))
    #expect(memory.bytesRead - copied == Self.page, "only what changed")
    #expect(summary.consistency?.movedCount == 0 && summary.resumed == summary.byteCount)
    try Self.expectSame(path, memory.now)
    #expect(try scratch.names() == ["image"])
  }

  /// Records that others made.
  @Test func recordsOfMovedFramesAreReadWithCare() throws {
    let runs = [MovedFrames.Run(1..<4, copied: 10, changed: 20), .init(9..<10, copied: 5, changed: 6)]
    let record = MovedFrames(runs).record
    #expect(MovedFrames(record: record)?.runs == runs)
    for count in 0..<record.count { #expect(MovedFrames(record: Array(record[..<count])) == nil) }
    #expect(MovedFrames(record: record + [0]) == nil)
    #expect(MovedFrames(record: MovedFrames(runs.reversed()).record) == nil)
    let far = MovedFrames([.init(.max - 1 ..< .max, copied: 0, changed: 0)])
    #expect(MovedFrames(record: far.record) == nil)
  }

  /// Somebody counts, and writes the count into one page after the other: at any instant, the counts of all pages are less than a
  /// round of them apart.
  @Test func pagesOfTheInstantContradictNobody() throws {
    let pages = 4096
    func image(rounds: Int) throws -> (values: [UInt64], moved: Set<UInt64>) {
      let scratch = try Scratch()
      let memory = MovingMemory(pages: pages)
      let isDone = Locked(false)
      let counted = Locked(UInt64(pages))
      @Sendable func stamp(_ count: UInt64) {
        memory.write(withUnsafeBytes(of: count) { Array($0) }, at: Self.address(ofPage: Int(count) % pages))
      }
      for count in 0..<UInt64(pages) { stamp(count) }
      let writer = try DedicatedThread(name: "stamps") {
        var count = UInt64(pages)
        while !isDone.withLock({ $0 }) {
          for _ in 0..<64 {
            stamp(count)
            count += 1
          }
          counted.withLock { $0 = count }
          // A round takes more than a second, and a comparison less.
          usleep(20_000)
        }
      }
      // Slowly, as over a link: more than a round is counted meanwhile.
      var isWaitedFor = false
      let summary = try Self.acquire(memory, .raw, to: .file(scratch.file("image")), rounds: rounds) { progress in
        let end = counted.withLock { $0 } + UInt64(pages) + 1000
        while progress.stage == .copying, !isWaitedFor, counted.withLock({ $0 }) < end { usleep(10_000) }
        isWaitedFor = true
        return true
      }
      isDone.withLock { $0 = true }
      writer.join()
      let image = try #require(try MemoryImage.open(scratch.file("image")).last)
      let values = try (0..<pages).map { page in
        try image.read(Self.address(ofPage: page), count: 8).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
      }
      let moved = MovedFrames(record: summary.moved)?.runs.flatMap { Array($0.frames) } ?? []
      return (values, Set(moved.map { $0 - 0x100 }))
    }
    let (values, moved) = try image(rounds: 8)
    let settled = values.indices.filter { !moved.contains(UInt64($0)) }.map { values[$0] }
    #expect(settled.count > pages / 10)
    #expect((settled.max() ?? 0) - (settled.min() ?? 0) < UInt64(pages))
    // A mere copy contradicts itself.
    let naive = try image(rounds: 0).values
    #expect((naive.max() ?? 0) - (naive.min() ?? 0) >= UInt64(pages))
  }
}
