import Binding
public import KernelViews
import LinuxKernel
import Memory

/// A BPF program that is loaded, and that the kernel's table of programs does not have.
public struct HiddenProgram: Detector {
  public static let name = "hidden-program"
  public static let kind = Finding.Kind.attack
  public static let summary = "A BPF program is loaded and missing in the table of programs: it hides."
  public static let rule =
    "The image of each program that has a symbol belongs to a program of the table, or to a function of one."
  public static let looksLike = "A program that is being loaded or freed: both looks have to agree."
  public static let remedy = """
    Treat the host as taken over. The program's code is where the evidence says: grassctl read ADDRESS; keep the memory.
    """
  public static let techniques = ["T1014"]

  private struct Reader: KernelReader {
    static let subject = "the programs behind the images of BPF"

    struct Symbol: KernelShape {
      static let type = "bpf_ksym"
      let link = Place("lnode")
      let start = Field<UInt64>("start")
      let name = Field<[UInt8]>("name")
      let isProgram = Field<Bool>("prog")
    }

    struct Auxiliary: KernelShape {
      static let type = "bpf_prog_aux"
      let symbol = Place("ksym")
      let program = Field<VirtualAddress>("prog")
      let id = Field<UInt32>("id")
      /// Not zero for the functions of a program behind its first.
      let function = Field<UInt64>("func_idx")
    }

    let symbol: Bound<Symbol>
    let auxiliary: Bound<Auxiliary>
    let head: VirtualAddress?

    init(kernel: Kernel) throws {
      (symbol, auxiliary) = try kernel.types.bind()
      head = kernel.symbols.address(of: "bpf_kallsyms")
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    // A kernel without BPF has none.
    guard kernel.symbols.address(of: "bpf_kallsyms") != nil else { return Sightings() }
    let reader = try kernel.reader(Reader.self)
    guard let head = reader.head else { return Sightings() }
    let space = kernel.addressSpace
    var faults: [MemoryFault] = []
    let images = space.list(of: reader.symbol, through: \.link, head: head, limit: 1 << 16, &faults)
    let programs = images.compactMap(&faults) { (image) throws(MemoryFault) in
      try image.isProgram ? (address: image.address, name: try image.name, start: try image.start) : nil
    }
    guard !programs.isEmpty else { return Sightings(faults: faults) }
    let table = try look.bpf()
    let known = Set(table.programs.map(\.address))
    let owners = space.read(reader.auxiliary, at: programs.map { $0.address - reader.auxiliary.symbol.offset })
    let sightings = owners.compactMap(&faults) { (owner) throws(MemoryFault) -> Sighting? in
      guard try owner.function == 0, !known.contains(try owner.program) else { return nil }
      let image = programs[owner.index]
      return Sighting(
        [.program(id: try owner.id, name: image.name)], .critical, .strong,
        "BPF program \(image.name.printable) is loaded and not in the table of programs: it hides",
        evidence: [
          .init(
            "the image of a program", at: VirtualAddress(image.start), symbol: image.name.printable,
            seen: "number \(try owner.id), which the table does not have", expected: "a program of the table")
        ])
    }
    return Sightings(sightings, outOf: programs.count, faults: faults + table.faults)
  }
}
