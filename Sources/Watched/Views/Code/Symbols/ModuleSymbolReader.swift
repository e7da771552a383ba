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

  typealias Field = FieldSelection.Field
  private let tables: FieldSelection
  private let symbols, count, strings, types: Field
  private let layout: ModuleSymbols.Layout
  private let exportSize, exportValue: Int

  /// More symbols than a module has, and all modules together; and more bytes of names.
  private static let mostSymbols: UInt64 = 1 << 18
  private static let symbolBudget: UInt64 = 1 << 20
  private static let longestText: UInt64 = 16 << 20
  private static let textBudget: UInt64 = 64 << 20

  init(kernel: Kernel) throws { try self.init(types: kernel.types) }

  init(types: TypeTable) throws(KernelInfoError) {
    var fields = FieldSelection(try types.structure("mod_kallsyms"))
    symbols = try fields.want("symtab")
    count = try fields.want("num_symtab")
    strings = try fields.want("strtab")
    self.types = try fields.want("typetab")
    tables = fields
    let symbol = try types.structure("elf64_sym")
    fields = FieldSelection(symbol)
    layout = ModuleSymbols.Layout(
      size: symbol.size, name: try fields.want("st_name"), section: try fields.want("st_shndx"),
      value: try fields.want("st_value"))
    let export = try types.structure("kernel_symbol")
    exportSize = export.size
    // With CONFIG_HAVE_ARCH_PREL32_RELOCATIONS, which x86-64 has: a distance from where it stands.
    exportValue = try export.field("value_offset").offset
  }

  /// The symbols of each of `modules`, or why they cannot be had. Cost: three round trips.
  func read(_ modules: [LoadedModule], in space: AddressSpace) -> [Result<ModuleSymbols, MemoryFault>] {
    let heads = space.read(tables, at: modules.map(\.tables))
    var results = [Result<ModuleSymbols, MemoryFault>?](repeating: nil, count: modules.count)
    var left = Self.symbolBudget
    var batch = ReadBatch<VirtualAddress>()
    var open: [(index: Int, first: Int, text: VirtualAddress)] = []
    for (index, module) in modules.enumerated() {
      do throws(MemoryFault) {
        let number = try heads.load(index, count)
        let (start, letters) = (try heads.pointer(index, symbols), try heads.pointer(index, types))
        guard number <= Self.mostSymbols, module.exportCount <= Self.mostSymbols, number <= left else {
          throw fault(module, "\(number) symbols, of which it offers \(module.exportCount)")
        }
        guard has(module, start, number * UInt64(layout.size)), has(module, letters, number),
          has(module, module.exports, module.exportCount * UInt64(exportSize))
        else { throw fault(module, "tables of symbols outside its memory") }
        left -= number
        let first = batch.add(start, count: Int(number) * layout.size)
        batch.add(letters, count: Int(number))
        batch.add(module.exports, count: Int(module.exportCount) * exportSize)
        open.append((index, first, try heads.pointer(index, strings)))
      } catch {
        results[index] = .failure(error)
      }
    }
    if !open.isEmpty { space.read(&batch) }

    var texts = ReadBatch<VirtualAddress>()
    var textLeft = Self.textBudget
    var readable: [(index: Int, first: Int)] = []
    for (index, first, start) in open {
      let module = modules[index]
      do throws(MemoryFault) {
        let reader = try batch.reader(first)
        var last: UInt64 = 0
        for symbol in 0..<reader.count / layout.size {
          last = max(last, UInt64(try reader.u32(symbol * layout.size + layout.name.offset)))
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
        texts.add(start, count: Int(length))
        readable.append((index, first))
      } catch {
        results[index] = .failure(error)
      }
    }
    if !readable.isEmpty { space.read(&texts) }
    for (entry, (index, first)) in readable.enumerated() {
      do throws(MemoryFault) {
        results[index] = .success(
          try ModuleSymbols(
            module: String(decoding: modules[index].name, as: UTF8.self), parts: modules[index].parts,
            symbols: try batch.reader(first), types: try batch.reader(first + 1), text: try texts.reader(entry).copy(),
            exports: try exports(try batch.reader(first + 2), at: modules[index].exports), layout: layout))
      } catch {
        results[index] = .failure(error)
      }
    }
    return modules.indices.map { results[$0] ?? .failure(fault(modules[$0], "no symbols")) }
  }

  private func fault(_ module: LoadedModule, _ what: String) -> MemoryFault {
    MemoryFault(.virtual(module.address), .inconsistent("a module with \(what)"))
  }

  /// Whether `count` bytes from `start` lie in one part of the module; no bytes lie anywhere.
  private func has(_ module: LoadedModule, _ start: VirtualAddress, _ count: UInt64) -> Bool {
    count == 0 || module.parts.contains { $0.contains(start.rawValue) && $0.upperBound - start.rawValue >= count }
  }

  private func exports(_ reader: borrowing ByteReader, at start: VirtualAddress) throws(MemoryFault) -> Set<UInt64> {
    var exports: Set<UInt64> = []
    for index in 0..<reader.count / exportSize {
      let place = index * exportSize + exportValue
      let distance = Int64(try reader.load(place, as: Int32.self))
      exports.insert((start + place).rawValue &+ UInt64(bitPattern: distance))
    }
    return exports
  }
}
