import Binding
public import KernelViews

/// What a kernel says of itself was altered.
public struct AlteredIdentity: Detector {
  public static let name = "altered-identity"
  public static let kind = Finding.Kind.attack
  public static let summary = "What the kernel says of itself was altered or wiped, which blinds tools that rely on it."
  public static let rule = """
    Symbols and types of the memory serve, so that no kept ones of this build have to; the kernel's variable for the note for \
    crash tools leads to such a note; uname gives the release that the banner names.
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
    var evidence: [Finding.Evidence] = []
    if case .kept(let why) = found.tableSource {
      evidence.append(.init("symbols and types", seen: why, expected: "those of this build"))
    }
    // Kernels that can crash into another one keep a note, to which a variable of theirs points: an ELF note of that name.
    if found.coreInfo == nil, let variable = found.symbols.address(of: "vmcoreinfo_note"),
      let note = try? look.kernel.addressSpace.pointer(at: variable), note.rawValue != 0,
      let bytes = try? look.kernel.addressSpace.read(note, count: 24), bytes.count == 24,
      Array(bytes[12..<22]) != Array("VMCOREINFO".utf8)
    {
      evidence.append(
        .init(
          "the note for crash tools", at: note, symbol: "vmcoreinfo_note", seen: "bytes that are no such note",
          expected: "VMCOREINFO"))
    }
    if let host = try? look.host(), host.release != found.release {
      evidence.append(.init("uname", seen: host.release, expected: found.release))
    }
    guard !evidence.isEmpty else { return Sightings() }
    return Sightings([
      Sighting(
        [.host], .critical, .strong, "what the kernel says of itself was altered: \(Text.list(evidence.map(\.what)))",
        evidence: evidence)
    ])
  }
}

/// Ranges of memory that were renamed.
public struct AlteredMemoryRanges: Detector {
  public static let name = "iomem-altered"
  public static let kind = Finding.Kind.attack
  public static let summary = "Ranges of RAM have another name than RAM: tools that copy the memory pass them over."
  public static let rule = "A resource with the flags of system RAM is called System RAM, or something that lies in it."
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

    init(kernel: Kernel) throws {
      resource = try Bound(kernel.types)
      root = try kernel.symbol("iomem_resource", for: Self.self)
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
    var memories: [(start: UInt64, name: VirtualAddress)] = []
    resources.forEach(&faults) { (resource) throws(MemoryFault) in
      guard seen.insert(resource.address).inserted, try resource.flags & memoryFlags == memoryFlags,
        try resource.start <= resource.end
      else { return }
      memories.append((try resource.start, try resource.name))
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
    return Sightings(sightings, faults: faults)
  }
}
