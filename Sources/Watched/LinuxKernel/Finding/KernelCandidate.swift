import Binding
package import KernelInfo
package import Memory

/// One VMCOREINFO note, and what it leads to, read and checked step by step.
package struct KernelCandidate {
  package let memory: any PhysicalMemory
  package let address: PhysicalAddress
  /// The bytes read so far.
  private(set) var cost = 0

  private var coreInfo = VMCoreInfo(text: [])
  private var physicalBase: Int64 = 0
  /// Whether a note is what led here, so that the kernel's own pointer has to lead back to it.
  private var hasNote = true

  private static let longestTokenTable: UInt64 = 64 << 10
  private static let longestNames: UInt64 = 8 << 20
  private static let longestTypes: UInt64 = 32 << 20

  package init(memory: any PhysicalMemory, address: PhysicalAddress) {
    self.memory = memory
    self.address = address
  }

  /// The kernel, when everything the note leads to fits together.
  ///
  /// Cost: five batches of reads.
  package mutating func open() throws(KernelInfoError) -> FoundKernel {
    do {
      return try openChecked()
    } catch let error as KernelInfoError {
      throw KernelInfoError(error.code, release: error.release ?? release)
    } catch {
      throw inconsistent("\(error)")
    }
  }

  private var release: String? { coreInfo.release.isEmpty ? nil : coreInfo.release }

  private func inconsistent(_ why: String) -> KernelInfoError {
    KernelInfoError(.inconsistent(why), release: release)
  }

  private mutating func openChecked() throws -> FoundKernel {
    coreInfo = try readCoreInfo()
    guard let base = coreInfo.number("phys_base") else {
      throw KernelInfoError(.badCoreInfoLine("NUMBER(phys_base)", "is missing"))
    }
    guard release != nil else { throw KernelInfoError(.badCoreInfoLine("OSRELEASE", "is missing")) }
    physicalBase = base
    let root = try place(of: try coreInfoSymbol("swapper_pg_dir"), "swapper_pg_dir")

    let symbols = try readSymbols()
    guard try compare(symbols) else { return try describeFunctions(symbols, root: root, release: release) }
    return try describe(symbols, root: root)
  }

  /// Reads what leads to a kernel that lists no variables: banner and types are found by their form, and the note names some
  /// variables. Where its tasks and the end of its image are, its page tables have to say.
  private mutating func describeFunctions(
    _ symbols: SymbolTable, root: PhysicalAddress, release: String?
  ) throws -> FoundKernel {
    let text = try self.address(symbols, "_text")
    let start = try place(of: text, "_text")
    var search = ImageSearch(memory: memory)
    defer { cost += search.cost }
    let found = try search.find(from: start, release: release, functions: symbols.count)
    let banner = String(decoding: found.banner.text, as: UTF8.self)
    func address(_ place: PhysicalAddress) -> VirtualAddress {
      text + Int(truncatingIfNeeded: place.rawValue &- start.rawValue)
    }
    if release == nil {
      coreInfo = note(release: Self.release(in: banner), root: address(root), isDeep: false, text: text)
    }
    let types = address(found.types.place)
    var variables: [String: VirtualAddress] = [:]
    // Some lines give what a pointer holds, which lies outside the image.
    for (name, value) in coreInfo.symbols where place(of: value) != nil { variables[name] = value }
    variables["init_top_pgt"] = coreInfo.symbol("swapper_pg_dir")
    variables["__start_BTF"] = types
    variables["__stop_BTF"] = types + found.types.table.bytes.count
    var kernel = FoundKernel(
      release: coreInfo.release, banner: banner, coreInfo: coreInfo, coreInfoAddress: self.address,
      physicalBase: physicalBase, rootPageTable: root, pagingLevels: coreInfo.hasFiveLevelPaging ? 5 : 4,
      imageRange: text..<max(types + found.types.table.bytes.count, address(found.banner.place)),
      symbols: symbols.adding(variables), types: found.types.table)
    kernel.listsVariables = false
    return kernel
  }

  private static func release(in banner: String) -> String {
    banner.split(separator: " ").dropFirst(2).first.map { String($0) } ?? ""
  }

  /// What the note would have said. Images are linked to run 16 MiB into their mapping (CONFIG_PHYSICAL_START).
  private func note(release: String, root: VirtualAddress, isDeep: Bool, text: VirtualAddress) -> VMCoreInfo {
    let offset = text.distance(from: FoundKernel.imageMap) &- 0x100_0000
    return VMCoreInfo(
      text: Array(
        """
        OSRELEASE=\(release)
        SYMBOL(swapper_pg_dir)=\(String(root.rawValue, radix: 16))
        NUMBER(phys_base)=\(physicalBase)
        NUMBER(pgtable_l5_enabled)=\(isDeep ? 1 : 0)
        KERNELOFFSET=\(String(offset, radix: 16))

        """.utf8))
  }

  /// Reads what symbols and place of the image lead to.
  private mutating func describe(_ symbols: SymbolTable, root: PhysicalAddress) throws -> FoundKernel {
    let image = try range(symbols, "_text", "_end", limit: FoundKernel.imageMapSize)
    let typesRange = try range(symbols, "__start_BTF", "__stop_BTF", limit: Self.longestTypes)

    var batch = ReadBatch<PhysicalAddress>()
    let banner = try add(symbols, "linux_banner", count: 256, to: &batch)
    let types = batch.add(
      try place(of: typesRange.lowerBound, "__start_BTF"),
      count: Int(typesRange.upperBound.distance(from: typesRange.lowerBound)))
    let base8 = try? add(symbols, "phys_base", count: 8, to: &batch)
    let direct = try? add(symbols, "page_offset_base", count: 8, to: &batch)
    let note = try? add(symbols, "vmcoreinfo_note", count: 8, to: &batch)
    read(&batch)

    let text = String(decoding: try reader(batch, banner, "linux_banner").cString(0), as: UTF8.self)
    guard text.hasPrefix("Linux version \(coreInfo.release) ") else {
      throw inconsistent("linux_banner in memory is '\(text.prefix(40))'")
    }
    if let base8 {
      let value = try reader(batch, base8, "phys_base").load(0, as: Int64.self)
      guard value == physicalBase else { throw inconsistent("phys_base in memory is \(value), not \(physicalBase)") }
    }
    if hasNote, let direct, let note {
      let start = try reader(batch, direct, "page_offset_base").u64(0)
      let original = PhysicalAddress(try reader(batch, note, "vmcoreinfo_note").u64(0) &- start)
      guard original == address else { throw KernelInfoError(.copiedCoreInfo(original: original)) }
    }
    let table = try TypeTable(try reader(batch, types, "the BTF type information").copy(), release: coreInfo.release)

    return FoundKernel(
      release: coreInfo.release, banner: String(text.prefix { $0 != "\n" }), coreInfo: coreInfo,
      coreInfoAddress: address, physicalBase: physicalBase, rootPageTable: root,
      pagingLevels: coreInfo.hasFiveLevelPaging ? 5 : 4, imageRange: image, symbols: symbols, types: table)
  }

  /// The kernel whose kallsyms tables were found by their form: everything else is found from its symbols, and has to fit as
  /// well as where a note says it.
  ///
  /// - Returns: several where more than one page table maps the image: which is the kernel's own, what else it maps has to tell.
  ///   Cost: four batches of reads; where variables are not listed, the image and what lies around it once.
  mutating func open(_ tables: KallsymsSearch.Tables) throws(KernelInfoError) -> [FoundKernel] {
    do {
      return try openChecked(tables)
    } catch let error as KernelInfoError {
      throw KernelInfoError(error.code, release: error.release ?? release)
    } catch {
      throw inconsistent("\(error)")
    }
  }

  private mutating func openChecked(_ tables: KallsymsSearch.Tables) throws -> [FoundKernel] {
    hasNote = false
    // The base is the lowest address of the image.
    let symbols = try decode(tables, anchor: "_text", at: VirtualAddress(tables.relativeBase))
    guard try listsVariables(symbols) else { return try findImage(symbols, around: tables.tokenIndex) }
    let image = try range(symbols, "_text", "_end", limit: FoundKernel.imageMapSize)
    physicalBase = try findImage(image, symbols, around: tables.tokenIndex)

    var batch = ReadBatch<PhysicalAddress>()
    let banner = try add(symbols, "linux_banner", count: 256, to: &batch)
    let levels = try? add(symbols, "__pgtable_l5_enabled", count: 4, to: &batch)
    read(&batch)
    let text = String(decoding: try reader(batch, banner, "linux_banner").cString(0), as: UTF8.self)
    let isDeep = try levels.map { try reader(batch, $0, "__pgtable_l5_enabled").u32(0) == 1 } ?? false
    guard let table = symbols.address(of: "init_top_pgt") else {
      throw KernelInfoError(.missingSymbol("init_top_pgt"))
    }
    coreInfo = note(release: Self.release(in: text), root: table, isDeep: isDeep, text: image.lowerBound)
    return [try describe(symbols, root: try place(of: table, "init_top_pgt"))]
  }

  /// Looks for the image of a kernel that lists no variables by the page tables that map it.
  private mutating func findImage(_ symbols: SymbolTable, around tables: PhysicalAddress) throws -> [FoundKernel] {
    let text = try address(symbols, "_text")
    var search = ImageSearch(memory: memory)
    let images = search.roots(mapping: text, around: tables)
    cost += search.cost
    for (image, roots) in images {
      guard let root = roots.first else { continue }
      physicalBase = Int64(bitPattern: image.rawValue &- text.distance(from: FoundKernel.imageMap))
      let kernel = try describeFunctions(symbols, root: root.place, release: nil)
      return roots.map { root in
        var kernel = kernel
        let table = text + Int(truncatingIfNeeded: root.place.rawValue &- image.rawValue)
        kernel.coreInfo = note(release: kernel.release, root: table, isDeep: root.levels == 5, text: text)
        kernel.symbols = kernel.symbols.adding(["init_top_pgt": table])
        (kernel.rootPageTable, kernel.pagingLevels) = (root.place, root.levels)
        return kernel
      }
    }
    throw KernelInfoError(.noDataSymbols(functions: symbols.count, missing: "no page table that maps it"))
  }

  private mutating func decode(
    _ tables: KallsymsSearch.Tables, anchor: String, at address: VirtualAddress
  ) throws -> SymbolTable {
    var batch = ReadBatch<PhysicalAddress>()
    let names = batch.add(tables.names, count: tables.namesLength)
    let tokens = batch.add(tables.tokens, count: tables.tokensLength)
    let index = batch.add(tables.tokenIndex, count: 512)
    let offsets = batch.add(tables.offsets, count: 4 * tables.count)
    read(&batch)
    let decoder = KallsymsDecoder(
      names: try reader(batch, names, "kallsyms_names"), tokenTable: try reader(batch, tokens, "kallsyms_token_table"),
      tokenIndex: try reader(batch, index, "kallsyms_token_index"),
      offsets: try reader(batch, offsets, "kallsyms_offsets"),
      offsetsAddress: VirtualAddress(0), relativeBase: tables.relativeBase, count: tables.count)
    return try decoder.decode(anchor: anchor, at: address)
  }

  /// Looks for the image in physical memory, where it lies in one piece around its tables, aligned as it is in its mapping.
  ///
  /// - Returns: the physical base, which the kernel keeps as a variable as well.
  private mutating func findImage(
    _ image: Range<VirtualAddress>, _ symbols: SymbolTable, around tables: PhysicalAddress
  ) throws -> Int64 {
    // CONFIG_PHYSICAL_ALIGN: address randomisation moves images by whole large pages.
    let step: UInt64 = 2 << 20
    let size = image.upperBound.distance(from: image.lowerBound)
    let skew = image.lowerBound.rawValue % step
    let banner = try address(symbols, "linux_banner").distance(from: image.lowerBound)
    let base = try address(symbols, "phys_base").distance(from: image.lowerBound)
    var starts: [PhysicalAddress] = []
    var start = tables.rawValue / step * step &+ skew
    while start &+ size > tables.rawValue, starts.count <= Int(size / step) + 1 {
      if start <= tables.rawValue { starts.append(PhysicalAddress(start)) }
      guard start >= step else { break }
      start -= step
    }
    var batch = ReadBatch<PhysicalAddress>()
    for start in starts {
      batch.add(start + Int(clamping: banner), count: 14)
      batch.add(start + Int(clamping: base), count: 8)
    }
    read(&batch)
    let distance = image.lowerBound.distance(from: FoundKernel.imageMap)
    for (index, start) in starts.enumerated() {
      let expected = Int64(bitPattern: start.rawValue &- distance)
      if let text = try? batch.reader(index * 2).copy(), text == Array("Linux version ".utf8),
        let value = try? batch.reader(index * 2 + 1).load(0, as: Int64.self), value == expected
      {
        return expected
      }
    }
    throw inconsistent("its symbols do not lead to the kernel's banner and phys_base anywhere around its tables")
  }

  private func address(_ symbols: SymbolTable, _ name: String) throws -> VirtualAddress {
    guard let address = symbols.address(of: name) else { throw KernelInfoError(.missingSymbol(name)) }
    return address
  }

  private mutating func readCoreInfo() throws -> VMCoreInfo {
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(address, count: CoreInfoNote.headerSize)
    read(&batch)
    guard let length = CoreInfoNote.textLength(try reader(batch, 0, "the VMCOREINFO note"), 0) else {
      throw KernelInfoError(.notCoreInfo(address, "its header is another one"))
    }
    batch = ReadBatch()
    batch.add(address + CoreInfoNote.headerSize, count: length)
    read(&batch)
    let text = try reader(batch, 0, "the VMCOREINFO note").cString(0)
    guard text.starts(with: "OSRELEASE=".utf8) else {
      throw KernelInfoError(.notCoreInfo(address, "its text does not start with OSRELEASE="))
    }
    return VMCoreInfo(text: text)
  }

  /// Reads and decodes the kallsyms tables.
  private mutating func readSymbols() throws -> SymbolTable {
    let names = try coreInfoSymbol("kallsyms_names")
    let counter = try coreInfoSymbol("kallsyms_num_syms")
    let tokens = try coreInfoSymbol("kallsyms_token_table")
    let tokenIndex = try coreInfoSymbol("kallsyms_token_index")
    let offsets = try coreInfoSymbol("kallsyms_offsets")
    let base = coreInfo.symbol("kallsyms_relative_base")

    var batch = ReadBatch<PhysicalAddress>()
    let countEntry = batch.add(try place(of: counter, "kallsyms_num_syms"), count: 4)
    let baseEntry = try base.map { batch.add(try place(of: $0, "kallsyms_relative_base"), count: 8) }
    read(&batch)
    let count = Int(try reader(batch, countEntry, "kallsyms_num_syms").u32(0))
    let relativeBase = try baseEntry.map { try reader(batch, $0, "kallsyms_relative_base").u64(0) }
    guard count > 0, count <= KallsymsDecoder.mostSymbols else {
      throw KernelInfoError(.malformedSymbols("kallsyms_num_syms is \(count)"))
    }

    // Nothing says how long the names are, but in every layout another table follows them.
    let following = [counter, tokens, tokenIndex, offsets].filter { $0 > names }.min() ?? names
    let namesLength = following.distance(from: names)
    let tokensLength = tokenIndex.distance(from: tokens)
    guard namesLength > 0, namesLength <= Self.longestNames, tokensLength > 0, tokensLength <= Self.longestTokenTable
    else { throw KernelInfoError(.malformedSymbols("its tables lie in an unknown order")) }
    batch = ReadBatch()
    let namesEntry = batch.add(try place(of: names, "kallsyms_names"), count: Int(namesLength))
    let tokensEntry = batch.add(try place(of: tokens, "kallsyms_token_table"), count: Int(tokensLength))
    let indexEntry = batch.add(try place(of: tokenIndex, "kallsyms_token_index"), count: 512)
    let offsetsEntry = batch.add(try place(of: offsets, "kallsyms_offsets"), count: 4 * count)
    read(&batch)
    let decoder = KallsymsDecoder(
      names: try reader(batch, namesEntry, "kallsyms_names"),
      tokenTable: try reader(batch, tokensEntry, "kallsyms_token_table"),
      tokenIndex: try reader(batch, indexEntry, "kallsyms_token_index"),
      offsets: try reader(batch, offsetsEntry, "kallsyms_offsets"),
      offsetsAddress: offsets, relativeBase: relativeBase, count: count)
    return try decoder.decode(anchor: "_stext", at: try coreInfoSymbol("_stext"))
  }

  /// Whether the table has more than functions. Throws where it does and lacks the page table.
  private func listsVariables(_ symbols: SymbolTable) throws -> Bool {
    guard symbols.address(of: "init_top_pgt") == nil else { return true }
    // Only where that is missing are all symbols looked at.
    if !symbols.contains(where: { "dDbBrR".contains($0.type) }) { return false }
    throw KernelInfoError(.missingSymbol("init_top_pgt"))
  }

  /// Compares the addresses in VMCOREINFO with the symbols of the same name.
  ///
  /// - Returns: whether variables are among the symbols.
  private func compare(_ symbols: SymbolTable) throws -> Bool {
    for (name, address) in coreInfo.symbols {
      // Some lines give what a pointer holds instead; swapper_pg_dir is another name of init_top_pgt.
      let known = symbols.addresses(of: name == "swapper_pg_dir" ? "init_top_pgt" : name)
      guard place(of: address) != nil, !known.isEmpty, !known.contains(address) else { continue }
      throw inconsistent("'\(name)' is at \(address) in VMCOREINFO and at \(known[0]) in kallsyms")
    }
    return try listsVariables(symbols)
  }

  private func range(
    _ symbols: SymbolTable, _ first: String, _ last: String, limit: UInt64
  ) throws -> Range<VirtualAddress> {
    guard let start = symbols.address(of: first) else { throw KernelInfoError(.missingSymbol(first)) }
    guard let end = symbols.address(of: last) else { throw KernelInfoError(.missingSymbol(last)) }
    guard start < end, end.distance(from: start) <= limit else {
      throw inconsistent("'\(first)' is \(start) and '\(last)' is \(end)")
    }
    return start..<end
  }

  private func coreInfoSymbol(_ name: String) throws -> VirtualAddress {
    guard let address = coreInfo.symbol(name) else {
      throw KernelInfoError(.badCoreInfoLine("SYMBOL(\(name))", "is missing"))
    }
    return address
  }

  private func place(of address: VirtualAddress) -> PhysicalAddress? {
    FoundKernel.physicalAddress(address, physicalBase: physicalBase)
  }

  private func place(of address: VirtualAddress, _ name: String) throws -> PhysicalAddress {
    guard let place = place(of: address) else { throw inconsistent("'\(name)' at \(address) is outside any image") }
    return place
  }

  private func add(
    _ symbols: SymbolTable, _ name: String, count: Int, to batch: inout ReadBatch<PhysicalAddress>
  ) throws -> Int {
    guard let address = symbols.address(of: name) else { throw KernelInfoError(.missingSymbol(name)) }
    return batch.add(try place(of: address, name), count: count)
  }

  private mutating func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    cost += batch.byteCount
    memory.read(&batch)
  }

  @_lifetime(borrow batch)
  private func reader(_ batch: borrowing ReadBatch<PhysicalAddress>, _ entry: Int, _ what: String) throws -> ByteReader
  {
    do {
      return try batch.reader(entry)
    } catch {
      throw KernelInfoError(.unreadable(what, error), release: release)
    }
  }
}
