import Foundation
import Memory
import Scratch
import Testing

@testable import Acquisition

/// Images of a memory in code, read back as images.
struct AcquisitionTests {
  static let page = 4096

  /// Two segments with a hole between them, in which one page in the middle cannot be read.
  struct Holed: PhysicalMemory {
    var whole = SyntheticMemory()
    var bad: Set<UInt64> = []
    /// Whether the memory is gone altogether, from an address on.
    var lost: UInt64 = .max

    init() {
      whole.add(AcquisitionTests.bytes(40 * AcquisitionTests.page, seed: 1), at: PhysicalAddress(0x1000))
      whole.add(AcquisitionTests.bytes(2600 * AcquisitionTests.page, seed: 2), at: PhysicalAddress(0x10_0000))
      // A few pages of zeros, which become a hole of the file.
      whole.write([UInt8](repeating: 0, count: 64 * AcquisitionTests.page), at: PhysicalAddress(0x18_0000))
    }

    var segments: [MemorySegment] { whole.segments }

    func read(_ batch: inout ReadBatch<PhysicalAddress>) {
      batch.fill { (address, target) throws(MemoryFault) in
        let pages = (address.rawValue >> 12)...((address.rawValue &+ UInt64(max(target.count, 1)) &- 1) >> 12)
        if address.rawValue >= lost { throw MemoryFault(.physical(address), .sourceFailed("the link ended")) }
        if bad.contains(where: pages.contains) { throw MemoryFault(.physical(address), .absent) }
        let bytes = try whole.read(address, count: target.count)
        bytes.withUnsafeBytes { target.copyMemory(from: $0) }
      }
    }

    /// Its bytes, zeros for what cannot be read.
    func expected(_ segment: MemorySegment) throws -> [UInt8] {
      var bytes = try whole.read(segment.start, count: Int(segment.count))
      for frame in bad where segment.contains(PhysicalAddress(frame << 12), count: 4096) {
        let offset = Int((frame << 12) - segment.start.rawValue)
        bytes.replaceSubrange(offset..<offset + 4096, with: repeatElement(0, count: 4096))
      }
      return bytes
    }
  }

  static func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      // Each word is told from every other, and none of its pages is zero.
      withUnsafeBytes(of: state) { bytes += $0 }
    }
    return bytes
  }

  static let coreInfo = Array("OSRELEASE=6.1.0-test\nPAGESIZE=4096\n".utf8)

  static func contents(_ memory: any PhysicalMemory) -> ImageContents {
    ImageContents(
      of: memory.segments,
      kernel: KernelFacts(
        coreInfo: coreInfo, release: "6.1.0-test", version: "#1 SMP", directMap: VirtualAddress(0xffff_8880_0000_0000),
        physicalBase: 0x100_0000))
  }

  @Test(arguments: [ImageFormat.elf, .lime, .raw])
  func whatWasWrittenReadsAsTheMemory(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    var memory = Holed()
    memory.bad = [0x120]
    let path = scratch.file("image")
    let summary = try Acquisition(of: memory, Self.contents(memory), as: format).run(to: .file(path))
    #expect(summary.byteCount == UInt64(2640 * Self.page))
    #expect(summary.unread == [MemorySegment(start: PhysicalAddress(0x12_0000), count: 4096)])
    #expect(summary.unreadCount == 4096)
    #expect(summary.note.contains("UNREAD=0x120000+0x1000"))
    #expect(try scratch.names() == ["image"], "nothing is left beside it")
    let image = try #require(try MemoryImage.open(path).last)
    if format != .raw { #expect(image.segments == memory.segments) }
    for segment in memory.segments {
      #expect(try image.read(segment.start, count: Int(segment.count)) == memory.expected(segment))
    }
    var status = stat()
    try #require(stat(path, &status) == 0)
    #expect(status.st_blocks * 512 < status.st_size - 60 * 4096, "pages of zeros are holes")
    #expect(mode(of: path) == 0o600)
  }

  @Test(arguments: ImageFormat.allCases)
  func pipeGetsTheBytesOfTheFile(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let memory = Holed()
    try scratch.write([], to: "stream")
    let writer = try format.writer(Self.contents(memory))
    let descriptor = open(scratch.file("stream"), O_WRONLY)
    defer { close(descriptor) }
    _ = try Acquisition(of: memory, Self.contents(memory), as: format).run(to: .descriptor(descriptor))
    _ = try Acquisition(of: memory, Self.contents(memory), as: format).run(to: .file(scratch.file("file")))
    var (stream, file) = (try scratch.read("stream"), try scratch.read("file"))
    if format == .kdump { stream = try KdumpImage.unflattened(stream) }
    #expect(stream.count == file.count)
    // What comes behind the memory has the time in it.
    let count = format == .kdump ? try KdumpImage(file).notesOffset : Int(writer.layout.end)
    #expect(stream.prefix(count) == file.prefix(count))
  }

  @Test func coreHasTheNoteOfTheKernelAndItsOwn() throws {
    let scratch = try Scratch()
    var memory = Holed()
    memory.bad = [0x101, 0x102]
    let path = scratch.file("core")
    let contents = Self.contents(memory)
    _ = try Acquisition(of: memory, contents, as: .elf).run(to: .file(path))
    let file = try scratch.read("core")
    let elf = ByteReader(file.span.bytes)
    // The first segment is the notes: type 4; a note's header is three words, its name comes after them.
    #expect(try elf.u32(64) == 4)
    let notes = Int(try elf.u64(64 + 8))
    #expect(try elf.cString(notes + 12) == Array("VMCOREINFO".utf8))
    #expect(Array(file[(notes + 24)..<(notes + 24 + Self.coreInfo.count)]) == Self.coreInfo)
    // The second is the first run: virtual and physical address.
    #expect(try elf.u64(64 + 56 + 16) == 0xffff_8880_0000_1000 && elf.u64(64 + 56 + 24) == 0x1000)
    // Section 2 is the acquisition's own note.
    let sections = Int(try elf.u64(0x28))
    #expect(try elf.u16(0x3c) == 5 && elf.u32(sections + 128 + 4) == 7)
    let own = Int(try elf.u64(sections + 128 + 24))
    #expect(try elf.cString(own + 12) == Array("GRASS".utf8))
    let size = Int(try elf.u32(own + 4))
    let text = String(decoding: file[(own + 20)..<(own + 20 + size)], as: UTF8.self)
    #expect(text.contains("LEVEL=0\n") && text.contains("UNREAD_BYTES=8192\nUNREAD=0x101000+0x2000"))
  }

  /// What CPUs saved of their registers comes first, as other programs expect it, and stays in an image that is gone on with.
  @Test(arguments: [ImageFormat.elf, .kdump]) func registersAreNotes(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let memory = Holed()
    var contents = Self.contents(memory)
    let status = (0..<336).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    contents.kernel?.registers = [2: status, 0: status.reversed()]
    var writer = PlanWriter()
    contents.write(to: &writer)
    var reader = PlanReader(writer.bytes)
    #expect(try ImageContents(plan: &reader) == contents)
    let summary = try Acquisition(of: memory, contents, as: format).run(to: .file(scratch.file("image")))
    #expect(summary.note.contains("REGISTERS=0,2"))
    let file = try scratch.read("image")
    let bytes = ByteReader(file.span.bytes)
    var place = format == .elf ? Int(try bytes.u64(64 + 8)) : try KdumpImage(file).notesOffset
    for expected in [status.reversed(), status] {
      #expect(try bytes.u32(place) == 5 && bytes.u32(place + 4) == 336 && bytes.u32(place + 8) == 1)
      #expect(try bytes.cString(place + 12) == Array("CORE".utf8))
      #expect(Array(file[(place + 20)..<(place + 20 + 336)]) == Array(expected))
      place += 20 + 336
    }
    #expect(try bytes.cString(place + 12) == Array("VMCOREINFO".utf8))
    if format == .kdump {
      #expect(try bytes.cString(Int(bytes.u64(4096 + 32)), limit: Int(bytes.u64(4096 + 40))) == Self.coreInfo)
    }
  }

  @Test func whatIsThereIsNotOverwritten() throws {
    let scratch = try Scratch()
    let path = try scratch.write("evidence", to: "image")
    let memory = Holed()
    let error = #expect(throws: AcquisitionError.self) {
      try Acquisition(of: memory, Self.contents(memory), as: .raw).run(to: .file(path))
    }
    #expect(error?.description.contains("is there already") == true)
    #expect(try scratch.text("image") == "evidence")
  }

  @Test func memoryThatIsGoneEndsItRatherThanBecomingZeros() throws {
    let scratch = try Scratch()
    var memory = Holed()
    memory.lost = 0x10_0000
    let error = #expect(throws: AcquisitionError.self) {
      try Acquisition(of: memory, Self.contents(memory), as: .lime).run(to: .file(scratch.file("image")))
    }
    #expect(error?.description.contains("the link ended") == true)
    #expect(try scratch.names().contains("image") == false)
  }

  /// Segments come from a device, whose word may be false.
  @Test func segmentsThatCannotBeAreCutToWhatCan() {
    func segment(_ start: UInt64, _ count: UInt64) -> MemorySegment {
      MemorySegment(start: PhysicalAddress(start), count: count)
    }
    let claimed: [(UInt64, UInt64)] = [
      (.max, .max), (0x5000, 0), (0x2000, 0x2000), (0x1000, 0x2000), (1 << 52, 1), ((1 << 52) - 4096, .max),
      (0x1800, 0x100),
    ]
    let contents = ImageContents(of: claimed.map(segment))
    let last = segment((1 << 52) - 4096, 4096)
    #expect(contents.runs == [segment(0x1000, 0x2000), segment(0x3000, 0x1000), last])
    #expect(contents.byteCount == 0x4000)
  }

  @Test func piecesAreThoseOfTheRange() throws {
    let runs = [
      MemorySegment(start: PhysicalAddress(0x1000), count: 0x3000),
      MemorySegment(start: PhysicalAddress(0x8000), count: 0x1000),
    ]
    let layout = try ImageFormat.lime.writer(ImageContents(of: runs)).layout
    // Headers of 32 bytes come before each run.
    let pieces = layout.pieces(0x1000..<0x3800)
    let first = ImageLayout.Placement(
      segment: MemorySegment(start: PhysicalAddress(0x2000), count: 0x2000), offset: 0x1020, position: 0x1000)
    let second = ImageLayout.Placement(
      segment: MemorySegment(start: PhysicalAddress(0x8000), count: 0x800), offset: 0x3040, position: 0x3000,
      prefix: layout.placements[1].prefix)
    #expect(pieces == [first, second])
    #expect(layout.byteCount == 0x4000 && layout.pieces(0x4000..<0x4000).isEmpty)
  }
}
