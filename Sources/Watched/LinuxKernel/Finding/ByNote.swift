package import KernelInfo
package import Memory

/// Reads what a VMCOREINFO note claims of a kernel, and the symbols that it leads to.
///
/// The note starts a page. It gives the place of the image and, from 6.0 on, the addresses of the kallsyms tables.
package struct NoteReader {
  private let memory: SearchedMemory

  private static let longestTokenTable: UInt64 = 64 << 10
  private static let longestNames: UInt64 = 8 << 20

  package init(_ memory: SearchedMemory) { self.memory = memory }

  /// The pages of `window` that start with a note's header.
  ///
  /// Cost: 24 bytes a page, in one batch.
  package static func places(in window: MemorySegment, of memory: any PhysicalMemory) -> [PhysicalAddress] {
    let pageSize = 4096
    let count = Int(window.count) / pageSize
    var batch = ReadBatch<PhysicalAddress>()
    batch.reserveCapacity(count)
    for page in 0..<count { batch.add(window.start + page * pageSize, count: CoreInfoNote.headerSize) }
    memory.read(&batch)
    let reader = ByteReader(batch.bytes.span.bytes)
    var found: [PhysicalAddress] = []
    for page in 0..<count where CoreInfoNote.textLength(reader, page * CoreInfoNote.headerSize) != nil {
      found.append(window.start + page * pageSize)
    }
    return found
  }

  /// The note at `place`.
  ///
  /// - Throws: ``KernelInfoError`` where there is none. Cost: two batches of reads.
  package func note(at place: PhysicalAddress) throws(KernelInfoError) -> VMCoreInfo {
    try KernelInfoError.naming(nil) { try readNote(at: place) }
  }

  /// What a note at `place` claims, and the tables that it names.
  ///
  /// - Throws: ``KernelInfoError`` with what is wrong with the note or the tables. Cost: two batches of reads.
  package func claims(_ note: VMCoreInfo, at place: PhysicalAddress) throws(KernelInfoError) -> KernelClaims {
    try KernelInfoError.naming(note.release.isEmpty ? nil : note.release) { try checkedClaims(note, at: place) }
  }

  /// Where a note at `place` says that its kernel lies.
  package func boot(_ note: VMCoreInfo, at place: PhysicalAddress) throws(KernelInfoError) -> KnownBuild.Boot {
    guard let base = note.number("phys_base") else {
      throw KernelInfoError(.badCoreInfoLine("NUMBER(phys_base)", "is missing"))
    }
    guard !note.release.isEmpty else { throw KernelInfoError(.badCoreInfoLine("OSRELEASE", "is missing")) }
    let root = try FoundKernel.place(
      of: try note.required("swapper_pg_dir"), "swapper_pg_dir", physicalBase: base)
    return KnownBuild.Boot(
      place: place, physicalBase: base, root: root, levels: note.hasFiveLevelPaging ? 5 : 4, slide: note.kernelOffset)
  }

  private func checkedClaims(_ note: VMCoreInfo, at place: PhysicalAddress) throws -> KernelClaims {
    let boot = try boot(note, at: place)
    let base = boot.physicalBase
    let tables = try tables(note, base)
    var symbols = try tables.decode(memory, anchor: "_stext", at: try note.required("_stext"))
    try Self.compare(note, symbols, base)
    let listsVariables = try symbols.listsVariables()
    let image: ImageParts
    if listsVariables {
      image = try ImageParts(listedBy: symbols)
    } else {
      image = try ImageSearch(memory).parts(symbols, release: note.release, physicalBase: base)
      var variables: [String: VirtualAddress] = [:]
      // Some lines give what a pointer holds, which lies outside the image.
      for (name, address) in note.symbols where FoundKernel.physicalAddress(address, physicalBase: base) != nil {
        variables[name] = address
      }
      variables["init_top_pgt"] = note.symbol("swapper_pg_dir")
      symbols = symbols.adding(variables).adding(image.variables)
    }
    return KernelClaims(
      claimant: .note(note), place: place, release: note.release, buildID: note.buildID, physicalBase: base,
      root: boot.root, levels: boot.levels, slide: boot.slide, symbols: symbols, image: image.range,
      banner: image.banner, types: image.types, listsVariables: listsVariables, tables: tables)
  }

  private func readNote(at place: PhysicalAddress) throws -> VMCoreInfo {
    let what = "the VMCOREINFO note"
    var batch = ReadBatch<PhysicalAddress>()
    batch.add(place, count: CoreInfoNote.headerSize)
    memory.read(&batch)
    guard let length = CoreInfoNote.textLength(try KernelInfoError.reader(batch, 0, what), 0) else {
      throw KernelInfoError(.notCoreInfo(place, "its header is another one"))
    }
    batch = ReadBatch()
    batch.add(place + CoreInfoNote.headerSize, count: length)
    memory.read(&batch)
    let text = try KernelInfoError.reader(batch, 0, what).cString(0)
    guard text.starts(with: "OSRELEASE=".utf8) else {
      throw KernelInfoError(.notCoreInfo(place, "its text does not start with OSRELEASE="))
    }
    return VMCoreInfo(text: text)
  }

  /// Where the kallsyms tables lie.
  private func tables(_ note: VMCoreInfo, _ physicalBase: Int64) throws -> SymbolTables {
    func place(_ address: VirtualAddress, _ what: String) throws -> PhysicalAddress {
      try FoundKernel.place(of: address, what, physicalBase: physicalBase)
    }
    let names = try note.required("kallsyms_names")
    let counter = try note.required("kallsyms_num_syms")
    let tokens = try note.required("kallsyms_token_table")
    let tokenIndex = try note.required("kallsyms_token_index")
    let offsets = try note.required("kallsyms_offsets")
    let base = note.symbol("kallsyms_relative_base")

    var batch = ReadBatch<PhysicalAddress>()
    let countEntry = batch.add(try place(counter, "kallsyms_num_syms"), count: 4)
    let baseEntry = try base.map { batch.add(try place($0, "kallsyms_relative_base"), count: 8) }
    memory.read(&batch)
    let count = Int(try KernelInfoError.reader(batch, countEntry, "kallsyms_num_syms").u32(0))
    let relativeBase = try baseEntry.map { try KernelInfoError.reader(batch, $0, "kallsyms_relative_base").u64(0) }
    guard count > 0, count <= KallsymsDecoder.mostSymbols else {
      throw KernelInfoError(.malformedSymbols("kallsyms_num_syms is \(count)"))
    }

    // Nothing says how long the names are, but in every layout another table follows them.
    let following = [counter, tokens, tokenIndex, offsets].filter { $0 > names }.min() ?? names
    let namesLength = following.distance(from: names)
    let tokensLength = tokenIndex.distance(from: tokens)
    guard namesLength > 0, namesLength <= Self.longestNames, tokensLength > 0, tokensLength <= Self.longestTokenTable
    else { throw KernelInfoError(.malformedSymbols("its tables lie in an unknown order")) }
    return SymbolTables(
      names: try place(names, "kallsyms_names"), namesLength: Int(namesLength),
      tokens: try place(tokens, "kallsyms_token_table"), tokensLength: Int(tokensLength),
      tokenIndex: try place(tokenIndex, "kallsyms_token_index"), count: count,
      offsets: try place(offsets, "kallsyms_offsets"), offsetsAddress: offsets, relativeBase: relativeBase)
  }

  /// Compares the addresses in the note with the symbols of the same name.
  package static func compare(_ note: VMCoreInfo, _ symbols: SymbolTable, _ physicalBase: Int64) throws(KernelInfoError)
  {
    for (name, address) in note.symbols {
      // Some lines give what a pointer holds instead; swapper_pg_dir is another name of init_top_pgt.
      let known = symbols.addresses(of: name == "swapper_pg_dir" ? "init_top_pgt" : name)
      guard FoundKernel.physicalAddress(address, physicalBase: physicalBase) != nil, !known.isEmpty,
        !known.contains(address)
      else { continue }
      throw KernelInfoError(
        .inconsistent("'\(name)' is at \(address) in VMCOREINFO and at \(known[0]) in kallsyms"))
    }
  }
}

extension VMCoreInfo {
  /// The value of a `SYMBOL(name)` line, or an error that names the line.
  fileprivate func required(_ name: String) throws(KernelInfoError) -> VirtualAddress {
    guard let address = symbol(name) else { throw KernelInfoError(.badCoreInfoLine("SYMBOL(\(name))", "is missing")) }
    return address
  }
}

extension KernelInfoError {
  /// Runs `body`, naming the kernel's release in whatever error ends it.
  package static func naming<T>(_ release: String?, _ body: () throws -> T) throws(KernelInfoError) -> T {
    do {
      return try body()
    } catch let error as KernelInfoError {
      throw KernelInfoError(error.code, release: error.release ?? release)
    } catch {
      throw KernelInfoError(.inconsistent("\(error)"), release: release)
    }
  }

  /// The bytes of an entry of `batch`, or an error that says what they were to be.
  @_lifetime(borrow batch)
  package static func reader(
    _ batch: borrowing ReadBatch<PhysicalAddress>, _ entry: Int, _ what: String
  ) throws(KernelInfoError) -> ByteReader {
    do throws(MemoryFault) {
      return try batch.reader(entry)
    } catch {
      throw KernelInfoError(.unreadable(what, error))
    }
  }
}
