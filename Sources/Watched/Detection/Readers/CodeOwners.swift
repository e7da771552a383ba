import Binding
import KernelInfo
public import KernelViews
import LinuxKernel
import Memory

/// Who the kernel's tables say owns code: the kernel itself, a module of the list, or what the kernel made at run time.
public struct CodeOwners: Faulted {
  public enum Kind: Hashable, Sendable {
    case kernel
    case module([UInt8])
    /// Code that the kernel made: a BPF program, a tracer's trampoline, a probe's slots.
    case made(String)
  }

  public internal(set) var owners: [(range: Range<UInt64>, kind: Kind)] = []
  public internal(set) var faults: [MemoryFault] = []
  /// The same in whole pages, in ascending order without overlap.
  var pages: [Range<UInt64>] = []

  /// The owner of an address; nil where there is none.
  ///
  /// Cost: a binary search.
  public func owner(of address: VirtualAddress) -> Kind? {
    let above = Self.first(in: owners.count) { owners[$0].range.lowerBound > address.rawValue }
    // Few lie in one another; what is further back is known by its pages.
    if let owner = owners[max(above - 4, 0)..<above].last(where: { $0.range.contains(address.rawValue) }) {
      return owner.kind
    }
    let page = Self.first(in: pages.count) { pages[$0].upperBound > address.rawValue }
    return page < pages.count && pages[page].contains(address.rawValue) ? .made("memory that the kernel made") : nil
  }

  /// What of `range` lies in pages of no owner.
  public func remainder(of range: Range<UInt64>) -> [Range<UInt64>] {
    var rest: [Range<UInt64>] = []
    var start = range.lowerBound
    for page in pages[Self.first(in: pages.count) { pages[$0].upperBound > start }...] {
      if page.lowerBound >= range.upperBound { break }
      if page.lowerBound > start { rest.append(start..<page.lowerBound) }
      start = page.upperBound
    }
    if start < range.upperBound { rest.append(start..<range.upperBound) }
    return rest
  }

  /// The first position below `count` for which `condition` holds, as it does for all behind it.
  private static func first(in count: Int, where condition: (Int) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if condition(middle) { high = middle } else { low = middle + 1 }
    }
    return low
  }

  fileprivate static let pack = "a pack of BPF programs"

  mutating func add(_ start: UInt64, count: UInt64, _ kind: Kind) {
    let (end, overflow) = start.addingReportingOverflow(count)
    guard start >> 63 == 1, count > 0, !overflow else { return }
    owners.append((start..<end, kind))
  }

  fileprivate mutating func arrange() {
    owners.sort { $0.range.lowerBound < $1.range.lowerBound }
    let rounded = owners.map { owner in
      let end = owner.range.upperBound
      return owner.range.lowerBound & ~0xfff..<(end > .max - 0xfff ? .max : (end + 0xfff) & ~0xfff)
    }.sorted { $0.lowerBound < $1.lowerBound }
    for range in rounded {
      if let last = pages.last, last.upperBound >= range.lowerBound {
        pages[pages.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        pages.append(range)
      }
    }
  }
}

/// Reads the tables of what the kernel may execute beside its text.
///
/// Source: kernel/bpf/core.c, `pack_list`; kernel/trace/ftrace.c, `ftrace_ops_trampoline_list`; kernel/kprobes.c,
/// `kprobe_insn_slots`; arch/x86/realmode/init.c.
private struct CodeOwnerReader: SettledReader {
  static let subject = "the owners of code"

  struct Pack: KernelShape {
    static let type = "bpf_prog_pack"
    let link = Place("list")
    let start = Field<UInt64>("ptr")
  }

  struct Tracer: KernelShape {
    static let type = "ftrace_ops"
    let next = Place("next")
    let link = Place(optional: "list")
    let trampoline = Field<UInt64>("trampoline")
    let size = Field<UInt64>("trampoline_size")
  }

  struct Slots: KernelShape {
    static let type = "kprobe_insn_cache"
    let pages = Place("pages")
  }

  struct SlotPage: KernelShape {
    static let type = "kprobe_insn_page"
    let link = Place("list")
    let start = Field<UInt64>("insns")
  }

  /// Who asks vmalloc for memory of code that the kernel has no other table of: programs of sockets before 5.18, and the stock of
  /// executable memory since 6.13.
  private static let makers: Set<String> = [
    "bpf_jit_alloc_exec", "bpf_jit_binary_alloc", "bpf_jit_alloc_exec_page", "bpf_prog_pack_alloc", "alloc_new_pack",
    "alloc_insn_page", "create_trampoline", "arch_ftrace_update_trampoline", "alloc_tramp", "execmem_cache_populate",
    "execmem_cache_alloc", "execmem_cache_add", "its_alloc", "its_allocate_thunk",
  ]
  private static let most = 1 << 16

  let modules: ModuleFields?
  let moduleList: VirtualAddress?
  let pack: Bound<Pack>?
  let tracer: Bound<Tracer>?
  let slots: Bound<Slots>?
  let slotPage: Bound<SlotPage>?

  init(kernel: Kernel) throws {
    moduleList = kernel.symbols.address(of: "modules")
    modules = try moduleList.map { _ in try ModuleFields(types: kernel.types) }
    let types = kernel.types
    pack = types.hasStructure(Pack.type) ? try Bound(types) : nil
    tracer = types.hasStructure(Tracer.type) ? try Bound(types) : nil
    slots = types.hasStructure(Slots.type) ? try Bound(types) : nil
    slotPage = types.hasStructure(SlotPage.type) ? try Bound(types) : nil
  }

  func read(_ kernel: Kernel) throws -> CodeOwners {
    let space = kernel.addressSpace
    let symbols = kernel.symbols
    var owners = CodeOwners()
    let first = try kernel.symbol("_stext", for: Self.self)
    let start = (symbols.address(of: "_text") ?? first).rawValue
    let end = try kernel.symbol("_etext", for: Self.self).rawValue
    // What lies behind it up to the next large page is mapped with it.
    owners.add(start, count: ((end &+ 0x1fffff) & ~0x1fffff) &- start, .kernel)
    // The page of system calls for old programs, which is at the same place in all kernels.
    owners.add(0xffff_ffff_ff60_0000, count: 4096, .made("the vsyscall page"))
    if let modules, let moduleList {
      let read = modules.modules(ofHead: moduleList, in: space)
      owners.faults += read.faults
      for module in read.modules {
        for part in module.parts { owners.add(part.lowerBound, count: UInt64(part.count), .module(module.name)) }
      }
    }
    readTracers(kernel, &owners)
    readSlots(kernel, &owners)
    if let header = symbols.address(of: "real_mode_header"), let blob = symbols.address(of: "real_mode_blob"),
      let end = symbols.address(of: "real_mode_blob_end")
    {
      let size = min(end.distance(from: blob), 1 << 20)
      let start = owners.faults.keep { () throws(MemoryFault) in try space.pointer(at: header).rawValue }
      if let start { owners.add(start, count: size, .made("the code that starts CPUs")) }
    }
    if let page = symbols.address(of: "hv_hypercall_pg") {
      let start = owners.faults.keep { () throws(MemoryFault) in try space.pointer(at: page).rawValue }
      if let start { owners.add(start, count: 4096, .made("the hypervisor's page")) }
    }
    readKexec(kernel, &owners)
    readStock(kernel, &owners)
    return owners
  }

  /// The stock of executable memory that modules and others get theirs from: what of it nobody has, and traps where it is run.
  ///
  /// Source: mm/execmem.c, `struct execmem_cache`, since 6.13.
  private func readStock(_ kernel: Kernel, _ owners: inout CodeOwners) {
    guard let stock = kernel.symbols.address(of: "execmem_cache"),
      let field = try? kernel.types.structure("execmem_cache").field("free_areas"),
      let tree = try? MapleTree(types: kernel.types)
    else { return }
    let space = kernel.addressSpace
    let free = tree.entries(at: stock + field.offset, in: space, limit: 1 << 12)
    owners.faults += free.faults
    var left: UInt64 = 1 << 26
    for area in free.entries where area.first >> 63 == 1 && area.last > area.first {
      let count = area.last - area.first &+ 1
      guard count <= left else { continue }
      left -= count
      // Somebody's code would not be int3 throughout.
      let bytes = owners.faults.keep { () throws(MemoryFault) in
        try space.read(VirtualAddress(area.first), count: Int(count))
      }
      if let bytes, bytes.allSatisfy({ $0 == 0xcc }) {
        owners.add(area.first, count: count, .made("the kernel's stock of executable memory"))
      }
    }
  }

  /// Packs of BPF programs, and what the kernel has no table of, by who asked for the memory.
  func readAreas(_ kernel: Kernel, _ areas: VirtualAreaTable, _ owners: inout CodeOwners) {
    var starts: [UInt64] = []
    if let pack, let head = kernel.symbols.address(of: "pack_list") {
      let packs = kernel.addressSpace.list(of: pack, through: \.link, head: head, limit: Self.most, &owners.faults)
      starts = packs.compactMap(&owners.faults) { (pack) throws(MemoryFault) in try pack.start }
    }
    for area in areas.areas {
      if starts.contains(where: { area.range.contains($0) }) {
        owners.add(area.range.lowerBound, count: UInt64(area.range.count), .made(CodeOwners.pack))
      } else if let caller = area.caller, Self.makers.contains(caller) {
        owners.add(area.range.lowerBound, count: UInt64(area.range.count), .made("memory of \(caller)"))
      }
    }
  }

  private func readTracers(_ kernel: Kernel, _ owners: inout CodeOwners) {
    guard let tracer else { return }
    let space = kernel.addressSpace
    let symbols = kernel.symbols
    // Those that are off every list keep their trampolines.
    var places = ["kprobe_ftrace_ops", "kprobe_ipmodify_ops", "global_ops", "graph_ops", "fgraph_ops"]
      .compactMap { symbols.address(of: $0) }
    if let head = symbols.address(of: "ftrace_ops_list") {
      let end = symbols.address(of: "ftrace_list_end")
      let (_, listed) = space.chains(of: tracer, through: \.next, heads: [head], limit: Self.most, &owners.faults)
      places += listed.map(\.address).filter { $0 != end }
    }
    if tracer.link.isPresent, let head = symbols.address(of: "ftrace_ops_trampoline_list") {
      places += space.list(of: tracer, through: \.link, head: head, limit: Self.most, &owners.faults).map(\.address)
    }
    let tracers = space.read(tracer, at: places).compactMap(&owners.faults) { (one) throws(MemoryFault) in
      (try one.trampoline, try one.size)
    }
    // Such code is some hundred bytes long.
    for (start, size) in tracers where size < 1 << 16 { owners.add(start, count: size, .made("a tracer's trampoline")) }
  }

  private func readSlots(_ kernel: Kernel, _ owners: inout CodeOwners) {
    guard let slots, let slotPage else { return }
    for name in ["kprobe_insn_slots", "kprobe_optinsn_slots"] {
      guard let head = kernel.symbols.address(of: name) else { continue }
      let pages = kernel.addressSpace.list(
        of: slotPage, through: \.link, head: head + slots.pages.offset, limit: Self.most, &owners.faults
      ).compactMap(&owners.faults) { (page) throws(MemoryFault) in try page.start }
      for page in pages { owners.add(page, count: 4096, .made("slots of probes")) }
    }
  }

  /// The page from which another kernel is started.
  private func readKexec(_ kernel: Kernel, _ owners: inout CodeOwners) {
    let space = kernel.addressSpace
    guard let offset = try? kernel.types.structure("kimage").field("control_code_page").offset,
      let map = try? kernel.reader(PageMap.self), let direct = kernel.symbols.address(of: "page_offset_base")
    else { return }
    for name in ["kexec_image", "kexec_crash_image"] {
      guard let variable = kernel.symbols.address(of: name) else { continue }
      let start = owners.faults.keep { () throws(MemoryFault) -> UInt64 in
        let image = try space.pointer(at: variable)
        guard image.rawValue != 0 else { return 0 }
        let page = try space.pointer(at: image + offset)
        guard let physical = map.physicalAddress(ofPage: page, start: try map.start(in: space)) else { return 0 }
        return try space.pointer(at: direct).rawValue &+ physical.rawValue
      }
      if let start { owners.add(start, count: 8192, .made("the code that starts a kernel")) }
    }
  }
}

extension Look {
  /// The owners of code that the kernel's tables name.
  public func codeOwners() throws(KernelError) -> CodeOwners {
    let known = try knownCode()
    let areas = try? virtualAreas()
    return try once("code owners") { kernel throws(KernelError) in
      var owners = try kernel.read(CodeOwnerReader.self)
      if let areas { try kernel.reader(CodeOwnerReader.self).readAreas(kernel, areas, &owners) }
      // Those in packs are known by them.
      let packs = owners.owners.compactMap { $0.kind == .made(CodeOwners.pack) ? $0.range : nil }
      for (range, name) in known.ranges where !packs.contains(where: { $0.contains(range.lowerBound) }) {
        owners.add(range.lowerBound, count: UInt64(range.count), .made("BPF image \(name.printable)"))
      }
      owners.faults += known.faults + (areas?.faults ?? [])
      owners.arrange()
      return owners
    }
  }
}
