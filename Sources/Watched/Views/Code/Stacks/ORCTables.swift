import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Where a function's caller is to be found: one entry of the tables that the kernel has for unwinding.
struct ORCEntry: Hashable, Sendable {
  /// What a frame hangs on. Source: `ORC_REG_*` of arch/x86/include/asm/orc_types.h.
  enum Register: Sendable {
    case undefined, previousSP, ax, dx, di, bp, sp, r10, r13, bpIndirect, spIndirect
  }

  /// Which number stands for which register, by its index.
  ///
  /// The numbers are macros, of which the kernel's type information says nothing, and were given anew between 6.18 and
  /// 7.1. So the tables themselves are asked: at a function's first instruction a frame hangs on `sp`.
  struct Numbering: Sendable {
    let registers: [Register]

    private static let all = [
      Numbering(registers: [.undefined, .previousSP, .dx, .di, .bp, .sp, .r10, .r13, .bpIndirect, .spIndirect]),
      Numbering(registers: [.undefined, .ax, .dx, .sp, .bp, .di, .r10, .r13, .previousSP, .spIndirect, .bpIndirect]),
    ]

    static let first = all[0]

    /// The numbering in which `number` stands for `sp`; nil where there is none.
    init?(sp number: UInt64) {
      guard let numbering = Self.all.first(where: { $0[number] == .sp }) else { return nil }
      self = numbering
    }

    private init(registers: [Register]) { self.registers = registers }

    subscript(_ number: UInt64) -> Register? {
      number < UInt64(registers.count) ? registers[Int(number)] : nil
    }
  }

  /// How a frame ends, in the order of `ORC_TYPE_*` from 6.4 on.
  enum Kind: UInt8, Sendable {
    case undefined, endOfStack, call, registers, partialRegisters
  }

  var spOffset: Int16
  var bpOffset: Int16
  var spRegister: Register
  var bpRegister: Register
  var kind: Kind
  /// Whether the address is that of an instruction that was interrupted, not one that a call returns to.
  var isSignal: Bool

  /// What generated code is taken to do: keep a frame pointer. Source: `orc_fp_entry` of arch/x86/kernel/unwind_orc.c.
  static let framePointer = ORCEntry(
    spOffset: 16, bpOffset: -16, spRegister: .bp, bpRegister: .previousSP, kind: .call, isSignal: false)
}

/// The kernel's tables for unwinding, its own and those of modules.
///
/// Two tables beside each other, in ascending order of code: 32-bit distances from where each stands to the code, and
/// entries of six bytes, which hold from there to the next. For the kernel's own text a third one says for each block of
/// 256 bytes where to search.
///
/// Source: arch/x86/kernel/unwind_orc.c, `orc_find`; arch/x86/include/asm/orc_types.h.
struct ORCTables: KernelReader {
  static let subject = "the tables for unwinding"

  private let text: Range<UInt64>
  private let lookup: VirtualAddress
  private let lookupCount: Int
  private let own: Table
  /// Where a function of the kernel's own starts.
  private let functionStart: UInt64?
  private let entry: Bound<Entry>
  private let module: Bound<Module>

  private struct Module: KernelShape {
    static let type = "module"
    let count = Field<UInt64>("arch.num_orcs")
    let places = Field<VirtualAddress>("arch.orc_unwind_ip")
    let entries = Field<VirtualAddress>("arch.orc_unwind")
  }

  /// Pairs of tables.
  struct Table: Hashable, Sendable {
    var places: VirtualAddress
    var entries: VirtualAddress
    var count: Int
  }

  /// What is read of an entry, whose bits were arranged anew in 6.3 and 6.4.
  private struct Entry: KernelShape {
    static let type = "orc_entry"
    let spOffset = Field<Int16>("sp_offset")
    let bpOffset = Field<Int16>("bp_offset")
    let spRegister = Field<UInt64>("sp_reg")
    let bpRegister = Field<UInt64>("bp_reg")
    let kind = Field<UInt8>("type")
    // Until 6.3 a bit of its own says that the stack ends.
    let end = Field<Bool>(optional: "end")
    // Since 6.3; where it is not said, frames that hold registers were interrupted.
    let signal = Field<Bool>(optional: "signal")
  }

  private static func entry(
    _ entry: Reading<Entry>, _ numbering: ORCEntry.Numbering
  ) throws(MemoryFault) -> ORCEntry {
    let (sp, bp) = (numbering[try entry.spRegister], numbering[try entry.bpRegister])
    var number = try entry.kind
    if entry.shape.end.isPresent {
      // Calls were 0, registers 1 and 2; no register meant nothing known, or the end.
      number = sp == .undefined ? (try entry.end ? 1 : 0) : number + 2
    }
    guard let sp, let bp, let kind = ORCEntry.Kind(rawValue: number) else {
      throw MemoryFault(.offset(0), .inconsistent("an entry for unwinding of a form that there is not"))
    }
    let isSignal =
      entry.shape.signal.isPresent ? try entry.signal : kind.rawValue >= ORCEntry.Kind.registers.rawValue
    return ORCEntry(
      spOffset: try entry.spOffset, bpOffset: try entry.bpOffset, spRegister: sp, bpRegister: bp, kind: kind,
      isSignal: isSignal)
  }

  /// More entries than any kernel or module has.
  private static let mostEntries = 1 << 24

  init(kernel: Kernel) throws {
    let start = try kernel.symbol("_stext", for: Self.self)
    let end = try kernel.symbol("_etext", for: Self.self)
    let lookup = try kernel.symbol("orc_lookup", for: Self.self)
    let lookupEnd = try kernel.symbol("orc_lookup_end", for: Self.self)
    let places = try kernel.symbol("__start_orc_unwind_ip", for: Self.self)
    let size = try kernel.symbol("__stop_orc_unwind_ip", for: Self.self).rawValue &- places.rawValue
    try self.init(
      types: kernel.types, text: start.rawValue..<max(start.rawValue, end.rawValue),
      lookup: (lookup, Int(clamping: lookupEnd.rawValue &- lookup.rawValue) / 4),
      own: Table(
        places: places, entries: try kernel.symbol("__start_orc_unwind", for: Self.self),
        count: min(Int(clamping: size) / 4, Self.mostEntries)),
      functionStart: kernel.symbols.address(of: "schedule"))
  }

  /// - Parameters:
  ///   - lookup: the table of blocks, and how many there are.
  ///   - functionStart: where a function of that text starts, which tells how registers are numbered; nil for
  ///     ``ORCEntry/Numbering/first``.
  init(
    types: TypeTable, text: Range<UInt64>, lookup: (start: VirtualAddress, count: Int), own: Table,
    functionStart: VirtualAddress? = nil
  ) throws(KernelInfoError) {
    self.text = text
    self.lookup = lookup.start
    lookupCount = lookup.count
    self.own = own
    self.functionStart = functionStart?.rawValue
    entry = try Bound(types)
    module = try Bound(types)
  }

  /// A module's tables, and the parts of memory that they speak of.
  struct ModuleTable: Sendable {
    var table: Table
    var parts: [Range<UInt64>]
  }

  /// The tables of those of `modules` that have some. Cost: a round trip.
  ///
  /// Which table speaks of an address, only the module's memory says: a table has the code that ran at first as well, which
  /// may lie anywhere.
  func moduleTables(
    of modules: [LoadedModule], in space: AddressSpace, _ faults: inout [MemoryFault]
  ) -> [ModuleTable] {
    space.read(module, at: modules.map(\.address)).compactMap(&faults) { (module) throws(MemoryFault) in
      let count = try module.count
      guard count > 0 else { return nil }
      guard count <= Self.mostEntries else {
        throw MemoryFault(.virtual(module.address), .inconsistent("a module with \(count) entries for unwinding"))
      }
      return ModuleTable(
        table: Table(places: try module.places, entries: try module.entries, count: Int(count)),
        parts: modules[module.index].parts)
    }
  }

  /// The address that a place in the first table names: it is told as a distance from the place itself.
  private static func code(
    _ batch: borrowing ReadBatch<VirtualAddress>, _ index: Int, _ place: VirtualAddress
  ) throws(MemoryFault) -> UInt64 {
    place.rawValue &+ UInt64(bitPattern: Int64(try batch.reader(index).load(0, as: Int32.self)))
  }

  /// A search among the entries of one table: the last whose code starts at or below an address.
  private struct Search {
    var address: UInt64
    var table: Table
    var low: Int
    var high: Int
  }

  /// The entry for each of `addresses`; nil for code of which nothing is known.
  ///
  /// Cost: four round trips for the kernel's own text; for modules one more for each halving of their tables.
  func entries(
    for addresses: [UInt64], modules: [ModuleTable], in space: AddressSpace
  ) -> [UInt64: Result<ORCEntry?, MemoryFault>] {
    var results: [UInt64: Result<ORCEntry?, MemoryFault>] = [:]
    var searches: [Search] = []
    var blocks = ReadBatch<VirtualAddress>()
    var blocked: [UInt64] = []
    for address in addresses + (functionStart.map { [$0] } ?? []) {
      let block = Int(clamping: (address &- text.lowerBound) / 256)
      if text.contains(address), block + 1 < lookupCount {
        blocks.add(lookup + block * 4, count: 8)
        blocked.append(address)
      } else if let module = modules.first(where: { $0.parts.contains { $0.contains(address) } }) {
        searches.append(Search(address: address, table: module.table, low: 0, high: module.table.count))
      } else {
        results[address] = .success(nil)
      }
    }
    space.read(&blocks)
    for (index, address) in blocked.enumerated() {
      do throws(MemoryFault) {
        let reader = try blocks.reader(index)
        // The block's first entry may begin before it; the next one's bounds the search.
        let (low, high) = (Int(try reader.u32(0)), Int(try reader.u32(4)) + 1)
        guard low < high, high <= own.count else {
          throw MemoryFault(
            .virtual(VirtualAddress(address)), .inconsistent("a block of code beyond the tables for unwinding"))
        }
        searches.append(Search(address: address, table: own, low: low, high: high))
      } catch {
        results[address] = .failure(error)
      }
    }
    narrow(&searches, in: space, &results)
    let found = space.read(entry, at: searches.map { $0.table.entries + $0.low * entry.size })
    let numbering = Result { () throws(MemoryFault) in try self.numbering(searches, found, results) }
    for (search, entry) in zip(searches, found) {
      results[search.address] = Result { () throws(MemoryFault) in try Self.entry(entry, try numbering.get()) }
    }
    return results
  }

  /// How registers are numbered, as the entry for a function's start says, which is among those found.
  private func numbering(
    _ searches: [Search], _ found: Structs<Entry>,
    _ results: [UInt64: Result<ORCEntry?, MemoryFault>]
  ) throws(MemoryFault) -> ORCEntry.Numbering {
    guard let functionStart else { return .first }
    guard let index = searches.firstIndex(where: { $0.address == functionStart }) else {
      // It could not be looked for.
      _ = try results[functionStart]?.get()
      return .first
    }
    guard let numbering = ORCEntry.Numbering(sp: try found[index].spRegister) else {
      throw MemoryFault(
        .virtual(VirtualAddress(functionStart)), .inconsistent("registers that are numbered as on no kernel known"))
    }
    return numbering
  }

  /// Halves what is left of each search until little is, then looks through that.
  private func narrow(
    _ searches: inout [Search], in space: AddressSpace, _ results: inout [UInt64: Result<ORCEntry?, MemoryFault>]
  ) {
    let few = 64
    // A table of 2^24 is down to one in so many steps.
    for _ in 0..<24 {
      let wide = searches.indices.filter { searches[$0].high - searches[$0].low > few }
      if wide.isEmpty { break }
      var batch = ReadBatch<VirtualAddress>()
      for index in wide {
        let middle = (searches[index].low + searches[index].high) / 2
        batch.add(searches[index].table.places + middle * 4, count: 4)
      }
      space.read(&batch)
      for (position, index) in wide.enumerated() {
        let middle = (searches[index].low + searches[index].high) / 2
        let place = searches[index].table.places + middle * 4
        // What cannot be read is met again below, and told there.
        guard let code = try? Self.code(batch, position, place) else {
          searches[index].high = searches[index].low + 1
          continue
        }
        if code <= searches[index].address { searches[index].low = middle } else { searches[index].high = middle }
      }
    }
    var batch = ReadBatch<VirtualAddress>()
    for search in searches {
      batch.add(search.table.places + search.low * 4, count: min(search.high - search.low, few * 2) * 4)
    }
    space.read(&batch)
    var rest: [Search] = []
    for (index, var search) in searches.enumerated() {
      do throws(MemoryFault) {
        let reader = try batch.reader(index)
        var last = search.low
        for entry in 0..<reader.count / 4 {
          let place = search.table.places + (search.low + entry) * 4
          let code = place.rawValue &+ UInt64(bitPattern: Int64(try reader.load(entry * 4, as: Int32.self)))
          if code <= search.address { last = search.low + entry } else { break }
        }
        search.low = last
        rest.append(search)
      } catch {
        results[search.address] = .failure(error)
      }
    }
    searches = rest
  }
}
