import Binding
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// Reads the symbol tables of loaded modules, of many at once.
///
/// A module keeps the part of its ELF symbol table that is of use at run time, behind `struct mod_kallsyms`. Nothing says
/// how long its strings are: they end with the part of memory that they lie in.
///
/// Source: kernel/module/kallsyms.c, `add_kallsyms` and `is_exported`.
struct ModuleSymbolReader: KernelReader {
  static let subject = "the modules' symbols"

  private struct Tables: KernelShape {
    static let type = "mod_kallsyms"
    let symbols = Field<VirtualAddress>("symtab")
    let count = Field<UInt64>("num_symtab")
    let strings = Field<VirtualAddress>("strtab")
    let letters = Field<VirtualAddress>("typetab")
  }

  private struct Export: KernelShape {
    static let type = "kernel_symbol"
    // With CONFIG_HAVE_ARCH_PREL32_RELOCATIONS, which x86-64 has: a distance from where it stands.
    let value = Field<Int32>("value_offset")
  }

  private let tables: Bound<Tables>
  private let symbol: Bound<ModuleSymbols.Symbol>
  private let export: Bound<Export>

  /// More symbols than a module has, and all modules together; and more bytes of names.
  private static let mostSymbols: UInt64 = 1 << 18
  private static let symbolBudget: UInt64 = 1 << 20
  private static let longestText: UInt64 = 16 << 20
  private static let textBudget: UInt64 = 64 << 20

  init(kernel: Kernel) throws { try self.init(types: kernel.types) }

  init(types: TypeTable) throws(KernelInfoError) {
    tables = try Bound(types)
    symbol = try Bound(types)
    export = try Bound(types)
  }

  /// The symbols of each of `modules`, or why they cannot be had. Cost: three round trips.
  func read(_ modules: [LoadedModule], in space: AddressSpace) -> [Result<ModuleSymbols, MemoryFault>] {
    let heads = space.read(tables, at: modules.map(\.tables))
    var left = Self.symbolBudget
    var batch = ReadBatch<VirtualAddress>()
    let open = zip(modules, heads).map { module, head in
      Result { () throws(MemoryFault) in
        let number = try head.count
        let (start, letters) = (try head.symbols, try head.letters)
        guard number <= Self.mostSymbols, module.exportCount <= Self.mostSymbols, number <= left else {
          throw fault(module, "\(number) symbols, of which it offers \(module.exportCount)")
        }
        guard has(module, start, number * UInt64(symbol.size)), has(module, letters, number),
          has(module, module.exports, module.exportCount * UInt64(export.size))
        else { throw fault(module, "tables of symbols outside its memory") }
        left -= number
        let first = batch.add(start, count: Int(number) * symbol.size)
        batch.add(letters, count: Int(number))
        batch.add(module.exports, count: Int(module.exportCount) * export.size)
        return (first: first, text: try head.strings)
      }
    }
    if !batch.entries.isEmpty { space.read(&batch) }

    var texts = ReadBatch<VirtualAddress>()
    var textLeft = Self.textBudget
    let readable = zip(modules, open).map { module, open in
      Result { () throws(MemoryFault) in
        let (first, start) = try open.get()
        let reader = try batch.reader(first)
        var last: UInt64 = 0
        for index in 0..<reader.count / max(symbol.size, 1) {
          last = max(last, UInt64(try reader.u32(index * symbol.size + symbol.name.offset)))
        }
        guard let part = module.parts.first(where: { $0.contains(start.rawValue) }) else {
          throw fault(module, "names of symbols outside its memory")
        }
        // Names beyond the part are left out one by one.
        let length = min(last + UInt64(ModuleSymbols.longestName), part.upperBound - start.rawValue)
        guard length <= min(textLeft, Self.longestText) else {
          throw fault(module, "\(length) bytes of names")
        }
        textLeft -= length
        return (first: first, text: texts.add(start, count: Int(length)))
      }
    }
    if !texts.entries.isEmpty { space.read(&texts) }
    return zip(modules, readable).map { module, readable in
      Result { () throws(MemoryFault) in
        let (first, text) = try readable.get()
        return try ModuleSymbols(
          module: String(decoding: module.name, as: UTF8.self), parts: module.parts, symbols: try batch.reader(first),
          types: try batch.reader(first + 1), text: try texts.reader(text).copy(),
          exports: try exports(StructArray(export, first + 2, of: batch)), symbol: symbol)
      }
    }
  }

  private func fault(_ module: LoadedModule, _ what: String) -> MemoryFault {
    MemoryFault(.virtual(module.address), .inconsistent("a module with \(what)"))
  }

  /// Whether `count` bytes from `start` lie in one part of the module; no bytes lie anywhere.
  private func has(_ module: LoadedModule, _ start: VirtualAddress, _ count: UInt64) -> Bool {
    count == 0 || module.parts.contains { $0.contains(start.rawValue) && $0.upperBound - start.rawValue >= count }
  }

  private func exports(_ exports: StructArray<Export>) throws(MemoryFault) -> Set<UInt64> {
    var addresses: Set<UInt64> = []
    for export in exports {
      let place = export.address + export.shape.value.offset
      addresses.insert((place + Int(try export.value)).rawValue)
    }
    return addresses
  }
}
