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

/// The symbols of modules, and tables of them made to hurt.
struct ModuleSymbolTests {
  /// The image lends its pages to the module: everything reaches them through the page tables.
  private static let code = SyntheticKernel.base + 0x6_0000
  private static let tables = SyntheticKernel.base + 0x6_1000
  private static let symbols = SyntheticKernel.base + 0x6_2000
  private static let text = SyntheticKernel.base + 0x6_4000
  private static let letters = SyntheticKernel.base + 0x6_5000
  private static let exports = SyntheticKernel.base + 0x6_6000
  private static let names = ["", "alpha", "beta", ".Lmark", "gamma", "offered", "twin", "lacking"]

  private struct Symbol {
    var name: Int
    var value: UInt64
    var section: UInt16 = 1
  }

  /// As the module has them, not in order; a name's number is that of `names`.
  private static let plain = [
    Symbol(name: 0, value: 0, section: 0), Symbol(name: 2, value: code + 0x40), Symbol(name: 1, value: code + 0x10),
    Symbol(name: 3, value: code + 0x18), Symbol(name: 4, value: code + 0x100), Symbol(name: 5, value: code + 0x80),
    Symbol(name: 6, value: code + 0x40), Symbol(name: 7, value: 0, section: 0),
  ]

  /// Where name number `index` starts among the strings.
  private static func start(_ index: Int) -> UInt32 { UInt32(names[..<index].map { $0.utf8.count + 1 }.reduce(0, +)) }

  private static func types() throws -> TypeTable {
    var writer = StructWriter()
    let (u8, u16, u32, u64) = (writer.u8, writer.u16, writer.u32, writer.u64)
    writer.structure(
      "elf64_sym",
      [("st_name", u32), ("st_info", u8), ("st_other", u8), ("st_shndx", u16), ("st_value", u64), ("st_size", u64)])
    writer.structure(
      "mod_kallsyms",
      [
        ("symtab", writer.pointer), ("num_symtab", u32), ("strtab", writer.pointer), ("typetab", writer.pointer),
      ])
    writer.structure("kernel_symbol", [("value_offset", writer.int), ("name_offset", writer.int)])
    return try TypeTable(writer.writer.bytes, release: "test")
  }

  private func read(
    count: UInt32? = nil, strings: UInt64 = text, exportCount: UInt64 = 1, copies: Int = 1,
    parts: [Range<UInt64>] = [code..<code + 0x200, tables..<exports + 0x1000], _ symbols: [Symbol] = plain,
    _ change: (inout SyntheticLinux) -> Void = { _ in }
  ) throws -> [Result<ModuleSymbols, MemoryFault>] {
    var linux = SyntheticLinux()
    for (index, symbol) in symbols.enumerated() {
      linux.put(
        bytes(Self.start(symbol.name), UInt32(symbol.section) << 16) + bytes(symbol.value, UInt64(8)),
        at: Self.symbols + UInt64(index) * 24)
    }
    linux.put(Self.names.flatMap { Array($0.utf8) + [0] }, at: Self.text)
    linux.put([UInt8](repeating: UInt8(ascii: "t"), count: symbols.count), at: Self.letters)
    // From where it stands to `offered`.
    linux.put(
      bytes(Int32(truncatingIfNeeded: Self.code &+ 0x80 &- Self.exports), Int32(0)), at: Self.exports)
    linux.put(bytes(Self.symbols, UInt64(count ?? UInt32(symbols.count)), strings, Self.letters), at: Self.tables)
    change(&linux)
    let module = LoadedModule(
      name: Array("test".utf8), address: VirtualAddress(Self.tables), parts: parts, tables: VirtualAddress(Self.tables),
      exports: VirtualAddress(Self.exports), exportCount: exportCount)
    let reader = try ModuleSymbolReader(types: try Self.types())
    let space = try Kernel(memory: linux.memory).addressSpace
    return reader.read([LoadedModule](repeating: module, count: copies), in: space)
  }

  private func place(_ symbols: ModuleSymbols, _ offset: UInt64) -> String? {
    symbols.place(of: VirtualAddress(Self.code + offset))?.description
  }

  @Test func placesOfAddresses() throws {
    let symbols = try #require(try read().first).get()
    #expect(place(symbols, 0) == nil && place(symbols, 0x200) == nil)
    #expect(place(symbols, 0x10) == "alpha+0x0/0x30 [test]")
    #expect(place(symbols, 0x3f) == "alpha+0x2f/0x30 [test]")
    // The first of two in the module's table.
    #expect(place(symbols, 0x41) == "beta+0x1/0x40 [test]")
    #expect(place(symbols, 0x80) == "offered+0x0/0x80 [test]")
    // The last one ends with the code.
    #expect(place(symbols, 0x1ff) == "gamma+0xff/0x100 [test]")
    #expect(symbols.unnamed == 0)
  }

  @Test func symbolsByName() throws {
    let symbols = try #require(try read().first).get()
    #expect(symbols.all.map(\.name).sorted() == Self.names.dropFirst().sorted())
    #expect(symbols.places(named: "twin").map(\.address.rawValue) == [Self.code + 0x40])
    #expect(symbols.places(named: "offered").map(\.type) == ["T"] && symbols.places(named: "beta").map(\.type) == ["t"])
    #expect(symbols.places(named: "lacking").map(\.size) == [nil] && symbols.places(named: "").isEmpty)
  }

  /// A number of symbols that the module has no memory for, or nobody.
  @Test(arguments: [1000, 1 << 18, 1 << 18 + 1, .max] as [UInt32]) func moreSymbolsThanItsMemoryHolds(count: UInt32)
    throws
  {
    let results = try read(count: count)
    #expect(throws: MemoryFault.self) { try results.first?.get() }
    let exports = try read(exportCount: UInt64(count))
    #expect(throws: MemoryFault.self) { try exports.first?.get() }
  }

  /// Parts of any size: what is read is bounded all the same.
  @Test func partsWithoutEnd() throws {
    let all: [Range<UInt64>] = [0xffff_8000_0000_0000..<UInt64.max]
    for count in [8, 1 << 18, 1 << 18 + 1, .max] as [UInt32] {
      let results = try read(count: count, parts: all) { linux in
        // A name at the end of 4 GiB.
        linux.put(bytes(UInt32.max), at: Self.symbols + 24)
      }
      #expect(throws: MemoryFault.self) { try results.first?.get() }
    }
    // The symbols of all together are bounded, too.
    let many = try read(count: 1 << 12, copies: 300, parts: all) { linux in
      linux.put([UInt8](repeating: 0, count: 0x4000), at: Self.symbols)
    }
    #expect(many.count == 300)
  }

  /// Names that start behind the strings' end, or do not end.
  @Test func namesOutsideTheStrings() throws {
    let changed = try read { linux in
      linux.put(bytes(UInt32(0x3000)), at: Self.symbols + 24)
      linux.put(bytes(UInt32.max), at: Self.symbols + 48)
    }
    let symbols = try #require(changed.first).get()
    #expect(symbols.unnamed == 2)
    #expect(place(symbols, 0x10) == nil && place(symbols, 0x41) == "twin+0x1/0x40 [test]")
    let endless = try read(parts: [Self.code..<Self.code + 0x200, Self.tables..<Self.exports + 0x1000]) { linux in
      linux.put([UInt8](repeating: 0x41, count: 0x1000), at: Self.text)
    }
    #expect(try endless.first?.get().unnamed == Self.plain.count)
    for strings in [0, 1, Self.text - 0x10_0000, .max] as [UInt64] {
      let outside = try read(strings: strings)
      #expect(throws: MemoryFault.self) { try outside.first?.get() }
    }
  }

  /// Values all over the place, and bytes that are no text.
  @Test func symbolsAnywhere() throws {
    let values: [UInt64] = [0, 1, .max, .max - 1, 1 << 63, Self.code - 1, Self.code + 0x1ff, Self.code + 0x200]
    let results = try read(values.map { Symbol(name: 1, value: $0) }) { linux in
      linux.put([0xff, 0xfe, 0x1b, 0x5b], at: Self.text + UInt64(Self.start(1)))
    }
    let symbols = try #require(results.first).get()
    #expect(symbols.all.count == values.count)
    for offset in [0, 1, 0x1fe, 0x1ff, 0x200] as [UInt64] { _ = place(symbols, offset) }
    #expect(symbols.place(of: VirtualAddress(.max)) == nil && symbols.place(of: VirtualAddress(0)) == nil)
    #expect(symbols.place(of: VirtualAddress(Self.code + 0x1ff))?.size == 1)
  }
}
