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
