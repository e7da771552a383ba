import Acquisition
import Crypto
import Foundation
import Host
import Memory
import Scratch
import Testing

@testable import ImageStore

/// Images in a store of a memory that changes while they are taken: what of them is of one instant, and who says so.
struct StoredConsistencyTests {
  private static let pages = ImageStoreTests.pages

  private static func now() -> UInt64 { UInt64(Date.now.timeIntervalSince1970 * 1000) }

  /// Writes where it stands: a byte of that page is another then.
  private static func touch(_ page: Int, _ bytes: inout [UInt8]) { bytes[page * FarHost.page + 100] &+= 1 }

  @Test func memoryThatStandsStillIsOfOneInstant() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(Self.pages, seed: 1))
    host.state.withLock { $0.bad = [77] }
    let before = Self.now()
    let image = try ImageStoreTests.record(host, into: path).image
    let found = try #require(image.consistency)
    #expect(found.isWhole && found.rounds == 1 && found.moved.isEmpty)
    #expect(found.settled == UInt64(Self.pages) - 1, "all but what could not be read")
    #expect(before <= found.instant && found.instant <= Self.now())
    #expect(image.note.contains("PAGES_MOVED=0") && image.note.contains("INSTANT=\(found.time)"))
    #expect(image.counts.digests == UInt64(Self.pages * 16), "they travelled, and are counted")
    // Whoever opens it finds the same.
    let stored = try ImageStore(path)
    #expect(try stored.image("newest").consistency == found)
    #expect(stored.memory(of: image).movedFrames?.count == 0)
    // Nobody looked: nothing is said.
    let naive = try ImageStoreTests.record(host, into: scratch.file("naive"), rounds: 0).image
    #expect(naive.consistency == nil && naive.counts.digests == 0)
    #expect(try ImageStore(scratch.file("naive")).memory(of: naive).movedFrames == nil)
    #expect(naive.root == image.root)
  }

  /// What changed once is read again, what goes on changing is listed; and the next image is told from what was kept at last.
  @Test func whatMovesIsReadAgainOrListed() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(Self.pages, seed: 2))
    host.state.withLock { state in
      state.beforeDigests = { asked, bytes in
        for page in [9, 10, 5000] { Self.touch(page, &bytes) }
        guard asked == 0 else { return }
        for page in [20, 21, 4095, 4096, 12287] { Self.touch(page, &bytes) }
        // To zeros, and from zeros: each eighth page is some.
        for index in 300 * 4096..<301 * 4096 { bytes[index] = 0 }
        Self.touch(7, &bytes)
      }
    }
    let before = Self.now()
    let image = try ImageStoreTests.record(host, into: path).image
    let found = try #require(image.consistency)
    #expect(!found.isWhole && found.rounds == 2 && found.movedCount == 3)
    #expect(found.moved.map(\.frames) == [9..<11, 5000..<5001])
    #expect(found.moved.allSatisfy { before <= $0.copied && $0.copied <= $0.changed && $0.changed <= Self.now() })
    #expect(found.settled == UInt64(Self.pages) - 3)
    #expect(image.counts.read == UInt64(host.bytes.count) + 10 * 4096, "what was read again is counted")
    let store = try ImageStore(path)
    #expect(try store.verify { Issue.record("\($0)") }.problems == 0)
    let memory = store.memory(of: image)
    let (kept, own) = (try memory.read(PhysicalAddress(0), count: host.bytes.count), host.bytes)
    let differing = (0..<Self.pages).filter { kept[$0 * 4096..<($0 + 1) * 4096] != own[$0 * 4096..<($0 + 1) * 4096] }
    #expect(differing == [9, 10, 5000])
    // Who looks at one of them hears of that.
    let moved = try #require(memory.movedFrames)
    #expect(moved.readFrames.isEmpty, "who reads all follows nothing")
    _ = try memory.read(PhysicalAddress(8 * 4096), count: 4096)
    #expect(moved.readFrames.isEmpty)
    _ = try memory.read(PhysicalAddress(8 * 4096 + 4000), count: 97)
    #expect(moved.readFrames == [9])
    // The same memory has the same root, also where its pages came in rounds.
    host.state.withLock { $0.beforeDigests = nil }
    let read = host.state.withLock { $0.read }
    let next = try ImageStoreTests.record(host, into: path).image
    #expect(host.state.withLock { $0.read } - read == 3 * 4096, "only what was not kept as it is")
    #expect(next.consistency?.isWhole == true)
    let other = try ImageStoreTests.record(FarHost(host.bytes, isNear: true), into: scratch.file("other")).image
    #expect(other.root == next.root && other.counts.digests == 0)
  }

  @Test(arguments: ImageFormat.allCases) func whatIsExtractedSaysTheSame(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(2048, seed: 3))
    host.state.withLock { $0.beforeDigests = { _, bytes in for page in [5, 6, 900] { Self.touch(page, &bytes) } } }
    let image = try ImageStoreTests.record(host, into: path).image
    let memory = try ImageStore(path).memory(of: image)
    let summary = try Acquisition(
      of: memory, image.contents, as: format, rounds: 8, consistency: image.consistency
    ).run(to: .file(scratch.file("image")))
    #expect(summary.consistency == image.consistency)
    #expect(summary.note.contains("INSTANT=\(try #require(image.consistency).time)"))
    #expect(summary.note.contains("PAGES_MOVED=3"))
    // As the command does it for formats that have no place for it.
    if !format.holdsNote { try scratch.write(summary.moved, to: "image.moved") }
    let opened = try #require(try MemoryImage.openReadable(scratch.file("image")).last)
    #expect(opened.movedFrames?.runs == image.consistency?.moved)
    // Into another store, too: it is not held against itself, of which all would be of the instant.
    let again = try ImageRecording(
      of: memory, image.contents, host: "x", rounds: 8, consistency: image.consistency
    ).run(into: ImageStore.writing(scratch.file("other"), orNew: true)).image
    #expect(again.consistency == image.consistency && again.root == image.root)
  }

  /// Memory that begins and ends within pages: parts of a page are compared, and change, each by itself.
  @Test func partsOfPagesAreHeldAgainstTheMemory() throws {
    let scratch = try Scratch()
    let host = FarHost(Random.pages(2048, seed: 4), [(0x1010, 0x2fe0), (0x300800, 0x1802), (0x302010, 0x7f0)])
    let before = host.bytes
    host.state.withLock { state in
      state.beforeDigests = { asked, bytes in
        if asked == 0 { for place in [0x1020, 0x3ff0 - 1, 0x302001, 0x3027ff] { bytes[place] &+= 1 } }
        bytes[0x300900] &+= 1
      }
    }
    let image = try ImageStoreTests.record(host, into: scratch.file("store")).image
    let found = try #require(image.consistency)
    #expect(found.moved.map(\.frames) == [0x300..<0x301] && found.movedCount == 1)
    // Two parts and a page; a page and a part, without what moved; another part of the same page.
    #expect(found.settled == 3 + 2 + 1)
    let memory = try ImageStore(scratch.file("store")).memory(of: image)
    var expected = host.bytes
    expected[0x300900] = try memory.read(PhysicalAddress(0x300900), count: 1)[0]
    #expect(expected[0x300900] != before[0x300900])
    for segment in host.segments {
      let start = Int(segment.start.rawValue)
      #expect(
        try memory.read(segment.start, count: Int(segment.count)) == Array(expected[start..<start + Int(segment.count)])
      )
    }
  }

  @Test func goesOnAmidTheRounds() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(Self.pages, seed: 5))
    host.state.withLock { state in
      state.beforeDigests = { asked, bytes in
        if asked == 0 { for page in 8000..<8010 { Self.touch(page, &bytes) } }
      }
    }
    #expect(throws: StoreError.self) {
      try ImageStoreTests.record(host, into: path) { progress in
        if case .comparing(round: 2, _) = progress.stage { false } else { true }
      }
    }
    // Meanwhile the host went on.
    host.state.withLock { Self.touch(600, &$0.bytes) }
    let read = host.state.withLock { $0.read }
    let image = try ImageStoreTests.record(host, into: path).image
    #expect(host.state.withLock { $0.read } - read == 4096, "only what changed")
    #expect(image.consistency?.isWhole == true && image.counts.resumed == UInt64(host.bytes.count))
    #expect(try ImageStore(path).memory(of: image).read(PhysicalAddress(0), count: host.bytes.count) == host.bytes)
  }

  /// A window of the journal that was cut while it was written anew: it is read again, and no other.
  @Test func tornWindowIsReadAgainAndNoOther() throws {
    let scratch = try Scratch()
    let path = scratch.file("store")
    let host = FarHost(Random.pages(Self.pages, seed: 6))
    #expect(throws: StoreError.self) {
      try ImageStoreTests.record(host, into: path) { $0.stage == .copying }
    }
    let journal = try #require(
      try FileManager.default.contentsOfDirectory(atPath: path + "/begun").first { $0.hasSuffix(".journal") })
    var bytes = try scratch.read("store/begun/\(journal)")
    #expect(bytes.count == 3 * WindowJournal.windowSize)
    bytes[WindowJournal.windowSize + 5000] ^= 1
    try scratch.write(bytes, to: "store/begun/\(journal)")
    let read = host.state.withLock { $0.read }
    let image = try ImageStoreTests.record(host, into: path).image
    #expect(host.state.withLock { $0.read } - read == 16 << 20)
    #expect(image.counts.resumed == 32 << 20 && image.consistency?.isWhole == true)
    #expect(try ImageStore(path).verify { Issue.record("\($0)") }.problems == 0)
    #expect(try ImageStore(path).memory(of: image).read(PhysicalAddress(0), count: host.bytes.count) == host.bytes)
  }

  /// Records of before there were marks end without any; others are read with care.
  @Test func recordsOfOthersAreReadWithCare() throws {
    let scratch = try Scratch()
    let host = FarHost(Random.pages(64, seed: 7))
    host.state.withLock { $0.beforeDigests = { _, bytes in Self.touch(3, &bytes) } }
    let image = try ImageStoreTests.record(host, into: scratch.file("store")).image
    let file = try scratch.read("store/images/\(image.id)")
    let size = file.withUnsafeBytes { Int($0.loadUnaligned(as: UInt64.self)) }
    let record = Array(file[8..<8 + size])
    // The marks: six numbers, among them that there are marks and how long the list is, and a list with one run.
    let marks = 6 * 8 + 16 + 32
    func parsed(_ record: [UInt8]) throws -> StoredImage {
      let length = withUnsafeBytes(of: UInt64(record.count).littleEndian) { Array($0) }
      let id = SHA256.hash(data: record).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
      return try StoredImage(length + record + Array(file[(8 + size)...]), named: id, path: "x")
    }
    #expect(try parsed(record).consistency == image.consistency)
    let old = try parsed(Array(record.dropLast(marks)))
    #expect(old.consistency == nil && old.root == image.root && old.note == image.note)
    for count in 1..<marks { #expect(throws: StoreError.self) { try parsed(Array(record.dropLast(count))) } }
    var many = record
    // The number of runs in the list.
    many[many.count - 32 - 4] = 2
    #expect(throws: StoreError.self) { try parsed(many) }
  }

  @Test func runsOfMovedPagesAreJoinedWhereThereAreTooMany() {
    func run(_ frames: Range<UInt64>, _ copied: UInt64, _ changed: UInt64) -> MovedFrames.Run {
      MovedFrames.Run(frames, copied: copied, changed: changed)
    }
    let found = ImageConsistency(
      rounds: 2, instant: 5, settled: 100, movedCount: 5,
      moved: [run(1..<2, 1, 7), run(2..<3, 2, 6), run(5..<6, 3, 8), run(40..<42, 4, 9)])
    #expect(found.joined(most: 4) == found)
    let three = found.joined(most: 3)
    #expect(three.moved == [run(1..<3, 1, 7), run(5..<6, 3, 8), run(40..<42, 4, 9)])
    #expect(three.movedCount == 5 && three.settled == 100)
    let two = found.joined(most: 2)
    #expect(two.moved == [run(1..<6, 1, 8), run(40..<42, 4, 9)] && two.movedCount == 7 && two.settled == 98)
    #expect(found.joined(most: 0).moved == [run(1..<42, 1, 9)])
  }
}
