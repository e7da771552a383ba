import KernelInfo
import KernelViews
import Memory
import Paging
import Samples
import Testing

@testable import Binding
@testable import CodeViews
@testable import LinuxKernel
@testable import MachineViews
@testable import NetworkViews
@testable import StorageViews
@testable import TaskViews
@testable import WaitingViews

/// Stacks, and the tables for unwinding them, made to hurt.
struct HostileStackTests {
  private static let text = SyntheticKernel.base
  private static let stack: UInt64 = 0xffff_c900_0000_0000
  private static let places = SyntheticKernel.base + 0x6_0000
  private static let entries = SyntheticKernel.base + 0x6_4000
  private static let lookup = SyntheticKernel.base + 0x6_8000
  private static let module = SyntheticKernel.base + 0x6_a000

  private let types: TypeTable
  private let registers: StackReader.Registers

  init() throws {
    var writer = StructWriter()
    writer.structure(
      "pt_regs",
      ["r13", "bp", "r10", "dx", "di", "ip", "cs", "flags", "sp", "ss", "ax"].map { ($0, writer.u64) })
    writer.structure(
      "orc_entry",
      [
        ("sp_offset", writer.u16), ("bp_offset", writer.u16), ("sp_reg", writer.u8), ("bp_reg", writer.u8),
        ("type", writer.u8), ("signal", writer.u8),
      ])
    let list = writer.structure("list_head", [("next", writer.pointer), ("prev", writer.pointer)])
    let arch = writer.structure(
      "mod_arch_specific",
      [("num_orcs", writer.u32), ("orc_unwind_ip", writer.pointer), ("orc_unwind", writer.pointer)])
    writer.structure("module", [("list", list), ("arch", arch)])
    types = try TypeTable(writer.writer.bytes, release: "test")
    registers = try StackReader.Registers(types)
  }

  // MARK: Unwinding

  private func unwinding(_ words: [UInt64], ip: UInt64 = text + 0x100, sp: UInt64 = stack) -> StackReader.Unwinding {
    StackReader.Unwinding(
      start: Self.stack, bytes: words.flatMap { bytes($0) }, registers: registers, sp: sp, bp: Self.stack + 8, ip: ip,
      isSignal: false)
  }

  private func entry(
    _ kind: ORCEntry.Kind = .call, sp: ORCEntry.Register = .sp, _ offset: Int16 = 16,
    bp: ORCEntry.Register = .undefined, bpOffset: Int16 = 0
  ) -> ORCEntry {
    ORCEntry(spOffset: offset, bpOffset: bpOffset, spRegister: sp, bpRegister: bp, kind: kind, isSignal: false)
  }

  private func isBroken(_ unwinding: StackReader.Unwinding) -> Bool {
    if case .broken? = unwinding.ending { true } else { false }
  }

  @Test func callsFollowEachOtherToTheEnd() {
    var unwinding = unwinding([0, Self.text + 0x200, 0, Self.text + 0x300])
    unwinding.step(.success(entry()))
    unwinding.step(.success(entry()))
    #expect(unwinding.addresses == [0x100, 0x200, 0x300].map { Self.text + $0 } && unwinding.ending == nil)
    unwinding.step(.success(entry(.endOfStack)))
    guard case .complete? = unwinding.ending else {
      Issue.record("the stack does not end")
      return
    }
    #expect(unwinding.addresses.count == 3)
  }

  /// The last frame holds what the task had in user mode.
  @Test func registersOfUserModeEndIt() {
    // r13, bp, r10, dx, di, ip, cs, flags, sp, ss
    var unwinding = unwinding([0, 0, 0, 0, 0, 0x7fff_0000, 0x33, 0, 0x7ffe_0000, 0x2b])
    unwinding.step(.success(entry(.registers, 0)))
    guard case .complete? = unwinding.ending else {
      Issue.record("the stack does not end")
      return
    }
    #expect(unwinding.addresses == [Self.text + 0x100])
  }

  @Test(arguments: [Int16.min, -16, -8, 0, 4, 7, 8000, .max]) func framesThatDoNotGoUp(offset: Int16) {
    for sp in [ORCEntry.Register.sp, .bp, .bpIndirect, .spIndirect] {
      var unwinding = unwinding([Self.stack, Self.text + 0x200, Self.stack, Self.text])
      for _ in 0..<10 { unwinding.step(.success(entry(sp: sp, offset))) }
      #expect(isBroken(unwinding) && unwinding.addresses.count <= 3)
    }
  }

  @Test(arguments: [0, 1, 0x7fff_ffff_ffff_ffff, 0xffff_ffff_7fff_ffff, 0xdead_beef_0000_0000] as [UInt64])
  func returnsToNoCode(address: UInt64) {
    var unwinding = unwinding([0, address])
    unwinding.step(.success(entry()))
    #expect(isBroken(unwinding) && unwinding.addresses.count == 1)
    #expect(isBroken(self.unwinding([], ip: address)))
  }

  @Test func registersThatWereNotSaved() {
    for register in [ORCEntry.Register.r10, .r13, .di, .dx, .ax, .undefined, .previousSP] {
      var unwinding = unwinding([0, Self.text])
      unwinding.step(.success(entry(sp: register)))
      #expect(isBroken(unwinding))
    }
    var unwinding = unwinding([0, Self.text], sp: .max - 8)
    unwinding.step(.success(entry(.partialRegisters, .max)))
    #expect(isBroken(unwinding))
    unwinding = self.unwinding([0, Self.text])
    unwinding.step(.success(entry(bp: .bp, bpOffset: .min)))
    #expect(isBroken(unwinding))
  }

  /// Code of which nothing is known is taken to keep a frame pointer; one that points to itself ends it.
  @Test func framePointersInARing() {
    var unwinding = unwinding([0, Self.stack + 8, Self.text + 0x200, 0])
    for _ in 0..<1000 { unwinding.step(.success(nil)) }
    #expect(isBroken(unwinding) && unwinding.addresses.count <= 3)
  }

  @Test func moreFramesThanAStackHolds() {
    var unwinding = unwinding([UInt64](repeating: Self.text + 0x10, count: 4000))
    for _ in 0..<4000 { unwinding.step(.success(entry(sp: .sp, 8))) }
    #expect(isBroken(unwinding) && unwinding.addresses.count == 512)
  }

  // MARK: Tables

  /// Tables for code of `count` entries, 16 bytes each, and the blocks as `blocks` has them.
  private func tables(
    count: Int, blocks: [UInt32]?, functionStart: UInt64? = nil, _ change: (inout SyntheticLinux) -> Void = { _ in }
  ) throws -> (tables: ORCTables, space: AddressSpace) {
    var linux = SyntheticLinux()
    for index in 0..<min(count, 1000) {
      let place = Self.places + UInt64(index) * 4
      linux.put(bytes(UInt32(truncatingIfNeeded: Self.text &+ UInt64(index) * 16 &- place)), at: place)
      // 16 and 0 from the stack pointer, no frame pointer, a call.
      linux.put([UInt8(truncatingIfNeeded: index), 0, 0, 0, 5, 0, 2, 0], at: Self.entries + UInt64(index) * 8)
    }
    let all = blocks ?? (0...64).map { UInt32($0) * 16 }
    for (index, block) in all.enumerated() { linux.put(bytes(block), at: Self.lookup + UInt64(index) * 4) }
    linux.put(Self.module, at: Self.module)
    change(&linux)
    let tables = try ORCTables(
      types: types, text: Self.text..<Self.text + 0x4000, lookup: (VirtualAddress(Self.lookup), all.count),
      own: ORCTables.Table(
        places: VirtualAddress(Self.places), entries: VirtualAddress(Self.entries), count: count),
      functionStart: functionStart.map(VirtualAddress.init))
    return (tables, try Kernel(memory: linux.memory).addressSpace)
  }

  private func find(_ offset: UInt64, _ found: (tables: ORCTables, space: AddressSpace)) throws -> ORCEntry? {
    let address = Self.text + offset
    return try found.tables.entries(for: [address], modules: [], in: found.space)[address]?.get()
  }

  @Test func entriesOfTheirCode() throws {
    let tables = try tables(count: 1000, blocks: nil)
    for (offset, index) in [(0, 0), (15, 0), (16, 1), (255, 15), (256, 16), (257, 16), (4000, 250)] as [(UInt64, Int16)]
    {
      #expect(try find(offset, tables)?.spOffset == index & 0xff, "\(offset)")
    }
    #expect(try find(0x100_0000, tables) == nil)
  }

  /// Kernels number the registers of these tables in two ways.
  ///
  /// That of `sp`, on which a frame hangs where a function starts, tells them apart.
  @Test(arguments: [(5, 9, 8), (3, 9, 10), (4, 9, 8), (15, 0, 0)] as [(UInt8, UInt8, UInt8)])
  func numbersOfRegisters(sp: UInt8, spIndirect: UInt8, bpIndirect: UInt8) throws {
    func put(_ index: UInt64, sp: UInt8, bp: UInt8, _ linux: inout SyntheticLinux) {
      linux.put([0, 0, 0, 0, sp, bp, 2, 0], at: Self.entries + index * 8)
    }
    let tables = try tables(count: 1000, blocks: nil, functionStart: Self.text + 160) { linux in
      put(10, sp: sp, bp: 0, &linux)
      put(11, sp: spIndirect, bp: 0, &linux)
      put(12, sp: bpIndirect, bp: sp == 3 ? 8 : 1, &linux)
    }
    guard sp == 5 || sp == 3 else {
      #expect(throws: MemoryFault.self) { try find(11 * 16, tables) }
      return
    }
    #expect(try find(11 * 16, tables)?.spRegister == .spIndirect)
    let last = try find(12 * 16, tables)
    #expect(last?.spRegister == .bpIndirect && last?.bpRegister == .previousSP)
  }

  @Test(arguments: [[0, 0], [5, 2], [.max, .max], [0, .max], [999, 1001], [2000, 3000]] as [[UInt32]])
  func blocksBeyondTheTables(blocks: [UInt32]) throws {
    let tables = try tables(count: 1000, blocks: blocks)
    let result = tables.tables.entries(for: [Self.text + 8], modules: [], in: tables.space)
    #expect(result.count == 1)
    if blocks[1] >= 1000 || blocks[0] > blocks[1] {
      #expect(throws: MemoryFault.self) { try result[Self.text + 8]?.get() }
    }
  }

  private func module(at address: UInt64, parts: [Range<UInt64>]) -> LoadedModule {
    LoadedModule(
      name: [], address: VirtualAddress(address), parts: parts, tables: VirtualAddress(0), exports: VirtualAddress(0),
      exportCount: 0)
  }

  @Test(arguments: [1, 2, 1 << 20, 1 << 24, 1 << 30, .max] as [UInt32])
  func modulesWithAbsurdCounts(count: UInt32) throws {
    let tables = try tables(count: 10, blocks: nil) { linux in
      linux.put(bytes(count), at: Self.module + 0x110)
      linux.put(Self.places, at: Self.module + 0x118)
      linux.put(Self.entries, at: Self.module + 0x120)
    }
    var faults: [MemoryFault] = []
    let code = Self.text + 0x8000..<Self.text + 0x9000
    let modules = tables.tables.moduleTables(
      of: [module(at: Self.module + 0x100, parts: [code])], in: tables.space, &faults)
    #expect(faults.isEmpty == (count <= 1 << 24) && modules.count == (count <= 1 << 24 ? 1 : 0))
    let found = tables.tables.entries(for: [code.lowerBound], modules: modules, in: tables.space)
    #expect(found.count == 1)
  }

  /// A module's table has the code that ran once at its start, which may lie far off: another's code may lie between.
  @Test func tablesOfModulesSpeakOfTheirOwnMemory() throws {
    let (first, second) = (Self.text + 0x8000, Self.text + 0x9000)
    // The first one's code lies before the second's, and what ran at its start behind it.
    let codes = [[first, first + 0x10, second + 0x1000], [second, second + 0x20]]
    let tables = try tables(count: 10, blocks: nil) { linux in
      for (index, codes) in codes.enumerated() {
        let module = Self.module + UInt64(index + 1) * 0x100
        let places = Self.places + UInt64(index + 1) * 0x1000
        linux.put(bytes(UInt32(codes.count)), at: module + 0x10)
        linux.put(places, at: module + 0x18)
        linux.put(Self.entries + UInt64(index * 3) * 8, at: module + 0x20)
        for (position, code) in codes.enumerated() {
          let place = places + UInt64(position) * 4
          linux.put(bytes(UInt32(truncatingIfNeeded: code &- place)), at: place)
        }
      }
    }
    var faults: [MemoryFault] = []
    let modules = tables.tables.moduleTables(
      of: [
        module(at: Self.module + 0x100, parts: [first..<first + 0x1000]),
        module(at: Self.module + 0x200, parts: [second..<second + 0x1000]),
      ], in: tables.space, &faults)
    #expect(faults.isEmpty && modules.count == 2)
    let addresses = [first + 0x18, second + 0x10, second + 0x30]
    let found = tables.tables.entries(for: addresses, modules: modules, in: tables.space)
    #expect(try addresses.map { try found[$0]?.get()?.spOffset } == [1, 3, 4])
  }
}

/// Trees of processes that no kernel makes.
struct HostileForestTests {
  private func tasks(_ parents: [Int32: Int32]) throws -> [KernelTask] {
    let kernel = try Kernel(memory: SyntheticLinux().memory)
    let pattern = try #require(try kernel.tasks().tasks.first)
    return parents.sorted { $0.key < $1.key }.map { id, parent in
      var task = pattern
      (task.tid, task.tgid, task.ppid) = (id, id, parent)
      return task
    }
  }

  @Test func parentsBeforeTheirChildren() throws {
    let nodes = TaskForest(try tasks([1: 0, 2: 0, 3: 1, 4: 3, 5: 1, 6: 99])).nodes
    #expect(nodes.map(\.task.tid) == [1, 3, 4, 5, 2, 6])
    #expect(nodes.map(\.depth) == [0, 1, 2, 1, 0, 0])
    #expect(nodes[1].continues == [true] && nodes[2].continues == [true, false] && nodes[3].continues == [false])
  }

  @Test func ringsOfParents() throws {
    // Its own parent; two that are each other's; three in a ring with a child.
    let nodes = TaskForest(try tasks([1: 1, 2: 3, 3: 2, 4: 6, 5: 4, 6: 5, 7: 6])).nodes
    #expect(nodes.map(\.task.tid).sorted() == [1, 2, 3, 4, 5, 6, 7])
    #expect(nodes[0].task.tid == 1 && nodes.last?.task.tid == 7)
  }

  @Test func deeperThanAnybodyLooks() throws {
    var parents: [Int32: Int32] = [:]
    for id in 1...3000 { parents[Int32(id)] = Int32(id) - 1 }
    let nodes = TaskForest(try tasks(parents)).nodes
    #expect(nodes.count == 3000 && nodes.map(\.depth).max() == 256)
  }
}
