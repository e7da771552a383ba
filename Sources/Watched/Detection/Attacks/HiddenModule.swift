import Binding
import KernelInfo
public import KernelViews
import LinuxKernel

/// A module that is loaded, and that the kernel's list of modules does not have.
public struct HiddenModule: Detector {
  public static let name = "hidden-module"
  public static let kind = Finding.Kind.attack
  public static let summary = "A module is loaded and missing in the list of modules: it hides."
  public static let rule = """
    Memory that load_module asked for, and functions that ftrace knows, belong to the kernel or to a module of the list. What \
    belongs to neither is looked through for the struct of the module, which still has its name. Both looks agree.
    """
  public static let looksLike = """
    A module that is being loaded or unloaded: its memory is given back, or it is in the list, in the second look. The memory of a module's \
    start waits for a grace period of RCU: as long as the kernel's work that gives it back (do_free_init) waits or runs, memory without \
    a struct and without functions is a notice.
    """
  public static let remedy = """
    Treat the host as taken over: keep the memory, and do not unload anything. The module's code is where the evidence says.
    """
  public static let techniques = ["T1014", "T1547.006"]

  /// Modules lie in the topmost two GiB, as the kernel does.
  ///
  /// The file that a module is loaded from is read into memory elsewhere.
  ///
  /// Source: Documentation/arch/x86/x86_64/mm.rst.
  private static let firstAddress: UInt64 = 0xffff_ffff_8000_0000

  /// Who asks for the memory of modules, by the kernel's version.
  static let loaders: Set<String> = [
    "load_module", "module_alloc", "move_module", "layout_and_allocate", "module_memory_alloc", "execmem_alloc",
    "__do_sys_init_module", "__do_sys_finit_module", "init_module_from_file", "idempotent_init_module",
  ]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let listed = try look.kernel.loadedModules()
    let owned = listed.modules.flatMap(\.parts)
    func isOwned(_ address: UInt64) -> Bool { owned.contains { $0.contains(address) } }
    var faults = listed.faults
    // The list is read first: a module leaves it before its memory goes.
    let areas = try look.virtualAreas()
    faults += areas.faults
    let orphans = areas.areas.filter { area in
      area.range.lowerBound >= firstAddress && area.caller.map { loaders.contains($0) } == true
        && !owned.contains { $0.lowerBound < area.range.upperBound && area.range.lowerBound < $0.upperBound }
    }
    let functions = try? look.tracedFunctions()
    let text = look.kernel.textRange
    let strays = (functions?.places ?? []).filter {
      !text.contains($0.address.rawValue) && !isOwned($0.address.rawValue) && $0.address.rawValue != 0
    }
    guard !orphans.isEmpty || !strays.isEmpty else { return Sightings(faults: faults) }

    let structs = try look.kernel.moduleStructs(in: orphans.map(\.range))
    var sightings: [Sighting] = []
    var claimed: [Range<UInt64>] = []
    for module in structs {
      let inside = strays.count { place in module.parts.contains { $0.contains(place.address.rawValue) } }
      var evidence = module.parts.prefix(4).map {
        Finding.Evidence(
          "memory that load_module asked for", at: VirtualAddress($0.lowerBound), seen: "\($0.count) bytes",
          expected: "the memory of a module of the list")
      }
      if inside > 0 {
        evidence.append(.init("functions that ftrace knows there", seen: "\(inside)", expected: "none"))
      }
      claimed += module.parts
      sightings.append(
        Sighting(
          [.module(module.address, name: module.name)], .critical, .strong,
          "module \(module.name.printable) is loaded and not in the list of modules: it hides", evidence: evidence,
          related: pages(of: module.parts)))
    }
    // What has no struct any more.
    let rest = orphans.filter { area in !claimed.contains { $0.overlaps(area.range) } }
    let isFreeing = rest.isEmpty ? false : try look.isFreeingModules()
    for area in rest {
      let inside = strays.count { area.range.contains($0.address.rawValue) }
      sightings.append(
        Sighting(
          [.module(VirtualAddress(area.range.lowerBound), name: [])],
          inside == 0 && isFreeing ? .notice : .critical, inside > 0 ? .strong : .hint,
          "\(area.range.count) bytes at \(VirtualAddress(area.range.lowerBound)) were loaded as a module and belong to none of "
            + "the list",
          evidence: [
            .init(
              "memory that \(area.caller ?? "?") asked for", at: VirtualAddress(area.range.lowerBound),
              seen: "\(area.range.count) bytes, \(inside) functions that ftrace knows",
              expected: "the memory of a module of the list")
          ], related: pages(of: [area.range])))
    }
    let lost = strays.filter { place in
      !claimed.contains { $0.contains(place.address.rawValue) }
        && !rest.contains { $0.range.contains(place.address.rawValue) }
    }
    if let first = lost.first {
      sightings.append(
        Sighting(
          [.module(VirtualAddress(first.address.rawValue & ~0xfff), name: [])], .critical, .strong,
          "ftrace knows \(lost.count) functions from \(first.address) on that belong to no module of the list",
          evidence: [.init("a function that ftrace knows", at: first.address, expected: "one of a module of the list")])
      )
    }
    return Sightings(sightings, faults: faults)
  }

  /// The pages of memory, by which what calls code in them is known.
  private static func pages(of ranges: [Range<UInt64>]) -> Set<Subject> {
    // A module of more than a few MiB is none.
    Set(
      ranges.flatMap { range in
        stride(from: range.lowerBound & ~0xfff, to: range.upperBound, by: 4096).prefix(1024).map {
          .code(VirtualAddress($0))
        }
      })
  }

  /// What is said of its code: that nobody owns it, and who calls it.
  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector != name
      && effect.subjects.contains { subject in
        guard case .code(let address) = subject else { return false }
        return finding.related.contains(.code(VirtualAddress(address.rawValue & ~0xfff)))
      }
  }
}

extension Look {
  /// Whether memory of modules' starts is about to be given back, when a grace period of RCU has passed.
  ///
  /// Source: kernel/module/main.c, `do_free_init`.
  func isFreeingModules() throws(KernelError) -> Bool {
    let table = try workQueues()
    return table.works.contains { $0.function.symbol?.hasPrefix("do_free_init+") == true }
      || table.workers.contains { $0.function?.symbol?.hasPrefix("do_free_init+") == true }
  }
}

/// The structs of modules, wherever they lie.
private struct ModuleStructReader: KernelReader {
  static let subject = "the structs of modules"

  struct Module: KernelShape {
    static let type = "module"
    let state = Field<UInt64>("state")
    let name = Field<[UInt8]>("name")
    let memory = ModuleMemory()
  }

  let fields: ModuleFields
  let head: VirtualAddress?
  let module: Bound<Module>
  let stateOffset: Int

  init(kernel: Kernel) throws {
    fields = try ModuleFields(types: kernel.types)
    head = kernel.symbols.address(of: "modules")
    module = try Bound(kernel.types)
    stateOffset = module.state.offset
  }
}

extension Kernel {
  /// Where the structs of modules lie that are loaded and not in the list of modules.
  ///
  /// Cost: that of the detector: the list of memory areas, the functions that ftrace knows, and a read of what belongs to nobody.
  public func hiddenModules() throws(KernelError) -> [VirtualAddress] {
    try HiddenModule.sightings(Look(at: self), before: nil).sightings.flatMap(\.subjects).compactMap { subject in
      // Memory without a struct has no name.
      guard case .module(let address, let name) = subject, !name.isEmpty else { return nil }
      return address
    }
  }

  /// The modules of the list, with their memory.
  fileprivate func loadedModules() throws(KernelError) -> (modules: [LoadedModule], faults: [MemoryFault]) {
    let reader = try reader(ModuleStructReader.self)
    guard let head = reader.head else { return ([], []) }
    return reader.fields.modules(ofHead: head, in: addressSpace)
  }

  /// Where the kernel's own functions lie, those of its start too.
  var textRange: Range<UInt64> {
    let start = found.imageRange.lowerBound.rawValue
    return start..<max(start, found.imageRange.upperBound.rawValue)
  }

  /// The structs of modules that lie in `ranges`: those whose memory starts where one of the ranges does.
  ///
  /// Cost: a read of the ranges, of which some MiB are looked at.
  fileprivate func moduleStructs(
    in ranges: [Range<UInt64>]
  ) throws(KernelError) -> [(address: VirtualAddress, name: [UInt8], parts: [Range<UInt64>])] {
    let reader = try reader(ModuleStructReader.self)
    let starts = Set(ranges.map(\.lowerBound))
    var found: [(address: VirtualAddress, name: [UInt8], parts: [Range<UInt64>])] = []
    for range in ranges.prefix(256) {
      // Structs are aligned as cache lines are. What a range has behind its last page is a guard that is not mapped.
      let candidates = (0..<min(range.count, 1 << 20) / 64).map { VirtualAddress(range.lowerBound) + $0 * 64 }
      var ignored: [MemoryFault] = []
      addressSpace.read(reader.module, at: candidates).forEach(&ignored) { (reading) throws(MemoryFault) in
        let name = try reading.name
        guard try reading.state <= 3, !name.isEmpty, name.count < 56, name.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
          return
        }
        var parts: [Range<UInt64>] = []
        for part in reading.shape.memory.parts {
          let (start, size) = (try reading.load(part.base), try reading.load(part.size))
          let (end, overflow) = start.addingReportingOverflow(size)
          if start != 0, size > 0, size < 1 << 32, !overflow { parts.append(start..<end) }
        }
        guard let first = parts.first, starts.contains(first.lowerBound) else { return }
        found.append((reading.address, name, parts))
      }
    }
    return found
  }
}
