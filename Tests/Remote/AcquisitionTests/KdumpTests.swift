import Memory
import Scratch
import Testing

@testable import Acquisition

/// kdump-compressed images, page by page.
struct KdumpTests {
  @Test(arguments: PageCompression.allCases)
  func everyPageIsThatOfTheMemory(_ compression: PageCompression) throws {
    let scratch = try Scratch()
    var memory = AcquisitionTests.Holed()
    memory.bad = [0x111]
    // Pages that take less room by zstd, beside those that do not.
    memory.whole.write([UInt8](repeating: 0x5a, count: 100 * 4096), at: PhysicalAddress(0x14_0000))
    var map = FrameMap(of: memory.segments)
    map.set(0x200..<0x280, .free)
    map.set(0x3..<0x4, .poisoned)
    var contents = AcquisitionTests.contents(memory)
    contents = ImageContents(of: memory.segments, map, .free, kernel: contents.kernel)
    _ = try Acquisition(of: memory, contents, as: .kdump, compression: compression).run(
      to: .file(scratch.file("kdump")))
    let image = try KdumpImage(try scratch.read("kdump"))
    let frames = Set<UInt64>(1..<41).union(0x100..<(0x100 + 2600))
    #expect(image.present == frames)
    #expect(Set(image.dumped) == frames.subtracting(0x200..<0x280).subtracting([0x3]))
    for (index, frame) in image.dumped.enumerated() {
      let expected = try memory.expected(MemorySegment(start: PhysicalAddress(frame << 12), count: 4096))
      #expect(try image.page(index) == expected, "frame \(frame)")
    }
    let notes = try image.notes()
    #expect(notes.map(\.type) == [0, 1, 2] && notes[0].text == AcquisitionTests.coreInfo)
    #expect(String(decoding: notes[1].text, as: UTF8.self).contains("UNREAD=0x111000+0x1000"))
    #expect(notes[2].text == FrameMapRecord.bytes(of: map))
    // Where VMCOREINFO lies, says the second header, too.
    let reader = ByteReader(image.file.span.bytes)
    #expect(
      try reader.cString(Int(reader.u64(4096 + 32)), limit: Int(reader.u64(4096 + 40))) == AcquisitionTests.coreInfo)
    #expect(image.file.count < 2640 * 4096 - 200 * 4096)
    try Self.check(try #require(MemoryImage.openReadable(scratch.file("kdump")).first), memory, image.dumped)
  }

  /// What GRASS itself reads of an image: those frames of the memory, by whatever way they are asked for, and no other.
  private static func check(_ read: any PhysicalMemory, _ memory: AcquisitionTests.Holed, _ frames: [UInt64]) throws {
    #expect(read.segments.reduce(0) { $0 + $1.count } == UInt64(frames.count) * 4096)
    for segment in read.segments {
      #expect(try read.read(segment.start, count: Int(segment.count)) == memory.expected(segment))
      #expect(throws: MemoryFault.self) { try read.read(segment.start + Int(segment.count) - 1, count: 2) }
      if segment.start.rawValue > 0 {
        #expect(throws: MemoryFault.self) { try read.read(segment.start - 1, count: 2) }
      }
    }
    for segment in read.segments.prefix(20) {
      let whole = try memory.expected(segment)
      var batch = ReadBatch<PhysicalAddress>()
      let ranges = (0..<50).map { _ in
        let count = Int.random(in: 1...min(10_000, whole.count))
        let start = Int.random(in: 0...whole.count - count)
        return start..<start + count
      }
      for range in ranges { batch.add(segment.start + range.lowerBound, count: range.count) }
      read.read(&batch)
      for (index, range) in ranges.enumerated() { #expect(try batch.reader(index).copy() == Array(whole[range])) }
    }
  }

  /// An image that is cut short, or whose bytes are others, is refused or read as far as it goes; nothing else happens.
  @Test func brokenImagesAreRefusedOrReadAsFarAsTheyGo() throws {
    let scratch = try Scratch()
    let memory = AcquisitionTests.Holed()
    _ = try Acquisition(of: memory, AcquisitionTests.contents(memory), as: .kdump).run(to: .file(scratch.file("whole")))
    let whole = try scratch.read("whole")
    func open(_ bytes: [UInt8]) throws -> (image: (any PhysicalMemory)?, refusal: String) {
      let path = try scratch.write(bytes, to: "broken")
      do throws(MemoryImageError) {
        return (try MemoryImage.openReadable(path).first, "read")
      } catch { return (nil, error.description) }
    }
    func refusal(_ bytes: [UInt8]) throws -> String { try open(bytes).refusal }
    func changed(_ offset: Int, _ value: UInt32) -> [UInt8] {
      var bytes = whole
      withUnsafeBytes(of: value) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
      return bytes
    }
    for count in [8, 100, 4096, 8191] { #expect(try refusal(Array(whole[..<count])).contains("cut short")) }
    #expect(try refusal(Array(whole[..<20_000])).contains("cut short"))
    #expect(try refusal(changed(428, 65536)).contains("pages of 65536 bytes"))
    #expect(try refusal(changed(424, 2)).contains("LZO"))
    #expect(try refusal(changed(4096 + 12, 1)).contains("--reassemble"))
    #expect(try refusal(changed(436, 0)).contains("bitmaps are too short"))
    #expect(try refusal(changed(436, .max)).contains("cut short"))
    #expect(try refusal(changed(4096 + 100, 1)).contains("16 TiB"))
    for _ in 0..<300 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...8) {
        bytes[Int.random(in: 8..<min(bytes.count, 80_000))] = .random(in: 0...255)
      }
      let length = Bool.random() ? bytes.count : .random(in: 9..<bytes.count)
      guard let image = try open(Array(bytes.prefix(length))).image else { continue }
      var batch = ReadBatch<PhysicalAddress>()
      for segment in image.segments.prefix(200) { batch.add(segment.start, count: Int(min(segment.count, 1 << 16))) }
      image.read(&batch)
    }
  }

  /// The format has whole pages only.
  @Test func partsOfPagesAreLeftOutAndSaid() throws {
    let scratch = try Scratch()
    let memory = SyntheticMemory([UInt8](repeating: 7, count: 3 * 4096), at: PhysicalAddress(0x1800))
    let summary = try Acquisition(of: memory, ImageContents(of: memory.segments), as: .kdump)
      .run(to: .file(scratch.file("kdump")))
    #expect(try KdumpImage(try scratch.read("kdump")).dumped == [2, 3])
    #expect(summary.note.contains("LEFT_OUT_BYTES(parts of pages)=4096"))
  }
}
