import Foundation
import KernelInfo
import KernelViews
import Lab
import Memory
import Testing

extension GuestTests {
  /// Kernels that list functions alone, as without CONFIG_KALLSYMS_ALL: a real guest's tables of symbols are made anew without
  /// its variables, in a copy of its memory.
  @Suite(.serialized) struct FunctionSymbolTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func variablesAreFoundByTheirForm(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      try ExpertTests.loadDevices(guest)
      let copy = FileManager.default.temporaryDirectory.appendingPathComponent("grass-functions-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: copy) }
      try guest.copyMemory(to: copy)
      let source = ["--memory", copy.path]
      let views = ["ps", "dmesg", "lsmod", "lsof", "mount"]
      let before = try views.map { try grassctl.run([$0, "--json"] + source).text }
      let whole = try Kernel.open(try MemoryImage.open(copy.path))

      let tables = try FunctionTables(whole.found, in: whole.memory)
      try tables.write(to: copy)
      let stripped = try Kernel.open(try MemoryImage.open(copy.path))
      #expect(!stripped.found.listsVariables && stripped.symbols.count < whole.symbols.count * 3 / 4)
      #expect(stripped.symbols.allSatisfy { "tTwW".contains($0.type) })
      // What was found lies where the whole table says.
      let found = [
        "init_task", "init_pid_ns", "init_uts_ns", "net_namespace_list", "super_blocks", "modules", "page_offset_base",
        "vmemmap_base", "vmalloc_base", "__start_BTF", "__stop_BTF", "init_top_pgt", "prb",
      ]
      for name in found { #expect(stripped.symbols.address(of: name) == whole.symbols.address(of: name), "\(name)") }
      #expect(stripped.found.imageRange.upperBound >= whole.found.imageRange.upperBound)
      for (view, text) in zip(views, before) {
        #expect(try grassctl.run([view, "--json"] + source).text == text, "\(view)")
      }
      // Those that need what is not found say so.
      let hooks = try grassctl.run(["hooks"] + source)
      #expect(hooks.status != 0 && hooks.errors.contains("idt_table"), "\(hooks.errors)")

      // Nor does anything announce it.
      try Self.wipeNotes(of: guest, in: copy)
      try Self.plantTables(of: whole, in: copy)
      let silent = try Kernel.open(try MemoryImage.open(copy.path))
      #expect(!silent.found.listsVariables && silent.found.rootPageTable == whole.found.rootPageTable)
      for name in found { #expect(silent.symbols.address(of: name) == whole.symbols.address(of: name), "\(name)") }
      for (view, text) in zip(views, before) {
        #expect(try grassctl.run([view, "--json"] + source).text == text, "\(view)")
      }
    }

    /// Puts a process's top page table where it may come to lie: near the image, before the kernel's own; and in the part of the
    /// image that was freed, where a word that is left over names it.
    private static func plantTables(of kernel: Kernel, in copy: URL) throws {
      let found = kernel.found
      let memory = try #require(try MemoryImage.open(copy.path).first)
      var table = try memory.read(found.rootPageTable, count: 4096)
      // A program of its own.
      table.replaceSubrange(0..<8, with: [0x67, 0x10, 0x20, 0x30, 0, 0, 0, 0])
      let file = try FileHandle(forUpdating: copy)
      func write(_ bytes: [UInt8], at place: UInt64) throws {
        try file.seek(toOffset: place)
        try file.write(contentsOf: Data(bytes))
      }
      func place(of name: String) throws -> UInt64 {
        let address = try #require(found.symbols.address(of: name), "\(name)")
        return try #require(found.physicalAddress(ofImage: address)).rawValue
      }
      let text = try #require(found.symbols.address(of: "_text"))
      let image = try place(of: "_text")
      let frames = try kernel.frameMap()
      let before = stride(from: image - 4096, to: 1 << 20, by: -4096).first { frames[$0 / 4096] == .free }
      try write(table, at: #require(before, "no page before the kernel's image is free"))

      let freed = try stride(from: try place(of: "__init_begin"), to: try place(of: "__init_end"), by: 4096).filter {
        try memory.read(PhysicalAddress($0), count: 4096).allSatisfy { $0 == 0 }
      }
      // A guest that has run for long may have taken them all; what is in use must stay as it is.
      guard freed.count >= 2 else { return }
      try write(table, at: freed[1])
      let name = (text + Int(freed[1] - image)).rawValue
      try write(withUnsafeBytes(of: name.littleEndian) { Array($0) }, at: freed[0] + 64)
    }

    private static func wipeNotes(of guest: Guest, in copy: URL) throws {
      let file = try FileHandle(forUpdating: copy)
      let memory = try #require(try MemoryImage.open(copy.path).first)
      for start in stride(from: 0, to: UInt64(guest.options.memory) << 20, by: 4096) {
        guard let header = try? memory.read(PhysicalAddress(start + 12), count: 10), header == Array("VMCOREINFO".utf8)
        else { continue }
        try file.seek(toOffset: start)
        try file.write(contentsOf: Data(count: 4096))
      }
    }
  }
}

/// The tables of a kernel's symbols as its build makes them without CONFIG_KALLSYMS_ALL: those of functions alone, in the same
/// order, packed as before, with the addresses in the note that belong to them.
///
/// Source: scripts/kallsyms.c, `symbol_valid` and `write_src`.
private struct FunctionTables {
  private var parts: [(place: PhysicalAddress, bytes: [UInt8])] = []

  init(_ found: FoundKernel, in memory: any PhysicalMemory) throws {
    func address(_ name: String) throws -> VirtualAddress { try #require(found.symbols.address(of: name), "\(name)") }
    func physical(_ address: VirtualAddress) throws -> PhysicalAddress {
      try #require(found.physicalAddress(ofImage: address))
    }
    func read(_ start: VirtualAddress, _ count: Int) throws -> [UInt8] {
      try memory.read(try physical(start), count: count)
    }
    func number(_ bytes: [UInt8], _ index: Int) throws -> UInt32 { try ByteReader(bytes.span.bytes).u32(index * 4) }
    let ranges = [try address("_stext")...address("_etext"), try address("_sinittext")...address("_einittext")]
    let count = found.symbols.count
    // The note names the tables; markers and the order of names lie behind others.
    var places: [String: VirtualAddress] = [:]
    for name in ["names", "num_syms", "token_table", "token_index", "offsets", "relative_base"] {
      places[name] = found.coreInfo?.symbol("kallsyms_\(name)")
    }
    func table(_ name: String) throws -> VirtualAddress { try #require(places[name], "\(name)") }
    func aligned(_ address: VirtualAddress) -> VirtualAddress { VirtualAddress((address.rawValue + 7) & ~7) }
    let names = try read(try table("names"), 4 << 20)
    let offsets = try read(try table("offsets"), 4 * count)
    var length = 0
    for _ in 0..<count {
      let low = Int(names[length])
      length += low < 0x80 ? 1 + low : 2 + (low & 0x7f | Int(names[length + 1]) << 7)
    }
    places["markers"] = aligned(try table("names") + length)
    let behind = aligned(try table("markers") + 4 * ((count + 255) / 256))
    let hasRoom = try table("token_table") >= behind + 3 * count
    places["seqs_of_names"] = hasRoom ? behind : try table("relative_base") + 8
    let sequence = try read(try table("seqs_of_names"), 3 * count)

    // What is kept, and its number among that.
    var kept: [Int: Int] = [:]
    var (keptNames, keptOffsets, markers): ([UInt8], [UInt8], [UInt8]) = ([], [], [])
    var place = 0
    for index in 0..<count {
      let low = Int(names[place])
      let length = low < 0x80 ? 1 + low : 2 + (low & 0x7f | Int(names[place + 1]) << 7)
      let symbol = found.symbols[index]
      let isEnd =
        ranges.contains { $0.upperBound == symbol.address } && !["_etext", "_einittext"].contains(symbol.name)
      if ranges.contains(where: { $0.contains(symbol.address) }), !isEnd {
        if kept.count % 256 == 0 { markers += Self.bytes(UInt32(keptNames.count)) }
        kept[index] = kept.count
        keptNames += names[place..<place + length]
        keptOffsets += offsets[index * 4..<index * 4 + 4]
      }
      place += length
    }
    var keptSequence: [UInt8] = []
    for index in 0..<count {
      let entry = sequence[index * 3..<index * 3 + 3].reduce(0) { $0 << 8 | Int($1) }
      try #require(entry < count)
      if let new = kept[entry] { keptSequence += [UInt8(new >> 16 & 255), UInt8(new >> 8 & 255), UInt8(new & 255)] }
    }

    let tokens = try table("token_table")
    let tables: [String: [UInt8]] = [
      "num_syms": Self.bytes(UInt32(kept.count)), "names": keptNames, "markers": markers,
      "seqs_of_names": keptSequence, "offsets": keptOffsets,
      "token_table": try read(tokens, Int(try table("token_index").distance(from: tokens))),
      "token_index": try read(try table("token_index"), 512),
      "relative_base": try read(try table("relative_base"), 8),
    ]
    let order = try tables.keys.sorted { try table($0) < table($1) }
    var next = try table(order[0])
    let oldEnd = try table(order[order.count - 1]) + (tables[order[order.count - 1]]?.count ?? 0)
    let note = try #require(found.coreInfo).text
    var text = note
    for name in order {
      let bytes = tables[name] ?? []
      parts.append((try physical(next), bytes + [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)))
      let old = String(try table(name).rawValue, radix: 16)
      text = text.replacingOccurrences(
        of: "SYMBOL(kallsyms_\(name))=\(old)",
        with: "SYMBOL(kallsyms_\(name))=\(String(next.rawValue, radix: 16))")
      next = next + (bytes.count + 7) & ~7
    }
    try #require(next < oldEnd && text.utf8.count == note.utf8.count)
    parts.append((try physical(next), [UInt8](repeating: 0, count: Int(oldEnd.distance(from: next)))))
    // Behind its header of 24 bytes.
    parts.append((found.coreInfoAddress + 24, Array(text.utf8)))
  }

  private static func bytes(_ number: UInt32) -> [UInt8] { (0..<4).map { UInt8(number >> (8 * $0) & 255) } }

  /// Writes them into an image that starts with physical address zero.
  func write(to image: URL) throws {
    let file = try FileHandle(forUpdating: image)
    for part in parts {
      try file.seek(toOffset: part.place.rawValue)
      try file.write(contentsOf: Data(part.bytes))
    }
  }
}
