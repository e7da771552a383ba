import Foundation
import Host
import Memory
import Scratch
import Testing

@testable import Acquisition

/// Images that age encrypts, which end before they are whole and go on in another file.
struct EncryptedTests {
  /// A key pair of age's: the file with the private key, and the public one.
  private static func key(in scratch: borrowing Scratch) throws -> String {
    let made = try outcome(of: ["age-keygen", "-o", scratch.file("key")], most: 4096)
    try #require(made.status == 0)
    let words = try scratch.text("key").split(whereSeparator: \.isWhitespace)
    return String(try #require(words.first { $0.hasPrefix("age1") }))
  }

  /// What some files of an image are, decrypted one after the other.
  private static func opened(_ names: [String], in scratch: borrowing Scratch) throws -> [UInt8] {
    var bytes: [UInt8] = []
    for name in names {
      let said = try outcome(
        of: ["age", "--decrypt", "-i", scratch.file("key"), "-o", scratch.file("opened"), scratch.file(name)],
        most: 4096)
      try #require(said.status == 0, "\(name): \(String(decoding: said.0, as: UTF8.self))")
      bytes += try scratch.read("opened")
      unlink(scratch.file("opened"))
    }
    return bytes
  }

  private static func run(
    _ format: ImageFormat, _ memory: any PhysicalMemory, _ path: String, to recipient: String,
    registers: [Int: [UInt8]] = [:], parts: Int = .max
  ) throws -> AcquisitionSummary {
    var contents = AcquisitionTests.contents(memory)
    contents.kernel?.registers = registers
    var count = 0
    return try Acquisition(of: memory, contents, as: format, rounds: 2, identity: "a host")
      .run(to: .encrypted(path, to: [recipient])) { progress in
        if progress.stage == .copying { count += 1 }
        return count < parts
      }
  }

  private static func expectImage(
    _ bytes: [UInt8], _ format: ImageFormat, of memory: AcquisitionTests.Holed, in scratch: borrowing Scratch
  ) throws {
    try scratch.write(format == .kdump ? KdumpImage.unflattened(bytes) : bytes, to: "clear")
    let image = try #require(try MemoryImage.openReadable(scratch.file("clear")).last)
    for segment in memory.segments {
      #expect(try image.read(segment.start, count: Int(segment.count)) == memory.expected(segment), "\(format)")
    }
  }

  @Test(arguments: ImageFormat.allCases) func goesOnInAnotherFile(_ format: ImageFormat) throws {
    signal(SIGPIPE, SIG_IGN)
    let scratch = try Scratch()
    let recipient = try Self.key(in: scratch)
    var memory = AcquisitionTests.Holed()
    memory.bad = [0x105, 0x300]
    let path = scratch.file("image")
    // Registers of a CPU are secrets, too.
    let registers = [1: AcquisitionTests.bytes(336, seed: 11)]
    func whole() throws -> AcquisitionSummary {
      try Self.run(format, memory, path, to: recipient, registers: registers)
    }
    for (number, names) in [(1, ["image.001"]), (2, ["image.001", "image.002"])] {
      let error = #expect(throws: AcquisitionError.self) {
        try Self.run(format, memory, path, to: recipient, registers: registers, parts: number == 1 ? 2 : 1)
      }
      #expect(error?.isInterruption == true && error?.subject == path)
      #expect(
        try scratch.names().filter { $0.hasPrefix("image") }
          == names + ["image.part", "image.part.journal", "image.part.plan"])
    }
    // Nothing lies in clear beside it that tells of pages.
    let beside = try scratch.read("image.part.plan") + scratch.read("image.part.journal")
    #expect(Data(beside).range(of: Data(registers[1]?.prefix(16) ?? [])) == nil)
    #expect(try scratch.read("image.part").isEmpty)
    let digests = try scratch.text("image.part.journal").split(separator: "\n").filter { $0.hasPrefix("part") }
    #expect(
      digests.count == 3 && digests.allSatisfy { $0.hasSuffix(" 00000000000000000000000000000000") }, "\(digests)")
    let summary = try whole()
    #expect(summary.fileCount == 3 && summary.resumed >= 3 << 20 && summary.unreadCount == 8192)
    #expect(summary.consistency == nil, "what was encrypted before is held against nothing")
    let files = (1...3).map { "image.00\($0)" }
    #expect(try scratch.names().filter { $0.hasPrefix("image") } == files)
    let bytes = try Self.opened(files, in: scratch)
    try Self.expectImage(bytes, format, of: memory, in: scratch)
    if format == .elf { #expect(Data(bytes).range(of: Data(registers[1] ?? [])) != nil, "the image has the registers") }
    // Files of another image are nobody's to write over.
    let other = #expect(throws: AcquisitionError.self) { try whole() }
    #expect(other?.isInterruption == false)
    // One that nobody interrupts is one file, with what is of one instant.
    let second = try Self.run(format, memory, scratch.file("second"), to: recipient)
    #expect(second.fileCount == 1 && second.consistency?.movedCount == 0)
    #expect(try scratch.names().filter { $0.hasPrefix("second") } == ["second"])
    try Self.expectImage(try Self.opened(["second"], in: scratch), format, of: memory, in: scratch)
  }

  /// Of a run that was killed there is no file: what came after the last end counts for nothing.
  @Test(arguments: [ImageFormat.elf, .kdump]) func whatHasNoEndIsReadAgain(_ format: ImageFormat) throws {
    signal(SIGPIPE, SIG_IGN)
    let scratch = try Scratch()
    let recipient = try Self.key(in: scratch)
    let memory = AcquisitionTests.Holed()
    let path = scratch.file("image")
    for _ in 0..<2 {
      #expect(throws: AcquisitionError.self) { try Self.run(format, memory, path, to: recipient, parts: 1) }
    }
    // As if the second had been killed: its file is there, or half of it, and the journal does not say so.
    let lines = try scratch.text("image.part.journal").split(separator: "\n")
    #expect(lines.filter { $0.hasPrefix("end ") }.count == 2)
    try scratch.write(lines.dropLast().joined(separator: "\n") + "\n", to: "image.part.journal")
    try scratch.write("half of a file", to: "image.encrypting")
    let summary = try Self.run(format, memory, path, to: recipient)
    #expect(summary.fileCount == 2 && summary.resumed == 1 << 20)
    let bytes = try Self.opened(["image.001", "image.002"], in: scratch)
    try Self.expectImage(bytes, format, of: memory, in: scratch)
    #expect(try scratch.names().filter { $0.hasPrefix("image") } == ["image.001", "image.002"])
    // Nothing was written: it begins anew, as one file.
    let third = scratch.file("third")
    var lost = memory
    lost.lost = 0
    #expect(throws: AcquisitionError.self) { try Self.run(format, lost, third, to: recipient) }
    let left = try scratch.names().filter { $0.hasPrefix("third.0") || $0.hasSuffix(".encrypting") }
    #expect(left.isEmpty, "\(left)")
    #expect(try Self.run(format, memory, third, to: recipient).fileCount == 1)
  }

  /// A kdump that was ended while pages were copied again: what is behind all others then stays there.
  @Test func goesOnBehindWhatWasCopiedAgain() throws {
    signal(SIGPIPE, SIG_IGN)
    let scratch = try Scratch()
    let recipient = try Self.key(in: scratch)
    let memory = AcquisitionTests.Holed()
    let turn = Locked(0)
    let moving = ChangingMemory(memory) { turn.withLock { $0 += 1 } }
    let path = scratch.file("image")
    #expect(throws: AcquisitionError.self) {
      _ = try Acquisition(of: moving, AcquisitionTests.contents(memory), as: .kdump, rounds: 4, identity: "a host")
        .run(to: .encrypted(path, to: [recipient])) { progress in
          if case .comparing(round: 2, _) = progress.stage { false } else { true }
        }
    }
    #expect(turn.withLock { $0 } > 0)
    #expect(try Self.run(.kdump, moving, path, to: recipient).fileCount == 2)
    let bytes = try Self.opened(["image.001", "image.002"], in: scratch)
    try scratch.write(KdumpImage.unflattened(bytes), to: "clear")
    let image = try #require(try MemoryImage.openReadable(scratch.file("clear")).last)
    for segment in memory.segments {
      var expected = try memory.expected(segment)
      if segment.contains(ChangingMemory.place, count: 1) {
        expected[Int(ChangingMemory.place.rawValue - segment.start.rawValue)] &+= 1
      }
      #expect(try image.read(segment.start, count: Int(segment.count)) == expected)
    }
  }

  @Test func whoeverRefusesIsHeard() throws {
    signal(SIGPIPE, SIG_IGN)
    let scratch = try Scratch()
    let memory = AcquisitionTests.Holed()
    #expect(throws: AcquisitionError.self) {
      try Self.run(.raw, memory, scratch.file("image"), to: "age1nobody")
    }
    let left = try scratch.names().filter { !$0.contains(".part") }
    #expect(left.isEmpty, "\(left)")
  }
}

/// A memory one byte of which is another from the first question for digests on.
private struct ChangingMemory: PhysicalMemory {
  static let place = PhysicalAddress(0x20_0123)
  let memory: AcquisitionTests.Holed
  let asked: @Sendable () -> Void
  private let hasChanged = Locked(false)

  init(_ memory: AcquisitionTests.Holed, asked: @escaping @Sendable () -> Void) {
    (self.memory, self.asked) = (memory, asked)
  }

  private var now: AcquisitionTests.Holed {
    var now = memory
    if hasChanged.withLock({ $0 }), let byte = try? memory.whole.read(Self.place, count: 1) {
      now.whole.write([byte[0] &+ 1], at: Self.place)
    }
    return now
  }

  var segments: [MemorySegment] { memory.segments }
  func read(_ batch: inout ReadBatch<PhysicalAddress>) { now.read(&batch) }

  func digests(ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed) throws(MemoryFault) -> [[MemoryDigest?]] {
    hasChanged.withLock { $0 = true }
    asked()
    return try now.digests(ofPagesIn: ranges, seed)
  }
}
