import KernelInfo
import Memory
import Paging

/// Whose an address of code is: the kernel's text from `_stext` to `_etext`, or a module's memory.
///
/// Modules keep their memory as up to seven regions from 6.4 on, before as one layout for as long as they live and one
/// until they are initialised.
/// Source: include/linux/module.h, `within_module`.
struct CodeMap: KernelReader {
  static let subject = "the modules' memory"

  typealias Field = FieldSelection.Field
  private let text: Range<UInt64>
  private let early: Range<UInt64>
  private let symbols: SymbolTable
  private let modules: Modules?

  /// Where the list of modules lies, and what is read of each.
  fileprivate struct Modules {
    let head: VirtualAddress
    let link: Int
    let fields: FieldSelection
    let name, tables, exports, exportCount: Field
    /// Parts of memory: where each starts, how far it goes, and where the code in it ends, which is at its start.
    let parts: [(base: Field, size: Field, code: Field?)]
    let symbols: ModuleSymbolReader
  }

  /// The modules at one moment; their symbols are read when they are asked for.
  struct Snapshot {
    fileprivate(set) var modules: [ModuleSymbolReader.Module] = []
    fileprivate let text: Range<UInt64>
    fileprivate let early: Range<UInt64>
    fileprivate let symbols: SymbolTable
    fileprivate let moduleSymbols: ModuleSymbolCache?
    var faults: [MemoryFault] = []

    /// What could not be read of the symbols that were asked for so far.
    var symbolFaults: [MemoryFault] { moduleSymbols?.faults ?? [] }

    private func isKernel(_ address: VirtualAddress) -> Bool {
      text.contains(address.rawValue) || early.contains(address.rawValue)
    }

    private func module(of address: VirtualAddress) -> ModuleSymbolReader.Module? {
      modules.first { $0.parts.contains { $0.contains(address.rawValue) } }
    }

    /// Whose code it is, with the symbol as the kernel writes it. Cost: three round trips for the first one of a module.
    func place(of address: VirtualAddress) -> CodePlace {
      let symbol = symbol(at: address).map { place in
        "\(place.name)+0x\(String(place.offset, radix: 16))\(place.module.map { " [\($0)]" } ?? "")"
      }
      if isKernel(address) { return CodePlace(address: address, owner: .kernel, symbol: symbol) }
      let module = module(of: address)
      return CodePlace(address: address, owner: module.map { .module($0.name) } ?? .unknown, symbol: symbol)
    }

    /// The module that `address` belongs to.
    func moduleName(of address: VirtualAddress) -> [UInt8]? { isKernel(address) ? nil : module(of: address)?.name }

    /// The symbol that `address` belongs to, of the kernel's text or of a module.
    func symbol(at address: VirtualAddress) -> SymbolPlace? {
      if isKernel(address) { return SymbolMap(image: symbols).place(of: address) }
      return module(of: address).flatMap { moduleSymbols?.symbols(of: $0) }?.place(of: address)
    }

    /// All symbols, both ways. Cost: three round trips.
    func symbolMap() -> SymbolMap {
      let read = moduleSymbols?.read(modules) ?? []
      return SymbolMap(image: symbols, modules: read, faults: faults + symbolFaults)
    }
  }

  init(kernel: Kernel) throws {
    let start = try kernel.symbol("_stext", for: Self.self).rawValue
    text = start..<max(start, try kernel.symbol("_etext", for: Self.self).rawValue)
    // Vectors that no exception uses keep the gates that the boot gave all 32 (arch/x86/kernel/head_64.S).
    let gates = kernel.symbols.address(of: "early_idt_handler_array")
    let size = gates.flatMap { kernel.symbols.size(ofSymbolAt: $0) } ?? 0
    early = gates.map { $0.rawValue..<max($0.rawValue, $0.rawValue &+ min(size, 4096)) } ?? 0..<0
    symbols = kernel.symbols
    modules = try Modules(kernel)
  }

  func snapshot(in space: AddressSpace) -> Snapshot {
    var snapshot = Snapshot(
      text: text, early: early, symbols: symbols,
      moduleSymbols: modules.map { ModuleSymbolCache(reader: $0.symbols, space: space) })
    guard let modules else { return snapshot }
    let members = ListWalker(space: space, form: .circular, limit: 1 << 14).members(ofHeads: [modules.head])
    snapshot.faults = members.faults
    let reads = space.read(modules.fields, at: members.lists[0].map { $0 - modules.link })
    for index in reads.indices {
      do throws(MemoryFault) {
        snapshot.modules.append(try modules.module(reads, index))
      } catch {
        snapshot.faults.append(error)
      }
    }
    return snapshot
  }
}

extension CodeMap.Modules {
  /// Nil for a kernel without modules.
  init?(_ kernel: Kernel) throws {
    guard let head = kernel.symbols.address(of: "modules") else { return nil }
    self.head = head
    let structure = try kernel.types.structure("module")
    link = try structure.field("list").offset
    var fields = FieldSelection(structure)
    name = try fields.want("name")
    tables = try fields.want("kallsyms")
    exports = try fields.want("syms")
    exportCount = try fields.want("num_syms")
    var parts: [(base: FieldSelection.Field, size: FieldSelection.Field, code: FieldSelection.Field?)] = []
    if structure.hasField("core_layout") {
      for layout in ["core_layout", "init_layout", "data_layout"] where structure.hasField(layout) {
        parts.append(
          (
            try fields.want("\(layout).base"), try fields.want("\(layout).size"), try fields.want("\(layout).text_size")
          ))
      }
    } else {
      let array = try structure.field("mem")
      let region = try kernel.types.structure("module_memory")
      let (base, size) = (try region.field("base").offset, try region.field("size").offset)
      for index in 0..<min(array.elementCount ?? 0, 16) {
        let start = array.offset + index * array.elementSize
        parts.append((fields.want(offset: start + base, size: 8), fields.want(offset: start + size, size: 4), nil))
      }
    }
    self.parts = parts
    self.fields = fields
    symbols = try kernel.reader(ModuleSymbolReader.self)
  }

  func module(_ reads: StructReads, _ index: Int) throws(MemoryFault) -> ModuleSymbolReader.Module {
    var module = ModuleSymbolReader.Module(
      name: try reads.string(index, name), address: reads.addresses[index], parts: [],
      tables: try reads.pointer(index, tables), exports: try reads.pointer(index, exports),
      exportCount: try reads.load(index, exportCount))
    for part in parts {
      let start = try reads.load(index, part.base)
      let (end, overflow) = start.addingReportingOverflow(try reads.load(index, part.size))
      guard start != 0, start < end, !overflow else { continue }
      let code = try part.code.map { field throws(MemoryFault) in try reads.load(index, field) } ?? 0
      if code > 0, code < end - start {
        // The last function ends where the code does.
        module.parts += [start..<start + code, start + code..<end]
      } else {
        module.parts.append(start..<end)
      }
    }
    return module
  }
}
