package import KernelInfo
package import Memory

/// Memory of 8 MiB with the parts of a kernel that lead from its VMCOREINFO note to its symbols and types, and with its page
/// tables, from 0x30_0000 on.
package struct SyntheticKernel {
  package static let base: UInt64 = 0xffff_ffff_9e20_0000
  package static let physicalImage: UInt64 = 0x20_0000
  package static let directMap: UInt64 = 0xffff_8880_0000_0000
  package static let size = 8 << 20

  package var release: String
  package var encoding: KallsymsDecoder.AddressEncoding
  /// Where the kernel's own note lies.
  package var note: UInt64
  /// Lines to add to VMCOREINFO, before all others but the first.
  package var lines: [String]
  /// Lines to leave out, by how they start.
  package var omitted: String?
  package var bannerRelease: String?
  package var types: [UInt8]?
  /// Whether it lists its variables, as with CONFIG_KALLSYMS_ALL.
  package var listsData = true
  /// Further symbols, by their offset in the image.
  package var symbols: [(name: String, offset: Int)]

  package init(
    release: String = "6.1.0-test-amd64", encoding: KallsymsDecoder.AddressEncoding = .absolutePerCPU,
    note: UInt64 = 0x7f_0000, lines: [String] = [], omitted: String? = nil, bannerRelease: String? = nil,
    types: [UInt8]? = nil, symbols: [(name: String, offset: Int)] = []
  ) {
    self.release = release
    self.encoding = encoding
    self.note = note
    self.lines = lines
    self.omitted = omitted
    self.bannerRelease = bannerRelease
    self.types = types
    self.symbols = symbols
  }

  package static var physicalBase: Int64 { Int64(physicalImage) - Int64(base - 0xffff_ffff_8000_0000) }

  /// Offsets in the image.
  private static let table = 0x1_0000
  package static let data = 0x4_0000
  private static let btf = 0x8_0000
  private static let end = 0x10_0000

  package var btf: [UInt8] {
    if let types { return types }
    var writer = BTFWriter()
    let int = writer.integer("int", size: 4, signed: true)
    _ = writer.structure("task_struct", size: 64, [.init(name: "pid", type: int, offset: 32)])
    return writer.bytes
  }

  /// The tables at their places in the image, and the lines that name them.
  private var kallsyms: (parts: [(offset: Int, bytes: [UInt8])], lines: [String]) {
    func address(_ offset: Int) -> UInt64 { Self.base + UInt64(offset) }
    var symbols: [(type: Character, name: String, address: UInt64)] = [
      ("T", "_text", address(0)), ("T", "_stext", address(0)),
      ("D", "linux_banner", address(Self.data)), ("D", "phys_base", address(Self.data + 0x100)),
      ("D", "page_offset_base", address(Self.data + 0x108)), ("B", "vmcoreinfo_note", address(Self.data + 0x110)),
      ("D", "init_top_pgt", address(Self.data + 0x1000)),
      ("R", "__start_BTF", address(Self.btf)), ("R", "__stop_BTF", address(Self.btf + btf.count)),
      ("B", "_end", address(Self.end)),
    ]
    symbols += self.symbols.map { ("D", $0.name, address($0.offset)) }
    if !listsData { symbols.removeAll { $0.type != "T" } }
    symbols.sort { $0.address < $1.address }
    if encoding == .absolutePerCPU, listsData { symbols.insert(("A", "runqueues", 0x31c40), at: 0) }
    let names = Self.table + 0x1008
    let offsets = encoding == .absolutePerCPU ? Self.table : Self.table + 0x8000
    let writer = KallsymsWriter(
      symbols: symbols, encoding: encoding, relativeBase: Self.base, offsetsAddress: VirtualAddress(address(offsets)))
    let tokens = Self.table + 0x4000
    let index = tokens + writer.tokenTable.count + writer.tokenTable.count % 2
    var parts = [
      (offsets, writer.offsets), (names - 8, bytes(UInt32(symbols.count))), (names, writer.names),
      (tokens, writer.tokenTable), (index, writer.tokenIndex),
    ]
    var lines = [
      "SYMBOL(kallsyms_names)=\(String(address(names), radix: 16))",
      "SYMBOL(kallsyms_num_syms)=\(String(address(names - 8), radix: 16))",
      "SYMBOL(kallsyms_token_table)=\(String(address(tokens), radix: 16))",
      "SYMBOL(kallsyms_token_index)=\(String(address(index), radix: 16))",
      "SYMBOL(kallsyms_offsets)=\(String(address(offsets), radix: 16))",
    ]
    if encoding != .selfRelative {
      parts.append((Self.table + 0x9000, bytes(Self.base)))
      lines.append("SYMBOL(kallsyms_relative_base)=\(String(address(Self.table + 0x9000), radix: 16))")
    }
    return (parts, lines)
  }

  package var coreInfo: String {
    let all =
      ["OSRELEASE=\(release)"] + lines + [
        "PAGESIZE=4096",
        "SYMBOL(_stext)=\(String(Self.base, radix: 16))",
        "SYMBOL(swapper_pg_dir)=\(String(Self.base + UInt64(Self.data + 0x1000), radix: 16))",
        "SYMBOL(mem_section)=ffff8d1e5fea1000",
        "NUMBER(phys_base)=\(Self.physicalBase)", "NUMBER(pgtable_l5_enabled)=1", "KERNELOFFSET=1d200000",
      ] + kallsyms.lines
    return all.filter { line in omitted.map { !line.hasPrefix($0) } ?? true }.joined(separator: "\n") + "\n"
  }

  /// A page-aligned note with `text`.
  package static func noteBytes(_ text: String, length: UInt32? = nil) -> [UInt8] {
    // Length of the name, of the text, type 0; the name and its padding.
    bytes(UInt32(11), length ?? UInt32(text.utf8.count), UInt32(0)) + Array("VMCOREINFO\0\0".utf8) + Array(text.utf8)
  }

  /// An entry of the page table at physical `table`, present.
  package static func entry(
    _ table: UInt64, _ address: UInt64, level: Int, _ value: UInt64
  ) -> (place: UInt64, value: UInt64) {
    (table + (address >> UInt64(12 + 9 * (level - 1)) & 511) * 8, value | 1)
  }

  /// Five levels: the image in one large page, the direct map in one of a gigabyte.
  private var pageTables: [(place: UInt64, value: UInt64)] {
    [
      Self.entry(Self.physicalImage + UInt64(Self.data) + 0x1000, Self.base, level: 5, 0x30_0000),
      Self.entry(0x30_0000, Self.base, level: 4, 0x30_1000),
      Self.entry(0x30_1000, Self.base, level: 3, 0x30_2000),
      Self.entry(0x30_2000, Self.base, level: 2, Self.physicalImage | 1 << 7),
      // Both share the root's last entry.
      Self.entry(0x30_0000, Self.directMap, level: 4, 0x30_3000),
      Self.entry(0x30_3000, Self.directMap, level: 3, 1 << 7),
    ]
  }

  package var memory: SyntheticMemory {
    var image = [UInt8](repeating: 0, count: Self.size)
    func put(_ bytes: [UInt8], at place: Int) { image.replaceSubrange(place..<place + bytes.count, with: bytes) }
    let start = Int(Self.physicalImage)
    for part in kallsyms.parts { put(part.bytes, at: start + part.offset) }
    put(Array("Linux version \(bannerRelease ?? release) (somebody) #1 SMP\n\0".utf8), at: start + Self.data)
    put(
      bytes(Self.physicalBase, Int64(bitPattern: Self.directMap), Int64(bitPattern: Self.directMap + note)),
      at: start + Self.data + 0x100)
    put(btf, at: start + Self.btf)
    for entry in pageTables { put(bytes(entry.value), at: Int(entry.place)) }
    put(Self.noteBytes(coreInfo), at: Int(note))
    return SyntheticMemory(image)
  }
}
