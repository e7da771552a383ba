import Binding
import KernelInfo
public import KernelViews
import LinuxKernel
import Memory
import Paging

/// What a kernel says of itself was altered.
public struct AlteredIdentity: Detector {
  public static let name = "altered-identity"
  public static let kind = Finding.Kind.attack
  public static let summary = "What the kernel says of itself was altered or wiped, which blinds tools that rely on it."
  public static let rule = """
    Symbols and types of the memory serve, so that no kept ones of this build have to, and stay what they were; the kernel's variable \
    for the note for crash tools leads to such a note, whose symbols are the kernel's; uname gives the release that the banner \
    names, and the banner stays; the kernel's own top page table maps the kernel where it lies.
    """
  public static let looksLike = """
    An image of which parts are missing: then other faults are said, too. Kernels without a note for crash tools \
    (CONFIG_CRASH_CORE) are found without it.
    """
  public static let remedy =
    "Treat the host as taken over. What is shown rests on kept tables of this build; keep the memory."
  public static let techniques = ["T1070", "T1562"]
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let found = look.kernel.found
    let space = look.kernel.addressSpace
    var evidence: [Finding.Evidence] = []
    if case .kept(let why) = found.tableSource {
      evidence.append(.init("symbols and types", seen: why, expected: "those of this build"))
    }
    let reader = try look.kernel.reader(IdentityReader.self)
    for (what, place) in reader.altered(look.kernel) {
      evidence.append(
        .init(what, at: place, seen: "other bytes than when it was read", expected: "what the linker put there"))
    }
    evidence += noteEvidence(look)
    if let host = try? look.host(), host.release != found.release {
      evidence.append(.init("uname", seen: host.release, expected: found.release))
    }
    if let place = found.symbols.address(of: "linux_banner"), let bytes = try? space.read(place, count: 256) {
      let banner = String(decoding: bytes.prefix { $0 != 0 && $0 != 10 }, as: UTF8.self)
      if banner != found.banner {
        evidence.append(
          .init(
            "the banner", at: place, symbol: "linux_banner", seen: banner.prefix(60).description, expected: found.banner
          ))
      }
    }
    if space.root != found.rootPageTable {
      evidence.append(
        .init(
          "the top page table", at: found.symbols.address(of: "init_top_pgt"), symbol: "init_top_pgt",
          seen: "one that does not map the kernel", expected: "what processes have, such as that at \(space.root)"))
    } else if let text = found.symbols.address(of: "_text") {
      let mapped = try? AddressSpace(memory: space.memory, format: space.format, root: found.rootPageTable).translate(
        text)
      if mapped != found.physicalAddress(ofImage: text) {
        evidence.append(
          .init(
            "the top page table", at: found.symbols.address(of: "init_top_pgt"), symbol: "init_top_pgt",
            seen: mapped.map { "one that maps the kernel to \($0)" } ?? "one that does not map the kernel",
            expected: "one that maps it where it lies"))
      }
    }
    guard !evidence.isEmpty else { return Sightings() }
    return Sightings([
      Sighting(
        [.host], .critical, .strong, "what the kernel says of itself was altered: \(Text.list(evidence.map(\.what)))",
        evidence: evidence)
    ])
  }

  /// What is wrong with the note for crash tools, which kernels that can crash into another one keep, and a variable points to.
  private static func noteEvidence(_ look: Look) -> [Finding.Evidence] {
    let found = look.kernel.found
    guard let variable = found.symbols.address(of: "vmcoreinfo_note"),
      let note = try? look.kernel.addressSpace.pointer(at: variable), note.rawValue != 0,
      let header = try? look.kernel.addressSpace.read(note, count: 24)
    else { return [] }
    guard Array(header[12..<22]) == Array("VMCOREINFO".utf8) else {
      return [
        .init(
          "the note for crash tools", at: note, symbol: "vmcoreinfo_note", seen: "bytes that are no such note",
          expected: "VMCOREINFO")
      ]
    }
    // Its text is never longer than a page but where many lines were added.
    let size = min(header[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) }, 4096)
    guard let text = try? look.kernel.addressSpace.read(note + 24, count: size) else { return [] }
    let said = VMCoreInfo(text: text)
    var wrong: [String] = []
    if said.release != found.release { wrong.append("OSRELEASE=\(said.release)") }
    if let base = said.number("phys_base"), base != found.physicalBase { wrong.append("phys_base=\(base)") }
    for name in ["_stext", "swapper_pg_dir", "init_uts_ns"] {
      let symbol = name == "swapper_pg_dir" ? "init_top_pgt" : name
      guard let place = said.symbol(name), let address = found.symbols.address(of: symbol), place != address else {
        continue
      }
      wrong.append("\(name)=\(place)")
    }
    guard !wrong.isEmpty else { return [] }
    return [
      .init(
        "the note for crash tools", at: note, symbol: "vmcoreinfo_note", seen: Text.list(wrong),
        expected: "what symbols and banner say")
    ]
  }
}

/// Digests of the tables that symbols and types were read from, as they were when the kernel was opened.
private struct IdentityReader: KernelReader {
  static let subject = "the tables of symbols and types"

  private struct Part: Sendable {
    let what: String
    let address: VirtualAddress?
    let ranges: [(start: PhysicalAddress, count: Int)]
    let digests: [MemoryDigest?]
  }

  private let parts: [Part]

  init(kernel: Kernel) throws {
    let found = kernel.found
    var parts: [(String, VirtualAddress?, PhysicalAddress, Int)] = []
    if case .memory = found.tableSource {
      if let tables = kernel.symbolTables {
        for (start, count) in [
          (tables.names, tables.namesLength), (tables.tokens, tables.tokensLength), (tables.tokenIndex, 512),
          (tables.offsets, 4 * tables.count),
        ] { parts.append(("the table of symbols", nil, start, count)) }
      }
      if let start = found.coreInfo?.symbol("__start_BTF") ?? found.symbols.address(of: "__start_BTF"),
        let end = found.symbols.address(of: "__stop_BTF"), let place = found.physicalAddress(ofImage: start),
        end > start
      {
        parts.append(("the description of types", start, place, Int(clamping: end.distance(from: start))))
      }
    }
    // Over a link every thirty-second page is enough: who wipes wipes more.
    let stride = kernel.memory.isNear ? 1 : 32
    self.parts = parts.map { what, address, start, count in
      let pages = Swift.stride(from: 0, to: min(count, 32 << 20), by: 4096 * stride)
      let ranges = pages.map { (start: start + $0, count: min(4096, count - $0)) }
      return Part(what: what, address: address, ranges: ranges, digests: Self.digests(of: ranges, kernel.memory))
    }
  }

  private static func digests(
    of ranges: [(start: PhysicalAddress, count: Int)], _ memory: any PhysicalMemory
  ) -> [MemoryDigest?] {
    var batch = ReadBatch<PhysicalAddress>()
    for range in ranges { batch.add(range.start, count: range.count) }
    memory.read(&batch)
    return ranges.indices.map { index in
      (try? batch.reader(index).copy()).map { bytes in bytes.withUnsafeBytes { MemoryDigest($0) } }
    }
  }

  /// The tables that are not what they were.
  func altered(_ kernel: Kernel) -> [(what: String, place: VirtualAddress?)] {
    var seen: Set<String> = []
    return parts.filter { part in
      let now = Self.digests(of: part.ranges, kernel.memory)
      // What cannot be read is another's finding.
      return zip(now, part.digests).contains { $0 != nil && $1 != nil && $0 != $1 } && seen.insert(part.what).inserted
    }.map { ($0.what, $0.address) }
  }
}

/// Ranges of memory that were renamed.
public struct AlteredMemoryRanges: Detector {
  public static let name = "iomem-altered"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "Ranges of RAM have another name than RAM, or none: tools that copy the memory pass them over."
  public static let rule = """
    A resource with the flags of system RAM is called System RAM, or something that lies in it; and the resources of system RAM \
    have room for all the pages that the kernel's nodes have.
    """
  public static let looksLike = "Ranges that drivers add: they have names of their own and lie under another range."
  public static let remedy = "Do not copy the memory by /proc/iomem of that host; its flags say where RAM is."
  public static let techniques = ["T1014"]
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  private struct Reader: KernelReader {
    static let subject = "the ranges of memory"

    struct Resource: KernelShape {
      static let type = "resource"
      let sibling = Place("sibling")
      let child = Field<VirtualAddress>("child")
      let start = Field<UInt64>("start")
      let end = Field<UInt64>("end")
      let name = Field<VirtualAddress>("name")
      let flags = Field<UInt64>("flags")
    }

    let resource: Bound<Resource>
    let root: VirtualAddress
    /// The pointers to the nodes' structs, or the one node itself, and where in it the number of its pages lies.
    let nodes: VirtualAddress?
    let node: VirtualAddress?
    let pages: Int?

    init(kernel: Kernel) throws {
      resource = try Bound(kernel.types)
      root = try kernel.symbol("iomem_resource", for: Self.self)
      nodes = kernel.symbols.address(of: "node_data")
      node = kernel.symbols.address(of: "contig_page_data")
      pages = try? kernel.types.structure("pglist_data").field("node_present_pages").offset
    }

    /// How many pages of RAM the kernel has; nil where that is not known.
    func presentPages(in space: AddressSpace) -> UInt64? {
      guard let pages else { return nil }
      var structs: [VirtualAddress] = []
      if let nodes {
        structs = space.pointers(at: (0..<64).map { nodes + $0 * 8 }).prefix { $0.rawValue != 0 }.map { $0 }
      } else if let node {
        structs = [node]
      }
      guard !structs.isEmpty else { return nil }
      var sum: UInt64 = 0
      for one in structs {
        guard let count = try? space.pointer(at: one + pages).rawValue else { return nil }
        sum = sum.addingReportingOverflow(count).partialValue
      }
      return sum
    }
  }

  /// IORESOURCE_SYSTEM_RAM with IORESOURCE_BUSY, and without what marks others' (include/linux/ioport.h).
  private static let memoryFlags: UInt64 = 0x8100_0200

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let reader = try kernel.reader(Reader.self)
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let (_, resources) = space.chains(
      of: reader.resource, through: \.sibling, heads: [reader.root + reader.resource.child.offset], limit: 4096, &faults
    )
    var seen: Set<VirtualAddress> = []
    var memories: [(start: UInt64, end: UInt64, name: VirtualAddress)] = []
    resources.forEach(&faults) { (resource) throws(MemoryFault) in
      guard seen.insert(resource.address).inserted, try resource.flags & memoryFlags == memoryFlags,
        try resource.start <= resource.end
      else { return }
      memories.append((try resource.start, try resource.end, try resource.name))
    }
    let names = space.strings(at: memories.map(\.name))
    var sightings: [Sighting] = []
    for (item, name) in zip(memories, names) {
      guard let text = try? name.get(), String(decoding: text, as: UTF8.self) != "System RAM" else { continue }
      let range = "\(PhysicalAddress(item.start))"
      sightings.append(
        Sighting(
          [.table("iomem_resource at \(range)", entry: nil)], .critical, .strong,
          "RAM from \(range) on is called \(text.printable)",
          evidence: [.init("its name", at: item.name, seen: text.printable, expected: "System RAM")]))
    }
    // The first page is often the firmware's, and ends are rounded.
    let known =
      memories.map { $0.end &- $0.start &+ 1 }.reduce(0) { $0.addingReportingOverflow($1).partialValue } / 4096
    if faults.isEmpty, !memories.isEmpty, let present = reader.presentPages(in: space), present < 1 << 40,
      present > known + 256
    {
      sightings.append(
        Sighting(
          [.table("iomem_resource", entry: nil)], .critical, .strong,
          "\((present - known) * 4) KiB of RAM are in no range of memory",
          evidence: [
            .init(
              "pages of all nodes", symbol: "node_present_pages", seen: "\(present)",
              expected: "\(known), as the ranges have room for")
          ]))
    }
    return Sightings(sightings, faults: faults)
  }
}
