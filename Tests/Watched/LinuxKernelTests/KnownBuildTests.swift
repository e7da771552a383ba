import Foundation
import Memory
import Samples
import Testing

@testable import KernelInfo
@testable import LinuxKernel

/// Builds that are kept: used where they are the memory's own, and where the memory's own do not serve.
struct KnownBuildTests {
  /// A folder of a test's own.
  private final class Folder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("grass-known-\(UUID().uuidString)")
    var known: BuildFolder { BuildFolder(path: url.path) }
    deinit { try? FileManager.default.removeItem(at: url) }

    func files(_ folder: String = "") throws -> [URL] {
      try FileManager.default.contentsOfDirectory(
        at: url.appendingPathComponent(folder), includingPropertiesForKeys: [.isRegularFileKey]
      ).filter { try $0.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true }
    }
  }

  private static let kernel = SyntheticKernel(lines: ["BUILD-ID=0123456789abcdef"])
  /// Places of the image: a name, the index of tokens, the type information.
  private static let names = SyntheticKernel.physicalImage + 0x1_1008
  private static let types = SyntheticKernel.physicalImage + 0x8_0000

  private func find(_ memory: any PhysicalMemory, _ folder: Folder?) throws(KernelError) -> Kernel {
    try Kernel(memory: memory, known: folder?.known)
  }

  private func flipped(_ place: UInt64, in memory: SyntheticMemory = kernel.memory) throws -> SyntheticMemory {
    var memory = memory
    let byte = try memory.read(PhysicalAddress(place), count: 1)[0]
    memory.write([byte ^ 0x40], at: PhysicalAddress(place))
    return memory
  }

  @Test(arguments: KallsymsDecoder.AddressEncoding.allCases)
  func keptTablesAreUsedWhereTheirDigestAgrees(_ encoding: KallsymsDecoder.AddressEncoding) throws {
    let folder = Folder()
    var synthetic = Self.kernel
    synthetic.encoding = encoding
    let first = try find(synthetic.memory, folder)
    #expect(first.found.tableSource == .memory && first.notes.isEmpty)
    #expect(try folder.files().count == 1 && folder.files("boots").count == 1)
    let again = try find(synthetic.memory, folder)
    guard case .digest = again.found.tableSource else {
      Issue.record("\(again.found.tableSource)")
      return
    }
    #expect(again.notes.isEmpty && again.found.coreInfo?.text == first.found.coreInfo?.text)
    #expect(again.symbols.map(\.self) == first.symbols.map(\.self))
    #expect(again.types.bytes == first.types.bytes && again.found.imageRange == first.found.imageRange)
    #expect(again.found.rootPageTable == first.found.rootPageTable && again.found.slide == first.found.slide)
    #expect(try folder.files().count == 1)
  }

  /// Of the tables themselves nothing is read then.
  @Test func agreementSparesReadingTables() throws {
    let folder = Folder()
    _ = try find(Self.kernel.memory, folder)
    let memory = DigestingMemory(Self.kernel.memory)
    let kernel = try find(memory, folder)
    #expect(kernel.found.tableSource != .memory)
    // Of every page the first 24 bytes were looked at, for a note.
    let reads = memory.touched.filter { $0.count > 24 }
    #expect(!reads.isEmpty && reads.allSatisfy { !$0.contains(Self.types) && !$0.contains(Self.names) })
  }

  /// The image lies elsewhere in another boot: all addresses move with it, but those that are offsets.
  @Test func symbolsMoveWithTheImage() throws {
    let kernel = try KernelFinder(layouts: [Self.kernel.memory]).find()
    let build = try KnownBuild(of: kernel)
    let moved = try build.symbols(slide: kernel.found.slide + 0x60_0000)
    for (symbol, other) in zip(kernel.found.symbols, moved) {
      let distance = other.address.distance(from: symbol.address)
      #expect(symbol.name == other.name && distance == (symbol.address.rawValue >> 63 == 1 ? 0x60_0000 : 0))
    }
    // Decoded for that place, they are the same.
    let again = try KnownBuild(file: build.file)
    #expect(again.digest == build.digest)
    #expect(try again.symbols(slide: kernel.found.slide + 0x60_0000).map(\.self) == moved.map(\.self))
  }

  @Test(arguments: [names, types]) func keptTablesServeThisBootOfThisHost(place: UInt64) throws {
    let folder = Folder()
    let whole = try find(Self.kernel.memory, folder)
    let damaged = try flipped(place)
    #expect(throws: KernelError.self) { try find(damaged, nil) }
    let kernel = try find(damaged, folder)
    guard case .kept(let why) = kernel.found.tableSource else {
      Issue.record("\(kernel.found.tableSource)")
      return
    }
    #expect(why.contains(place == Self.types ? "BTF" : "kallsyms"), "\(why)")
    #expect(kernel.notes.count == 1 && kernel.notes[0].contains("kept ones"))
    #expect(kernel.symbols.map(\.self) == whole.symbols.map(\.self))

    // The note is wiped, too: nothing leads there but what was proven before.
    var silent = damaged
    silent.write([UInt8](repeating: 0, count: 4096), at: PhysicalAddress(Self.kernel.note))
    let found = try find(silent, folder)
    #expect(found.notes.count == 1 && found.symbols.map(\.self) == whole.symbols.map(\.self))
    // No banner, no kernel.
    silent.write([0], at: PhysicalAddress(SyntheticKernel.physicalImage + 0x4_0000))
    #expect(throws: KernelError.self) { try find(silent, folder) }
  }

  /// The same build on another host: its note lies elsewhere.
  @Test func keptTablesOfAnotherHostServeOnlyWhereApproved() throws {
    let folder = Folder()
    _ = try find(Self.kernel.memory, folder)
    var other = Self.kernel
    other.note = 0x40_0000
    let damaged = try flipped(Self.types, in: other.memory)
    let error = #expect(throws: KernelError.self) { try find(damaged, folder) }
    #expect(error?.description.contains("another boot or host") == true, "\(String(describing: error))")
    let approved = folder.url.appendingPathComponent("approved")
    try FileManager.default.createDirectory(at: approved, withIntermediateDirectories: true)
    let file = try #require(try folder.files().first)
    try FileManager.default.copyItem(at: file, to: approved.appendingPathComponent("vendor.build"))
    let kernel = try find(damaged, folder)
    #expect(kernel.notes.count == 1 && kernel.release == Self.kernel.release)
  }

  /// Tables that differ and hold are the memory's own, whatever is kept.
  @Test func ownTablesComeBeforeKeptOnes() throws {
    let folder = Folder()
    _ = try find(Self.kernel.memory, folder)
    var other = Self.kernel
    other.symbols = [("something_else", 0x4_0200)]
    for _ in 0..<2 {
      let kernel = try find(other.memory, folder)
      #expect(kernel.symbols.address(of: "something_else") != nil && kernel.notes.isEmpty)
    }
    // In a boot that was proven before, nothing more is kept.
    #expect(try folder.files().count == 1)
    // A host that shows others each time does not fill the folder.
    for number in 0..<8 {
      other.symbols = [("something_\(number)", 0x4_0200)]
      other.note = 0x40_0000 + UInt64(number) << 12
      _ = try find(other.memory, folder)
    }
    #expect(try folder.files().count == 4)
  }

  /// Whatever lies in the folder: the kernel is found, and nothing traps.
  @Test func damagedFilesAreNone() throws {
    let folder = Folder()
    _ = try find(Self.kernel.memory, folder)
    let file = try #require(try folder.files().first)
    let bytes = [UInt8](try Data(contentsOf: file))
    for count in [0, 7, 8, 39, 40, 100, bytes.count / 2, bytes.count - 1] {
      try Data(bytes.prefix(count)).write(to: file)
      #expect(try find(Self.kernel.memory, folder).found.tableSource == .memory)
    }
    // In another boot it is written anew.
    for boot in try folder.files("boots") { try FileManager.default.removeItem(at: boot) }
    _ = try find(Self.kernel.memory, folder)
    #expect(try Data(contentsOf: file) == Data(bytes))
    for place in Array(stride(from: 0, to: 240, by: 1)) {
      for value: UInt8 in [0xff, 0x80] {
        var damaged = bytes
        damaged[place] ^= value
        guard let build = try? KnownBuild(file: damaged) else { continue }
        _ = try? build.symbols(slide: 0x1d20_0000)
        _ = build.segments(slide: .max, physicalBase: .min)
      }
    }
    for boot in try folder.files("boots") { try Data("release=\nbuild=0\nlevels=9\n".utf8).write(to: boot) }
    #expect(throws: KernelError.self) { try find(flipped(Self.types), folder) }
  }

  /// A release is no path.
  @Test(arguments: ["../../../tmp/x", ".hidden", "a/b", "x\u{1b}[2J", String(repeating: "y", count: 300)])
  func releaseMakesNoPath(release: String) throws {
    let folder = Folder()
    var synthetic = Self.kernel
    synthetic.release = release
    // The banner's text has room for a short one.
    guard let kernel = try? find(synthetic.memory, folder) else { return }
    #expect(kernel.notes.isEmpty, "\(kernel.notes)")
    let files = try folder.files()
    #expect(files.count == 1 && files[0].lastPathComponent.allSatisfy { $0.isASCII && $0 != "/" })
  }

  @Test func folderThatCannotBeWrittenIsSaid() throws {
    let kernel = try Kernel(memory: Self.kernel.memory, known: BuildFolder(path: "/proc/no/such"))
    #expect(kernel.notes.count == 1 && kernel.notes[0].contains("--no-known"), "\(kernel.notes)")
  }
}

/// Memory whose owner computes digests, and that notes what is read of it.
private final class DigestingMemory: PhysicalMemory, @unchecked Sendable {
  private let base: SyntheticMemory
  // Used by one thread.
  private(set) var touched: [Range<UInt64>] = []

  init(_ base: SyntheticMemory) { self.base = base }

  var segments: [MemorySegment] { base.segments }
  func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] { try base.digests(of: ranges) }
  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    for entry in batch.entries {
      touched.append(entry.address.rawValue..<entry.address.rawValue &+ UInt64(entry.count))
    }
    base.read(&batch)
  }
}
