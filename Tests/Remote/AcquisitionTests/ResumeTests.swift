import Foundation
import Memory
import Scratch
import Testing

@testable import Acquisition

/// Acquisitions that end before they are whole, and go on.
struct ResumeTests {
  /// Writes an image, and ends after `parts` of it.
  private static func begin(
    _ format: ImageFormat, _ memory: AcquisitionTests.Holed, _ path: String, parts: Int, identity: String = "a host"
  ) throws {
    var count = 0
    let error = #expect(throws: AcquisitionError.self) {
      _ = try Acquisition(of: memory, AcquisitionTests.contents(memory), as: format, identity: identity)
        .run(to: .file(path)) { _ in
          count += 1
          return count < parts
        }
    }
    #expect(error?.isInterruption == true, "\(error?.description ?? "")")
  }

  private static func goOn(
    _ format: ImageFormat, _ memory: AcquisitionTests.Holed, _ path: String
  ) throws -> AcquisitionSummary {
    try Acquisition(of: memory, AcquisitionTests.contents(memory), as: format, identity: "a host")
      .run(to: .file(path))
  }

  /// The bytes of an image as far as they have no time in them.
  private static func body(_ file: [UInt8], _ format: ImageFormat, _ memory: AcquisitionTests.Holed) throws -> [UInt8] {
    guard format == .kdump else {
      return Array(file.prefix(Int(try format.writer(AcquisitionTests.contents(memory)).layout.end)))
    }
    // Where the notes end is in the headers, too.
    return Array(file[8192..<(try KdumpImage(file).notesOffset)])
  }

  @Test(arguments: ImageFormat.allCases)
  func goesOnWhereItEnded(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    var memory = AcquisitionTests.Holed()
    memory.bad = [0x105, 0x300]
    let path = scratch.file("image")
    try Self.begin(format, memory, path, parts: 2)
    #expect(try scratch.names() == ["image.part", "image.part.journal", "image.part.plan"])
    // A second time it ends one part further on.
    try Self.begin(format, memory, path, parts: 1)
    let summary = try Self.goOn(format, memory, path)
    #expect(summary.resumed >= 3 << 20, "what was there was not read again")
    #expect(summary.unreadCount == 8192, "what could not be read at first is known still")
    #expect(summary.note.contains("RESUMED=\(summary.resumed)"))
    #expect(try scratch.names() == ["image"])
    _ = try Self.goOn(format, memory, scratch.file("other"))
    #expect(
      try Self.body(try scratch.read("image"), format, memory) == Self.body(try scratch.read("other"), format, memory))
  }

  /// A machine that went down may have kept the journal and lost what it names, or half of either.
  @Test(arguments: [ImageFormat.elf, .kdump])
  func believesTheJournalOnlyAsFarAsTheFileHasIt(_ format: ImageFormat) throws {
    let scratch = try Scratch()
    let memory = AcquisitionTests.Holed()
    _ = try Self.goOn(format, memory, scratch.file("whole"))
    let whole = try Self.body(try scratch.read("whole"), format, memory)
    for damage in ["cut", "changed", "zeroed", "journal cut", "journal", "plan"] {
      let path = scratch.file(damage)
      try Self.begin(format, memory, path, parts: 3)
      var part = try scratch.read("\(damage).part")
      switch damage {
      case "cut": part.removeLast(part.count / 2)
      case "changed": part[part.count - 5000] ^= 1
      case "zeroed":
        part.replaceSubrange(part.count * 3 / 4..<part.count, with: repeatElement(0, count: part.count / 4))
      case "journal cut":
        try scratch.write(Array(try scratch.read("\(damage).part.journal").dropLast(30)), to: "\(damage).part.journal")
      case "journal":
        try scratch.write("part 0 18446744073709551615 9 ff\nunread x\npart", to: "\(damage).part.journal")
      default:
        var plan = try scratch.read("\(damage).part.plan")
        plan[20] ^= 1
        try scratch.write(plan, to: "\(damage).part.plan")
      }
      try scratch.write(part, to: "\(damage).part")
      let summary = try Self.goOn(format, memory, path)
      #expect(damage == "journal" || damage == "plan" ? summary.resumed == 0 : summary.resumed < 7 << 20, "\(damage)")
      #expect(try Self.body(try scratch.read(damage), format, memory) == whole, "\(damage)")
    }
  }

  @Test func whatIsOfAnotherImageIsNotGoneOnWith() throws {
    let scratch = try Scratch()
    let memory = AcquisitionTests.Holed()
    try Self.begin(.elf, memory, scratch.file("image"), parts: 1, identity: "another host")
    let error = #expect(throws: AcquisitionError.self) {
      _ = try Self.goOn(.elf, memory, scratch.file("image"))
    }
    #expect(error?.description.contains("another host") == true)
    let other = #expect(throws: AcquisitionError.self) {
      try Acquisition(of: memory, AcquisitionTests.contents(memory), as: .lime, identity: "another host")
        .run(to: .file(scratch.file("image")))
    }
    #expect(other?.description.contains("elf, level 0") == true)
  }

  /// What a running host's memory was when it began is what the image is of, whatever is asked of it later.
  @Test func planIsThatOfTheBeginning() throws {
    let scratch = try Scratch()
    let memory = AcquisitionTests.Holed()
    try Self.begin(.elf, memory, scratch.file("image"), parts: 1)
    var map = FrameMap(of: memory.segments)
    map.set(0..<0x1000, .poisoned)
    let summary = try Acquisition(of: memory, ImageContents(of: memory.segments, map), as: .elf, identity: "a host")
      .run(to: .file(scratch.file("image")))
    #expect(summary.byteCount == 2640 * 4096)
  }

  @Test func planReadsAsItWasWritten() throws {
    let memory = AcquisitionTests.Holed()
    var map = FrameMap(of: memory.segments)
    map.set(0x110..<0x120, .free)
    let contents = ImageContents(
      of: memory.segments, map, [.free, .zero], kernel: AcquisitionTests.contents(memory).kernel)
    let plan = ImagePlan(identity: "a host", began: "now", contents: contents)
    let read = try #require(ImagePlan(plan.bytes))
    #expect(read.identity == plan.identity && read.began == plan.began && read.contents == contents)
    for count in stride(from: 0, to: plan.bytes.count, by: 7) {
      #expect(ImagePlan(Array(plan.bytes.prefix(count))) == nil)
    }
  }
}
