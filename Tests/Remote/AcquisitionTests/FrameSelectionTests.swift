import Memory
import Scratch
import Testing

@testable import Acquisition

/// What levels leave of a memory, by classes that are given.
struct FrameSelectionTests {
  private static func segment(_ first: UInt64, _ count: UInt64) -> MemorySegment {
    MemorySegment(start: PhysicalAddress(first << 12), count: count << 12)
  }

  /// Sixteen frames from 0x10 on, one of each class and then some of none.
  private static var map: FrameMap {
    var map = FrameMap(of: [segment(0x10, 16)])
    for kind in FrameClass.allCases {
      let frame = 0x10 + UInt64(kind.rawValue)
      map.set(frame..<frame + 1, kind)
    }
    return map
  }

  @Test(
    arguments: [
      (0, [.poisoned]),
      (1, [.poisoned]),
      (2, [.cache, .offline, .poisoned]),
      (4, [.cache, .privateCache, .offline, .poisoned]),
      (8, [.user, .offline, .poisoned]),
      (16, [.free, .offline, .poisoned]),
      (31, [.free, .cache, .privateCache, .user, .offline, .poisoned]),
    ] as [(Int, Set<FrameClass>)])
  func levelsAreMakedumpfiles(_ level: Int, _ expected: Set<FrameClass>) {
    let selection = FrameSelection(of: [Self.segment(0x10, 16)], Self.map, DumpLevel(rawValue: level))
    #expect(Set(selection.leftOut.keys) == expected)
    var kept: Set<UInt64> = []
    for run in selection.runs { kept.formUnion(run.start.rawValue >> 12..<(run.start.rawValue + run.count) >> 12) }
    #expect(kept == Set((0x10..<0x20).filter { !expected.contains(Self.map[$0]) }))
  }

  @Test func partsOfFramesStay() {
    // Half a page at either end, a free frame between.
    let odd = MemorySegment(start: PhysicalAddress(0x1800), count: 0x2000)
    var map = FrameMap(of: [odd])
    map.set(0..<100, .free)
    let selection = FrameSelection(of: [odd], map, .all)
    #expect(
      selection.runs == [
        MemorySegment(start: PhysicalAddress(0x1800), count: 0x800),
        MemorySegment(start: PhysicalAddress(0x3000), count: 0x800),
      ])
  }

  @Test func runsAreJoinedOverTheShortestGapsAndNeverOverWhatIsForbidden() {
    let runs = [(0, 1), (2, 1), (10, 1), (12, 1), (13 + 50, 1)].map { Self.segment($0, $1) }
    let whole = [Self.segment(0, 20), Self.segment(60, 10)]
    func joined(_ most: Int, _ forbidden: [MemorySegment] = []) -> [MemorySegment] {
      FrameSelection.join(runs, most: most, forbidden: forbidden, segments: whole)
    }
    #expect(joined(5) == runs)
    #expect(joined(3) == [Self.segment(0, 3), Self.segment(10, 3), Self.segment(63, 1)])
    #expect(joined(3, [Self.segment(1, 1)]).first == Self.segment(0, 1))
    // Between segments there is nothing to join with.
    #expect(joined(1) == [Self.segment(0, 13), Self.segment(63, 1)])
  }

  @Test func subtractingLeavesWhatIsInNoGap() {
    let runs = [Self.segment(0, 4), Self.segment(8, 4)]
    let gaps = [Self.segment(0, 1), Self.segment(2, 1), Self.segment(3, 6), Self.segment(11, 9)]
    #expect(FrameSelection.subtract(gaps, from: runs) == [Self.segment(1, 1), Self.segment(9, 2)])
    #expect(FrameSelection.subtract([], from: runs) == runs)
    #expect(FrameSelection.subtract([Self.segment(0, 100)], from: runs) == [])
  }

  @Test func brokenPagesAreNeverRead() throws {
    let scratch = try Scratch()
    /// A memory that must not be read at one frame.
    struct Broken: PhysicalMemory {
      let segments = [MemorySegment(start: PhysicalAddress(0x1_0000), count: 0x1_0000)]
      func read(_ batch: inout ReadBatch<PhysicalAddress>) {
        for entry in batch.entries {
          let end = entry.address.rawValue + UInt64(entry.count)
          #expect(entry.address.rawValue >= 0x1_a000 || end <= 0x1_9000, "the broken page was read")
        }
        batch.fill { _, target in target.initializeMemory(as: UInt8.self, repeating: 0) }
      }
    }
    let memory = Broken()
    let contents = ImageContents(of: memory.segments, Self.map, [])
    _ = try Acquisition(of: memory, contents, as: .elf).run(to: .file(scratch.file("core")))
    let image = try #require(try MemoryImage.open(scratch.file("core")).first)
    #expect(image.segments == [Self.segment(0x10, 9), Self.segment(0x1a, 6)])
    #expect(contents.remarks == ["LEVEL=0", "LEFT_OUT(poisoned)=1"])
  }

  @Test func classesAreWrittenAsRuns() {
    let bytes = FrameMapRecord.bytes(of: Self.map)
    // Magic, version 1, one part; its first frame and how many; then ten runs of one, the rest is of no class.
    #expect(bytes.prefix(8).elementsEqual(Array("GRASSFRM".utf8)))
    let head: [UInt8] = [1, 0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0]
    #expect(Array(bytes[8..<32]) == head)
    let runs: [UInt8] = [0, 1, 1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 6, 1, 7, 1, 8, 1, 9, 1, 0, 6]
    #expect(Array(bytes[32...]) == runs)
    // A run's length takes seven bits a byte.
    let long = FrameMapRecord.bytes(of: FrameMap(of: [Self.segment(0, 300)]))
    #expect(Array(long[32...]) == [0, 0xac, 0x02])
  }
}
