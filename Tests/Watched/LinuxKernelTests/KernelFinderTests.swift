import Memory
import Samples
import Testing

@testable import KernelInfo
@testable import LinuxKernel

struct KernelFinderTests {
  @Test(arguments: KallsymsDecoder.AddressEncoding.allCases)
  func findsKernel(encoding: KallsymsDecoder.AddressEncoding) throws {
    let synthetic = SyntheticKernel(encoding: encoding)
    let kernel = try KernelFinder(layouts: [synthetic.memory]).find().found
    #expect(kernel.release == "6.1.0-test-amd64")
    #expect(kernel.banner == "Linux version 6.1.0-test-amd64 (somebody) #1 SMP")
    #expect(kernel.coreInfoAddress == PhysicalAddress(0x7f_0000))
    #expect(kernel.physicalBase == SyntheticKernel.physicalBase)
    #expect(kernel.rootPageTable == PhysicalAddress(SyntheticKernel.physicalImage + 0x4_1000))
    #expect(kernel.pagingLevels == 5)
    #expect(try kernel.types.structure("task_struct").field("pid").offset == 4)
    #expect(try kernel.symbol("_text") == VirtualAddress(SyntheticKernel.base))
    let end = VirtualAddress(SyntheticKernel.base + 0x10_0000)
    #expect(kernel.imageRange == VirtualAddress(SyntheticKernel.base)..<end)
    #expect(kernel.physicalAddress(ofImage: end - 1) == PhysicalAddress(SyntheticKernel.physicalImage + 0xf_ffff))
    #expect(kernel.physicalAddress(ofImage: end) == nil)
    #expect(kernel.physicalAddress(ofImage: VirtualAddress(SyntheticKernel.directMap)) == nil)
    let missing = #expect(throws: KernelInfoError.self) { try kernel.symbol("absent") }
    #expect(missing?.description.contains("'absent'") == true)
    #expect(missing?.description.contains("6.1.0-test-amd64") == true)
  }

  /// Copies and leftovers before and after the real note; none of them may be taken.
  @Test func passesStaleNotes() throws {
    let synthetic = SyntheticKernel(note: 0x40_0000)
    var memory = synthetic.memory
    let older = SyntheticKernel(release: "5.10.0-old", lines: ["NUMBER(phys_base)=4096"]).coreInfo
    memory.write(SyntheticKernel.noteBytes(older), at: PhysicalAddress(0x1000))
    memory.write(SyntheticKernel.noteBytes("OSRELEASE=6.1.0-test-amd64\n"), at: PhysicalAddress(0x2000))
    memory.write(SyntheticKernel.noteBytes("garbage"), at: PhysicalAddress(0x3000))
    // The same text with one line changed: everything fits, but the kernel's own pointer leads elsewhere.
    let forged = "OSRELEASE=6.1.0-test-amd64\nOFFSET(list_head.next)=8\n" + synthetic.coreInfo
    memory.write(SyntheticKernel.noteBytes(forged), at: PhysicalAddress(0x4000))
    let kernel = try KernelFinder(layouts: [memory]).find().found
    #expect(kernel.coreInfoAddress == PhysicalAddress(0x40_0000))
    #expect(kernel.coreInfo?.text.contains("OFFSET(list_head.next)") == false)
    // A hint that leads astray does no harm.
    for hint: UInt64 in [0, 0x1000, 0x2000, 0x3000, 0x4000, 0x40_0001, 0x7f_ffff, .max] {
      let found = try KernelFinder(layouts: [memory]).find(hint: PhysicalAddress(hint)).found
      #expect(found.coreInfoAddress == PhysicalAddress(0x40_0000))
    }
  }

  @Test func triesTheHintFirst() throws {
    let memory = CountingMemory(base: SyntheticKernel().memory)
    _ = try KernelFinder(layouts: [memory]).find(hint: PhysicalAddress(0x7f_0000))
    // Five for the image; for the page tables the direct map's start, and one a level down to a large page.
    #expect(memory.count == 5 + 1 + 4)
  }

  /// All fits but the page tables: they do not map the image, map it elsewhere, or map the direct map elsewhere.
  @Test(
    arguments: [(0x30_2000, 0), (0x30_2000, 0x40_0081), (0x30_3000, 0x4000_0081), (0x30_0000, .max)]
      as [(UInt64, UInt64)])
  func refusesWherePageTablesDisagree(table: UInt64, value: UInt64) {
    var memory = SyntheticKernel().memory
    for entry in 0..<512 as Range<UInt64> { memory.write(bytes(value), at: PhysicalAddress(table + entry * 8)) }
    let report = KernelSearchReport.ofRefusal(in: memory)
    #expect(report?.layouts[0].refused.first?.reason.contains("page tables of Linux 6.1.0-test-amd64") == true)
  }

  @Test func saysWhereThereIsNoKernel() {
    let report = KernelSearchReport.ofRefusal(in: SyntheticMemory([UInt8](repeating: 0, count: 1 << 20)))
    #expect(report?.layouts[0].tried == 0 && report?.layouts[0].refused == [] && report?.layouts[0].scanned == 1 << 20)
    #expect(throws: KernelError.self) { try KernelFinder(layouts: [SyntheticMemory()]).find() }
    #expect(throws: KernelError.self) { try KernelFinder(layouts: []).find() }
  }

  /// What is wrong, and what the refusal says about it.
  @Test(arguments: [
    (SyntheticKernel(lines: ["SYMBOL(_stext)=ffffffff9e200010"]), "no known encoding gives '_stext'"),
    (SyntheticKernel(lines: ["SYMBOL(linux_banner)=ffffffff9e200010"]), "'linux_banner' is at 0xffffffff9e200010 in"),
    (SyntheticKernel(lines: ["SYMBOL(swapper_pg_dir)=ffffffff9e200000"]), "'swapper_pg_dir' is at"),
    (SyntheticKernel(lines: ["SYMBOL(swapper_pg_dir)=ffff888000000000"]), "outside any image"),
    (SyntheticKernel(lines: ["NUMBER(phys_base)=9223372036854775807"]), "outside any image"),
    (SyntheticKernel(lines: ["NUMBER(phys_base)=4294967296"]), "is not in the memory"),
    (SyntheticKernel(lines: ["NUMBER(phys_base)=none"]), "NUMBER(phys_base)"),
    (SyntheticKernel(lines: ["SYMBOL(kallsyms_names)=0"]), "unknown order"),
    (SyntheticKernel(lines: ["SYMBOL(kallsyms_names)=ffffffff9e2f0000"]), "unknown order"),
    (SyntheticKernel(lines: ["SYMBOL(kallsyms_token_table)=ffffffff9e2f0000"]), "unknown order"),
    (SyntheticKernel(lines: ["SYMBOL(kallsyms_num_syms)=ffffffff9e240000"]), "kallsyms_num_syms is"),
    (SyntheticKernel(lines: ["SYMBOL(kallsyms_offsets)=ffffffff9e2c0000"]), "'swapper_pg_dir' is at"),
    (SyntheticKernel(omitted: "SYMBOL(kallsyms_names)"), "SYMBOL(kallsyms_names) is missing"),
    (SyntheticKernel(omitted: "NUMBER(phys_base)"), "NUMBER(phys_base) is missing"),
    (SyntheticKernel(bannerRelease: "6.1.0-other"), "linux_banner in memory is"),
    (SyntheticKernel(types: [0x9F, 0xEB, 1, 0]), "BTF"),
    (SyntheticKernel(types: [UInt8](repeating: 0xFF, count: 64)), "BTF"),
  ])
  func refuses(kernel: SyntheticKernel, reason: String) {
    let report = KernelSearchReport.ofRefusal(in: kernel.memory)
    // The note comes first; what looks like a token table, which lacks its markers here, is tried afterwards.
    guard let layout = report?.layouts.first, layout.tried >= 2 else {
      Issue.record("\(String(describing: report))")
      return
    }
    #expect(layout.refused[0].reason.contains(reason), "\(layout.refused[0])")
    #expect(report?.description.contains("0x7f0000") == true)
    #expect(report?.description.contains("6.0 or later") == false)
  }

  /// Without CONFIG_KALLSYMS_ALL banner and types are found by their form.
  @Test func findsKernelThatListsNoVariables() throws {
    var kernel = SyntheticKernel()
    kernel.listsData = false
    let memory = SearchedMemory(kernel.memory)
    // It has no tasks, without which it would not be taken.
    let (reader, place) = (NoteReader(memory), PhysicalAddress(kernel.note))
    let found = try KernelProof(memory).image(try reader.claims(try reader.note(at: place), at: place))
    #expect(!found.listsVariables && found.symbols.count == 2)
    #expect(found.banner == "Linux version \(kernel.release) (somebody) #1 SMP")
    #expect(found.types.hasStructure("task_struct") && found.types.bytes == kernel.btf)
    let base = VirtualAddress(SyntheticKernel.base)
    #expect(found.symbols.address(of: "__start_BTF") == base + 0x8_0000)
    #expect(found.symbols.addresses(of: "__stop_BTF") == [base + 0x8_0000 + kernel.btf.count])
    #expect(found.symbols.size(ofSymbolAt: base + 0x8_0000) == nil)
    #expect(found.symbols.address(of: "init_task") == nil)
  }

  @Test func saysWhatASearchOfTheImageLacks() {
    var kernel = SyntheticKernel()
    kernel.listsData = false
    var memory = kernel.memory
    // Headers of type information everywhere, and none that holds.
    let header: [UInt8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0] + bytes(UInt32(0), UInt32(64), UInt32(64), UInt32.max)
    for place in stride(from: 0x8_0000, to: 0xf_0000, by: 24) {
      memory.write(header, at: PhysicalAddress(SyntheticKernel.physicalImage + UInt64(place)))
    }
    let error = KernelSearchReport.ofRefusal(in: memory)
    #expect(error?.description.contains("2 functions and no variable") == true)
    #expect(error?.description.contains("CONFIG_KALLSYMS_ALL") == true)
    #expect(error?.description.contains("no type information") == true)
  }

  @Test func refusesWrongPhysBaseInMemory() {
    var memory = SyntheticKernel().memory
    memory.write([1], at: PhysicalAddress(SyntheticKernel.physicalImage + 0x4_0100))
    let error = KernelSearchReport.ofRefusal(in: memory)
    #expect(error?.description.contains("phys_base in memory is") == true)
  }

  /// What the watched memory calls itself ends on a terminal.
  @Test func keepsControlCharactersOut() {
    let kernel = SyntheticKernel(release: "6.1\u{1b}[2J\u{7}", bannerRelease: "6\r")
    let report = KernelSearchReport.ofRefusal(in: kernel.memory)
    let text = report?.description ?? ""
    #expect(text.contains("6.1?[2J?"))
    #expect(!text.unicodeScalars.contains { $0.properties.generalCategory == .control && $0 != "\n" })
  }

  @Test func keepsFewRefusals() {
    var memory = SyntheticMemory([UInt8](repeating: 0, count: 1 << 20))
    for page in 0..<256 {
      memory.write(SyntheticKernel.noteBytes("OSRELEASE=x\n"), at: PhysicalAddress(UInt64(page * 4096)))
    }
    let report = KernelSearchReport.ofRefusal(in: memory)
    #expect(report?.layouts[0].tried == 256 && report?.layouts[0].scanned == 1 << 20)
    #expect(report?.layouts[0].refused.count == 16)
    #expect(report?.description.contains("and 240 more") == true)
  }

  /// A note at the very end of memory, with a text that would pass it, or none.
  @Test(arguments: [1, 4000, 4072, 4073, 65_536, 65_537, .max] as [UInt32])
  func survivesNoteLength(length: UInt32) {
    var memory = SyntheticMemory([UInt8](repeating: 0, count: 8192))
    memory.write(SyntheticKernel.noteBytes("OSRELEASE=x\n", length: length), at: PhysicalAddress(4096))
    #expect(throws: KernelError.self) { try KernelFinder(layouts: [memory]).find() }
  }
}

extension KernelSearchReport {
  /// What a search of `memory` says, in which there is no kernel to be found.
  static func ofRefusal(in memory: any PhysicalMemory) -> KernelSearchReport? {
    let error = #expect(throws: KernelError.self) { try KernelFinder(layouts: [memory]).find() }
    guard case .notFound(let report) = error?.cause else {
      Issue.record("\(String(describing: error))")
      return nil
    }
    return report
  }
}

/// Memory that counts the batches read from it.
private final class CountingMemory: PhysicalMemory, @unchecked Sendable {
  private let base: SyntheticMemory
  private(set) var count = 0

  init(base: SyntheticMemory) { self.base = base }

  var segments: [MemorySegment] { base.segments }

  // Used by one thread alone.
  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    count += 1
    base.read(&batch)
  }
}
