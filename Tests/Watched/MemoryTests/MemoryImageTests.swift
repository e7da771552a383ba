import Glibc
import Samples
import Testing

@testable import Memory

struct MemoryImageTests {
  static func open(_ bytes: [UInt8]) throws -> [FileMemory] {
    let file = try TemporaryFile(bytes)
    return try withExtendedLifetime(file) { try MemoryImage.open(file.path) }
  }

  /// How opening `bytes` fails.
  static func failure(_ bytes: [UInt8]) throws -> String {
    let file = try TemporaryFile(bytes)
    do throws(MemoryImageError) {
      _ = try MemoryImage.open(file.path)
      return "opened"
    } catch {
      #expect(error.path == file.path)
      return error.description.replacing(file.path, with: "FILE")
    }
  }

  // MARK: Raw

  @Test func opensRawMemory() throws {
    let images = try Self.open([UInt8](repeating: 7, count: 8192))
    #expect(images.map(\.format) == ["raw memory, in one piece"])
    #expect(images[0].segments == [MemorySegment(start: PhysicalAddress(0), count: 8192)])
    #expect(try images[0].read(PhysicalAddress(8190), count: 2) == [7, 7])
    #expect(throws: MemoryFault.self) { try images[0].read(PhysicalAddress(8191), count: 2) }
  }

  /// QEMU's thresholds to the byte: q35 splits from 2.75 GiB on, pc from 3.5 GiB on.
  @Test(
    arguments: [
      (0xafff_ffff as UInt64, [[0]]), (0xb000_0000, [[0x8000_0000], [0]]), (0xdfff_ffff, [[0x8000_0000], [0]]),
      (0xe000_0000, [[0x8000_0000], [0xc000_0000], [0]]), (1 << 40, [[0x8000_0000], [0xc000_0000], [0]]),
    ] as [(UInt64, [[UInt64]])])
  func splitsLargeRawMemory(size: UInt64, lowers: [[UInt64]]) {
    let layouts = RawLayout.candidates(size: size)
    let expected = lowers.map { lower -> [FileMemory.Extent] in
      guard lower[0] > 0 else {
        return [.init(segment: MemorySegment(start: PhysicalAddress(0), count: size), fileOffset: 0)]
      }
      return [
        .init(segment: MemorySegment(start: PhysicalAddress(0), count: lower[0]), fileOffset: 0),
        .init(
          segment: MemorySegment(start: PhysicalAddress(1 << 32), count: size - lower[0]), fileOffset: Int(lower[0])),
      ]
    }
    #expect(layouts.map(\.extents) == expected)
  }

  @Test func readsOnBothSidesOfTheHole() throws {
    let file = try TemporaryFile([])
    try file.setLength(0xb000_0000)
    try file.write([1, 2, 3, 4], at: 0x7fff_fffe)
    let images = try MemoryImage.open(file.path)
    #expect(images.map(\.format) == ["raw memory, split at 2 GiB as QEMU's q35", "raw memory, in one piece"])
    let split = images[0]
    #expect(try split.read(PhysicalAddress(0x7fff_fffe), count: 2) == [1, 2])
    #expect(try split.read(PhysicalAddress(0x1_0000_0000), count: 2) == [3, 4])
    #expect(try split.read(PhysicalAddress(0x1_2fff_ffff), count: 1) == [0])
    for address: UInt64 in [0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_2fff_ffff, .max] {
      #expect(throws: MemoryFault.self) { try split.read(PhysicalAddress(address), count: 2) }
    }
    #expect(try images[1].read(PhysicalAddress(0x7fff_fffe), count: 4) == [1, 2, 3, 4])
    // Advice about any range is harmless.
    for segment in [split.segments[1], MemorySegment(start: PhysicalAddress(1), count: 5)] {
      split.prepareCache(of: segment)
      split.releaseCache(of: segment)
    }
    #expect(try split.read(PhysicalAddress(0x7fff_fffe), count: 2) == [1, 2])
  }

  // MARK: Holes

  /// 64 MiB of which three pieces exist; what is written later is seen when asked anew.
  @Test func passesOverHoles() throws {
    let file = try TemporaryFile([])
    try file.setLength(64 << 20)
    let page = [UInt8](repeating: 0xa5, count: 4096)
    // The last two lie so near to each other that what is between counts as data.
    for place in [5 << 20, 40 << 20, 40 << 20 + 16384] { try file.write(page, at: place) }
    let image = try #require(try MemoryImage.open(file.path).first)
    let whole = image.segments[0]
    func ranges(_ segment: MemorySegment) -> [[UInt64]] {
      image.dataRanges(in: segment).map { [$0.start.rawValue, $0.count] }
    }
    #expect(ranges(whole) == [[5 << 20, 4096], [40 << 20, 5 * 4096]])
    #expect(ranges(MemorySegment(start: PhysicalAddress(6 << 20), count: 1 << 20)) == [])
    #expect(ranges(MemorySegment(start: PhysicalAddress(5 << 20 + 100), count: 50)) == [[5 << 20 + 100, 50]])
    #expect(ranges(MemorySegment(start: PhysicalAddress(0), count: .max)) == ranges(whole))

    // A long read has all of it, and fills no hole.
    let before = try blocks(file.path)
    image.prepareCache(of: whole)
    let bytes = try image.read(PhysicalAddress(0), count: 64 << 20)
    #expect(bytes.count == 64 << 20 && bytes.filter { $0 == 0xa5 }.count == 3 * 4096)
    #expect(Array(bytes[5 << 20..<5 << 20 + 4096]) == page && bytes[5 << 20 - 1] == 0 && bytes[5 << 20 + 4096] == 0)
    #expect(try blocks(file.path) == before)

    try file.write(page, at: 20 << 20)
    #expect(ranges(whole).map { $0[0] } == [5 << 20, 20 << 20, 40 << 20])
    // Of a file that was cut, nothing is a hole: what is gone is to be noticed.
    try file.setLength(30 << 20)
    #expect(ranges(MemorySegment(start: PhysicalAddress(50 << 20), count: 4096)) == [[50 << 20, 4096]])
    #expect(throws: MemoryFault.self) { try image.read(PhysicalAddress(0), count: 64 << 20) }
  }

  private func blocks(_ path: String) throws -> Int {
    var status = stat()
    try #require(stat(path, &status) == 0)
    return Int(status.st_blocks)
  }

  // MARK: ELF

  static let twoSegments = ELFCoreWriter(segments: [
    .init(type: 4, physical: 0, bytes: Array("a note".utf8)), .init(physical: 0x10_0000, bytes: [5, 6, 7, 8]),
    .init(physical: 0x1000, bytes: [1, 2, 3]), .init(physical: 0x5000, bytes: []),
  ])

  @Test(arguments: [UInt16(56), 64])
  func opensCore(headerSize: UInt16) throws {
    var writer = Self.twoSegments
    writer.headerSize = headerSize
    let image = try #require(try Self.open(writer.bytes).first)
    #expect(image.format == "an ELF core")
    #expect(
      image.segments == [
        MemorySegment(start: PhysicalAddress(0x1000), count: 3),
        MemorySegment(start: PhysicalAddress(0x10_0000), count: 4),
      ])
    #expect(try image.read(PhysicalAddress(0x1001), count: 2) == [2, 3])
    #expect(try image.read(PhysicalAddress(0x10_0003), count: 1) == [8])
    #expect(throws: MemoryFault.self) { try image.read(PhysicalAddress(0x1002), count: 2) }
    #expect(image.mappedSegments.map { $0.bytes.loadUnaligned(as: UInt8.self) } == [1, 5])
  }

  @Test func findsNumberOfHeadersInSectionHeader() throws {
    var writer = Self.twoSegments
    writer.number = 0xffff
    writer.sectionNumber = 4
    #expect(try Self.open(writer.bytes)[0].segments.count == 2)
    writer.sectionNumber = .max
    #expect(try Self.failure(writer.bytes).contains("4294967295 program headers do not lie in the file"))
    writer.sectionNumber = 0
    #expect(try Self.failure(writer.bytes).contains("0 program headers do not lie in the file"))
  }

  /// A segment that an earlier one already holds in part is cut; one that it holds wholly is dropped.
  @Test func cutsOverlaps() throws {
    let writer = ELFCoreWriter(segments: [
      .init(physical: 0x1000, bytes: [1, 2, 3, 4]), .init(physical: 0x1002, bytes: [13, 14, 15, 16]),
      .init(physical: 0x1001, bytes: [22, 23]), .init(physical: 0x1006, bytes: [31]),
    ])
    let image = try Self.open(writer.bytes)[0]
    #expect(image.segments.map(\.start.rawValue) == [0x1000, 0x1004, 0x1006])
    #expect(image.segments.map(\.count) == [4, 2, 1])
    #expect(try image.read(PhysicalAddress(0x1004), count: 2) == [15, 16])
    #expect(try image.read(PhysicalAddress(0x1006), count: 1) == [31])
  }

  @Test func cutsSegmentsAtTheEndOfTheAddressSpace() throws {
    let writer = ELFCoreWriter(segments: [
      .init(physical: .max, bytes: [9]), .init(physical: .max - 2, bytes: [1, 2, 3, 4]),
    ])
    let image = try Self.open(writer.bytes)[0]
    #expect(image.segments == [MemorySegment(start: PhysicalAddress(.max - 2), count: 2)])
    #expect(try image.read(PhysicalAddress(.max - 1), count: 1) == [2])
    #expect(throws: MemoryFault.self) { try image.read(PhysicalAddress(.max), count: 1) }
  }

  /// Headers may name the same bytes of the file as many addresses: a small file must not pass for a large memory.
  @Test func refusesSegmentsThatShareBytes() throws {
    var segments = [ELFCoreWriter.Segment(physical: 0, bytes: [UInt8](repeating: 1, count: 4096))]
    for index in 1...64 {
      segments.append(.init(physical: UInt64(index) << 20, bytes: [], offset: 0, size: 4096))
    }
    #expect(try Self.failure(ELFCoreWriter(segments: segments).bytes).contains("share bytes of the file"))
  }

  static let brokenCores: [(@Sendable (inout ELFCoreWriter) -> Void, String)] = [
    ({ $0.type = 2 }, "an ELF file but not a core"),
    ({ $0.machine = 183 }, "of another machine than x86-64"),
    ({ $0.isWide = false }, "of another machine than x86-64"),
    ({ $0.headerSize = 55 }, "have 55 bytes each, less than 56"),
    ({ $0.number = 0 }, "0 program headers do not lie"),
    ({ $0.number = 0xfffe }, "65534 program headers do not lie"),
    ({ $0.number = 1 }, "it holds no memory"),
    ({ $0.segments[1].size = 5 << 20 }, "segment 1 (5242880 bytes at offset"),
    ({ $0.segments[1].offset = .max }, "reaches beyond the file's end"),
    ({ $0.segments[1].size = .max }, "reaches beyond the file's end"),
    ({ $0.segments = [.init(physical: .max, bytes: [1])] }, "it holds no memory"),
    (
      { $0.segments = [.init(physical: 0, bytes: [1]), .init(physical: 0, bytes: [2])] },
      "the core of a process: it has no physical addresses; give a core of a machine"
    ),
  ]

  @Test(arguments: brokenCores.indices)
  func refusesBrokenCore(index: Int) throws {
    var writer = Self.twoSegments
    Self.brokenCores[index].0(&writer)
    #expect(try Self.failure(writer.bytes).contains(Self.brokenCores[index].1))
  }

  /// However short a core is cut, it is refused and nothing is read beyond its end.
  @Test func refusesTruncatedCores() throws {
    let whole = Self.twoSegments.bytes
    for count in 4..<whole.count {
      let failure = try Self.failure(Array(whole[..<count]))
      #expect(failure.contains("cannot use FILE as memory: it is an ELF core, but"), "at \(count): \(failure)")
    }
  }

  // MARK: LiME

  @Test func opensLiME() throws {
    let image = try Self.open(limeRange(0x1000, [1, 2, 3]) + limeRange(0x10_0000, [4]))[0]
    #expect(image.format == "a LiME image")
    #expect(image.segments.map(\.start.rawValue) == [0x1000, 0x10_0000])
    #expect(try image.read(PhysicalAddress(0x1001), count: 2) == [2, 3])
    #expect(try image.read(PhysicalAddress(0x10_0000), count: 1) == [4])
    #expect(throws: MemoryFault.self) { try image.read(PhysicalAddress(0x1003), count: 1) }
  }

  @Test func refusesTruncatedLiME() throws {
    let whole = limeRange(0x1000, [1, 2, 3]) + limeRange(0x10_0000, [4])
    for count in 4..<whole.count where count != 35 {
      #expect(try Self.failure(Array(whole[..<count])).contains("it is a LiME image, but"), "at \(count)")
    }
  }

  @Test func refusesBrokenLiME() throws {
    #expect(try Self.failure(limeRange(0, [1], version: 2)).contains("its version is 2, and 1 is known"))
    #expect(try Self.failure(limeRange(0x1000, [1], last: 0xfff)).contains("longer than the file"))
    #expect(try Self.failure(limeRange(0, [1], last: .max)).contains("longer than the file"))
    #expect(try Self.failure(limeRange(0, [1], last: 1)).contains("reaches beyond the file's end"))
    let noise = limeRange(0, [1]) + [UInt8](repeating: 0, count: 32)
    #expect(try Self.failure(noise).contains("there is no range's header at offset 33"))
  }

  // MARK: What is no memory

  @Test(arguments: [
    ("KDUMP   ", "a compressed kdump"), ("makedumpfile", "makedumpfile -R"), ("AVML", "avml-convert"),
    ("QFI\u{fb}", "dump-guest-memory"), ("BZh9", "bzip2"), ("PAGEDU64", "GRASS watches Linux"),
  ])
  func namesForeignFormats(start: String, expected: String) throws {
    let magic = start.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
    let failure = try Self.failure(magic + [UInt8](repeating: 0, count: 64))
    #expect(failure.contains(expected))
    #expect(failure.hasPrefix("cannot use FILE as memory: it is "))
  }

  @Test func refusesWhatIsNoFile() throws {
    #expect(try Self.failure([]).contains("the file is empty"))
    func failure(_ path: String) -> String {
      do throws(MemoryImageError) {
        _ = try MemoryImage.open(path)
        return "opened"
      } catch { return error.description }
    }
    #expect(failure("/tmp").contains("/tmp as memory: it is not a file"))
    #expect(failure("/nonexistent/file").contains("open: No such file or directory"))
    // A pipe that nobody writes must not be waited for.
    let file = try TemporaryFile([])
    unlink(file.path)
    #expect(mkfifo(file.path, 0o600) == 0)
    #expect(failure(file.path).contains("it is not a file"))
  }

  /// A file that becomes shorter while it is mapped fails every read, and does not end the process.
  @Test func failsWhenTheFileShrinks() throws {
    let file = try TemporaryFile([UInt8](repeating: 3, count: 16384))
    let image = try MemoryImage.open(file.path)[0]
    #expect(try image.read(PhysicalAddress(12288), count: 1) == [3])
    try file.setLength(4096)
    let fault = #expect(throws: MemoryFault.self) { try image.read(PhysicalAddress(0), count: 1) }
    #expect(fault?.description.contains("became shorter while it was read") == true)
    try file.setLength(16384)
    #expect(try image.read(PhysicalAddress(12288), count: 1) == [0])
  }

  /// What others write to the file is seen at once: it may be the RAM of a running guest.
  @Test func seesChanges() throws {
    let file = try TemporaryFile([UInt8](repeating: 3, count: 4096))
    let image = try MemoryImage.open(file.path)[0]
    try file.write([4], at: 100)
    #expect(try image.read(PhysicalAddress(99), count: 3) == [3, 4, 3])
  }
}
