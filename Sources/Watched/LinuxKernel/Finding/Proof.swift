package import KernelInfo
package import Memory
package import Paging

/// A kernel whose claims hold, with its address space.
package struct ProvenKernel: Sendable {
  package let memory: any PhysicalMemory
  package let found: FoundKernel
  /// The kernel's own address space, with its image and the direct map as linear ranges.
  package let addressSpace: AddressSpace
  /// Where the memory holds the tables of the symbols; nil where they are kept ones.
  package let tables: SymbolTables?
  /// What those who use it ought to know.
  package var notes: [String] = []
}

/// Holds the claims of a kernel against the memory: the same proof whoever claims it.
///
/// The banner names the release, `phys_base` is where the image says, the kernel's own pointer to its note leads to the note
/// that claims it, the types parse, and the page tables map image and direct map to where the symbols say they lie. Of a kernel
/// that lists only functions the variables are found here, too, for its tasks are part of what has to hold.
package struct KernelProof {
  private let memory: SearchedMemory

  package init(_ memory: SearchedMemory) { self.memory = memory }

  /// The kernel that `claims` lead to.
  ///
  /// - Throws: ``KernelInfoError`` or ``KernelError`` with what does not hold. Cost: a batch of some 6 MB, and one a level of
  ///   the page tables; where variables are not listed, the image's data once more.
  package func kernel(_ claims: KernelClaims) throws -> ProvenKernel {
    let found = try image(claims)
    guard found.listsVariables else {
      let search = try VariableSearch(memory: memory.memory, found: found)
      let space = try addressSpace(of: search.found)
      return ProvenKernel(
        memory: memory.memory, found: try search.complete(in: space), addressSpace: space, tables: claims.tables)
    }
    return ProvenKernel(
      memory: memory.memory, found: found, addressSpace: try addressSpace(of: found), tables: claims.tables)
  }

  /// The kernel whose image fits `claims`.
  ///
  /// What its page tables say is not asked here.
  package func image(_ claims: KernelClaims) throws(KernelInfoError) -> FoundKernel {
    try KernelInfoError.naming(claims.release) { try checkedImage(claims) }
  }

  private func checkedImage(_ claims: KernelClaims) throws -> FoundKernel {
    let base = claims.physicalBase
    func add(_ name: String, count: Int, to batch: inout ReadBatch<PhysicalAddress>) -> Int? {
      claims.symbols.address(of: name).flatMap { FoundKernel.physicalAddress($0, physicalBase: base) }
        .map { batch.add($0, count: count) }
    }
    var batch = ReadBatch<PhysicalAddress>()
    let banner = batch.add(
      try FoundKernel.place(of: claims.banner, "linux_banner", physicalBase: base), count: Self.longestBanner)
    var types: Int?
    if case .bytes(let range) = claims.types {
      types = batch.add(
        try FoundKernel.place(of: range.lowerBound, "__start_BTF", physicalBase: base),
        count: Int(range.upperBound.distance(from: range.lowerBound)))
    }
    let kept = add("phys_base", count: 8, to: &batch)
    let direct = add("page_offset_base", count: 8, to: &batch)
    let note = add("vmcoreinfo_note", count: 8, to: &batch)
    memory.read(&batch)

    let text = String(
      decoding: try KernelInfoError.reader(batch, banner, "linux_banner").cString(0).prefix { $0 != 10 }, as: UTF8.self)
    let release = claims.release ?? Self.release(in: text)
    guard text.hasPrefix("Linux version \(release) ") else {
      throw KernelInfoError(.inconsistent("linux_banner in memory is '\(text.prefix(40))'"))
    }
    return try KernelInfoError.naming(release) {
      if let kept {
        let value = try KernelInfoError.reader(batch, kept, "phys_base").load(0, as: Int64.self)
        guard value == base else {
          throw KernelInfoError(.inconsistent("phys_base in memory is \(value), not \(base)"))
        }
      }
      if case .note = claims.claimant, let direct, let note {
        let start = try KernelInfoError.reader(batch, direct, "page_offset_base").u64(0)
        let original = PhysicalAddress(try KernelInfoError.reader(batch, note, "vmcoreinfo_note").u64(0) &- start)
        guard original == claims.place else { throw KernelInfoError(.copiedCoreInfo(original: original)) }
      }
      let table: TypeTable
      switch claims.types {
      case .bytes:
        let bytes = try KernelInfoError.reader(batch, types ?? 0, "the BTF type information").copy()
        table = try TypeTable(bytes, release: release)
      case .parsed(let parsed, _): table = parsed
      }
      return FoundKernel(claims, release: release, banner: text, types: table)
    }
  }

  /// As much of the banner as anybody needs.
  private static let longestBanner = 256

  /// The third word: `Linux version 6.1.0-56-amd64 (…`.
  private static func release(in banner: String) -> String {
    banner.split(separator: " ").dropFirst(2).first.map { String($0) } ?? ""
  }

  /// The kernel's address space, proven: what linear translation says must be what the page tables say.
  private func addressSpace(of found: FoundKernel) throws(KernelError) -> AddressSpace {
    let memory = memory.memory
    let subject = "the page tables of Linux \(found.release)"
    let format = found.pageTableFormat
    guard let text = found.symbols.address(of: "_text"), let imagePhysical = found.physicalAddress(ofImage: text) else {
      throw KernelError(subject, .missingSymbol("_text"))
    }
    let image = AddressSpace.LinearRange(
      start: text, count: found.imageRange.upperBound.distance(from: text), physical: imagePhysical)

    // Where the direct map starts is a variable if KASLR moves it, else the architecture's constant
    // (Documentation/arch/x86/x86_64/mm.rst).
    var directMap = VirtualAddress(found.pagingLevels == 5 ? 0xff11_0000_0000_0000 : 0xffff_8880_0000_0000)
    if let symbol = found.symbols.address(of: "page_offset_base"),
      let physical = image.translate(symbol, count: 8)
    {
      let bytes = try KernelError.reading(subject) { try memory.read(physical, count: 8) }
      directMap = try KernelError.reading(subject) { try ByteReader(bytes.span.bytes).pointer(0) }
    }
    let end = memory.segments.map { $0.start.rawValue &+ $0.count }.max() ?? 0
    let direct = AddressSpace.LinearRange(start: directMap, count: end, physical: PhysicalAddress(0))

    // The image's end may have been given back to the allocator, so that only its start must be mapped as computed.
    let probes =
      [text]
      + [imagePhysical, found.rootPageTable].map { directMap + Int(truncatingIfNeeded: $0.rawValue) }
    func space(_ root: PhysicalAddress) throws(KernelError) -> AddressSpace {
      let walks = PageWalker(memory: memory, format: format).translate(probes.map { ($0, root) })
      for (probe, walk) in zip(probes, walks) {
        let mapping = try KernelError.reading(subject) { try walk.get() }
        let expected = image.translate(probe, count: 1) ?? direct.translate(probe, count: 1)
        guard mapping.physical == expected else {
          throw KernelError(
            subject, .inconsistent("they map \(probe) to \(mapping.physical), not where its symbols say it lies"))
        }
      }
      return AddressSpace(memory: memory, format: format, root: root, linearRanges: [direct, image])
    }
    do throws(KernelError) {
      return try space(found.rootPageTable)
    } catch {
      // The kernel's own top table may have been emptied by who runs on another: every process has its half, too.
      for root in processRoots(of: found, image, direct) {
        if let space = try? space(root) { return space }
      }
      throw error
    }
  }

  /// The top page tables of the first processes of the list of tasks, by addition alone.
  ///
  /// Cost: some small reads for each task, of which the kernel's own threads are passed over.
  private func processRoots(
    of found: FoundKernel, _ image: AddressSpace.LinearRange, _ direct: AddressSpace.LinearRange
  ) -> [PhysicalAddress] {
    guard let first = found.symbols.address(of: "init_task"), let task = try? found.types.structure("task_struct"),
      let list = try? task.field("tasks").offset, let memoryField = try? task.field("mm").offset,
      let top = try? found.types.structure("mm_struct").field("pgd").offset
    else { return [] }
    func pointer(at address: VirtualAddress) -> VirtualAddress? {
      guard let place = image.translate(address, count: 8) ?? direct.translate(address, count: 8),
        let bytes = try? memory.memory.read(place, count: 8)
      else { return nil }
      return try? ByteReader(bytes.span.bytes).pointer(0)
    }
    var roots: [PhysicalAddress] = []
    var next = pointer(at: first + list)
    for _ in 0..<Self.mostTasks where roots.count < 4 {
      guard let node = next, node != first + list else { break }
      if let memory = pointer(at: node - list + memoryField), memory.rawValue != 0,
        let root = pointer(at: memory + top),
        let place = direct.translate(root, count: 4096)
      {
        roots.append(place)
      }
      next = pointer(at: node)
    }
    return roots
  }

  /// How many tasks are looked at for page tables of processes; the first process comes first.
  private static let mostTasks = 256
}

extension FoundKernel {
  /// The form of its page tables.
  package var pageTableFormat: PageTableFormat { pagingLevels == 5 ? .x86_64FiveLevel : .x86_64FourLevel }
}
