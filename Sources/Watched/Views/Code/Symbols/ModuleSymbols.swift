package import Binding
import KernelInfo
import LinuxKernel
package import Memory

/// The symbols of one loaded module, decoded from the tables that it brought along.
///
/// Mirrors `find_kallsyms_symbol` and `module_get_kallsym` in kernel/module/kallsyms.c.
package struct ModuleSymbols: Sendable {
  package struct Entry: Sendable {
    package let address: UInt64
    /// Where its name lies in the module's strings.
    package let name: Range<Int>
    /// The letter that /proc/kallsyms prints.
    package let type: UInt8
    /// Its number in the module's table.
    fileprivate let index: Int
  }

  package let module: String
  /// What the module has of memory: a symbol holds up to the next one or the end of its part.
  package let parts: [Range<UInt64>]
  private let text: [UInt8]
  /// Those that code and data belong to, in ascending order of address, equal ones as in the module's table.
  private let places: [Entry]
  /// Marks of the assembler, and what the module lacks itself: listed, but nothing belongs to them.
  private let others: [Entry]
  /// Symbols whose names lie outside the module's strings; they are left out.
  package let unnamed: Int

  /// A symbol of an ELF file.
  package struct Symbol: KernelShape {
    package static let type = "elf64_sym"
    let name = Place("st_name")
    let section = Place("st_shndx")
    let value = Place("st_value")
    package init() {}
  }

  /// - Parameters:
  ///   - symbols: `symtab`: a symbol every `symbol.size` bytes, the first one void.
  ///   - types: `typetab`: a letter each.
  ///   - text: `strtab`: names, each ended by a zero.
  ///   - exports: the addresses of what the module offers to all others: their letters are upper case.
  package init(
    module: String, parts: [Range<UInt64>], symbols: borrowing ByteReader, types: borrowing ByteReader, text: [UInt8],
    exports: Set<UInt64>, symbol: Bound<Symbol>
  ) throws(MemoryFault) {
    self.module = module
    self.parts = parts
    self.text = text
    var places: [Entry] = []
    var others: [Entry] = []
    var unnamed = 0
    let names = ByteReader(text.span.bytes)
    let (nameOffset, sectionOffset, valueOffset) = (symbol.name.offset, symbol.section.offset, symbol.value.offset)
    for index in 0..<symbols.count / max(symbol.size, 1) {
      let base = index * symbol.size
      let start = Int(try symbols.u32(base + nameOffset))
      guard let name = try? names.cString(start, limit: Self.longestName), start + name.count < text.count,
        name.count < Self.longestName
      else {
        unnamed += 1
        continue
      }
      if name.isEmpty { continue }
      let address = try symbols.u64(base + valueOffset)
      let letter = try types.u8(index)
      let isUpper = exports.contains(address)
      let entry = Entry(
        address: address, name: start..<start + name.count, type: isUpper ? letter & ~0x20 : letter | 0x20,
        index: index)
      // SHN_UNDEF, include/uapi/linux/elf.h.
      if try symbols.u16(base + sectionOffset) == 0 || Self.isMark(name) {
        others.append(entry)
      } else {
        places.append(entry)
      }
    }
    places.sort { ($0.address, $0.index) < ($1.address, $1.index) }
    self.places = places
    self.others = others
    self.unnamed = unnamed
  }

  /// `KSYM_NAME_LEN`.
  package static let longestName = 512

  /// Source: `is_mapping_symbol`, include/linux/module_symbol.h.
  private static func isMark(_ name: [UInt8]) -> Bool {
    name.starts(with: ".L".utf8) || name.starts(with: "L0".utf8)
      || name.count > 1 && name[0] == UInt8(ascii: "$") && "adtx".utf8.contains(name[1])
        && (name.count == 2 || name[2] == UInt8(ascii: "."))
  }

  /// The symbol that `address` belongs to. Cost: a binary search.
  package func place(of address: VirtualAddress) -> SymbolPlace? {
    guard let part = parts.first(where: { $0.contains(address.rawValue) }) else { return nil }
    let above = firstPlace { $0 > address.rawValue }
    guard above > 0, part.contains(places[above - 1].address) else { return nil }
    let start = places[above - 1].address
    return self.place(places[firstPlace { $0 >= start }], offset: address.rawValue - start)
  }

  package func places(named name: String) -> [SymbolPlace] {
    let wanted = Array(name.utf8)
    return (places + others).filter { text[$0.name].elementsEqual(wanted) }.map { place($0, offset: 0) }
  }

  /// Every symbol, in the order of the module's table.
  package var all: [SymbolPlace] { (places + others).sorted { $0.index < $1.index }.map { place($0, offset: 0) } }

  private func place(_ entry: Entry, offset: UInt64) -> SymbolPlace {
    var size: UInt64?
    if let part = parts.first(where: { $0.contains(entry.address) }) {
      let above = firstPlace { $0 > entry.address }
      size = (above < places.count ? min(places[above].address, part.upperBound) : part.upperBound) - entry.address
    }
    return SymbolPlace(
      name: String(decoding: text[entry.name], as: UTF8.self), type: Character(Unicode.Scalar(entry.type)),
      address: VirtualAddress(entry.address), size: size, offset: offset, module: module)
  }

  /// The first place whose address satisfies `condition`, which all later ones satisfy too.
  private func firstPlace(where condition: (UInt64) -> Bool) -> Int {
    var low = 0
    var high = places.count
    while low < high {
      let middle = (low + high) / 2
      if condition(places[middle].address) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
