import Binding
import KernelInfo
public import KernelViews
import LinuxKernel
import Memory

/// The kernel's text was changed by hand.
public struct ChangedText: Detector {
  public static let name = "changed-text"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "The kernel's code, or a module's, was changed by something that is none of the kernel's own ways to change it."
  public static let rule = """
    All functions are decoded instruction by instruction. A place for tracers holds the nop, or a call of a tracer's trampoline where \
    ftrace says that it is on. Before it lies nothing or a landing place of indirect branches. A breakpoint belongs to a probe. \
    A branch leads out of the image only into what the kernel made itself, or from a static call into a module. The code of each \
    module of the list is looked through so, too: its branches may lead to the kernel, to modules of the list, and to what the kernel made.
    """
  public static let looksLike = """
    Tracers, probes, static calls, jump labels and live patches change code: their own tables explain each. Code that is being \
    changed at the moment: both looks have to agree.
    """
  public static let remedy = """
    Treat the host as taken over. Look at the code: grassctl read ADDRESS; where it leads to: grassctl sym. Keep the memory.
    """
  public static let techniques = ["T1014"]

  /// FTRACE_FL_ENABLED and FTRACE_FL_DISABLED, include/linux/ftrace.h.
  private static let enabled: UInt64 = 1 << 31
  private static let disabled: UInt64 = 1 << 25

  /// Functions in which the kernel's source has a breakpoint: for debuggers, for the kernel's test of them, and to restart by a
  /// triple fault.
  private static let withBreakpoints: Set<String> = [
    "kgdb_breakpoint", "int3_selftest", "int3_magic", "native_machine_emergency_restart",
  ]

  private struct Reader: KernelReader {
    static let subject = "the places of static calls and probes"

    struct Probe: KernelShape {
      static let type = "kprobe"
      let link = Place("hlist")
      let target = Field<VirtualAddress>("addr")
    }

    let sites: Range<UInt64>
    let probe: Bound<Probe>?
    let probes: VirtualAddress?

    init(kernel: Kernel) throws {
      let symbols = kernel.symbols
      let start = symbols.address(of: "__start_static_call_sites")?.rawValue ?? 0
      sites = start..<max(start, symbols.address(of: "__stop_static_call_sites")?.rawValue ?? 0)
      probes = symbols.address(of: "kprobe_table")
      probe = try probes.map { _ in try Bound(kernel.types) }
    }

    /// Where static calls are: structs of two distances, the first to the place itself.
    ///
    /// Source: include/linux/static_call_types.h.
    func staticCalls(_ kernel: Kernel) throws -> Set<UInt64> {
      let count = min(sites.count / 8, 1 << 18)
      let bytes = try kernel.addressSpace.read(VirtualAddress(sites.lowerBound), count: count * 8)
      let reader = ByteReader(bytes.span.bytes)
      var places: Set<UInt64> = []
      for index in 0..<count {
        let distance = try reader.load(index * 8, as: Int32.self)
        places.insert(sites.lowerBound &+ UInt64(index * 8) &+ UInt64(bitPattern: Int64(distance)))
      }
      return places
    }

    func probed(_ kernel: Kernel, _ faults: inout [MemoryFault]) -> Set<UInt64> {
      guard let probe, let probes else { return [] }
      let (_, found) = kernel.addressSpace.lists(
        of: probe, through: \.link, heads: (0..<64).map { probes + $0 * 8 }, form: .nullTerminated, limit: 1 << 16,
        &faults)
      return Set(found.compactMap(&faults) { (probe) throws(MemoryFault) in try probe.target.rawValue })
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kernel = look.kernel
    let text = try look.kernelText()
    let owners = try look.codeOwners()
    let reader = try kernel.reader(Reader.self)
    var faults = text.faults + owners.faults
    let probed = reader.probed(kernel, &faults)
    // Looked at only where a branch asks for it.
    let modules = try look.moduleTexts()
    faults += modules.faults
    let all = text.remarks + modules.modules.flatMap(\.text.remarks)
    faults += modules.modules.flatMap(\.text.faults)
    let isLeading = all.contains { if case .branch = $0.kind { true } else { false } }
    let calls =
      isLeading
      ? try KernelError.reading(Reader.subject) { try reader.staticCalls(kernel) } : []
    let executable = isLeading ? try look.executableMemory().ranges.map(\.range) : []
    var traced: [UInt64: UInt64] = [:]
    if all.contains(where: { if case .place = $0.kind { true } else { false } }) {
      for place in try look.tracedFunctions().places { traced[place.address.rawValue] = place.flags }
    }
    let symbols = kernel.symbols
    func name(_ address: VirtualAddress) -> String {
      guard let symbol = symbols.symbol(containing: address) else { return "\(address)" }
      return symbol.name
    }
    /// Whether it is where BPF jumps to the code that finds a program, as kernels before 6.2 do it.
    func isDispatcher(_ remark: TextRemark) -> Bool {
      guard name(remark.function).hasPrefix("bpf_dispatcher_"), remark.bytes.first == 0xe9, remark.bytes.count >= 5
      else {
        return false
      }
      let distance = remark.bytes[1..<5].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      let target = remark.address.rawValue &+ 5 &+ UInt64(bitPattern: Int64(Int32(bitPattern: distance)))
      guard case .made(let what)? = owners.owner(of: VirtualAddress(target)) else { return false }
      return what.hasPrefix("BPF image")
    }
    /// What is odd there, and what ought to be; nil where a table explains it.
    func oddity(_ remark: TextRemark, ofModule isModule: Bool = false) -> (
      seen: String, expected: String, isLeading: Bool
    )? {
      switch remark.kind {
      case .branch(let target):
        let isCode = executable.contains { $0.contains(target.rawValue) }
        switch owners.owner(of: target) {
        case .kernel, .made: return nil
        case .module where isModule: return nil
        case .module(let module):
          // A tracepoint's lone callback, for one, is called so.
          if calls.contains(remark.address.rawValue) || name(remark.address).hasPrefix("__SCT__") || !isCode {
            return nil
          }
          return ("a branch to \(target) in module \(module.printable)", "a branch in the kernel's own code", true)
        case nil:
          // Bytes that only look like a branch lead nowhere.
          guard isCode else { return nil }
          return ("a branch to \(target), which belongs to nothing", "a branch in the kernel's own code", true)
        }
      case .breakpoint:
        if probed.contains(remark.address.rawValue) || withBreakpoints.contains(name(remark.function)) { return nil }
        return ("a breakpoint", "none, since no probe is there", false)
      case .landing:
        if probed.contains(remark.address.rawValue) { return nil }
        return (
          Text.hexadecimal(remark.bytes.prefix(4), separator: " "), "endbr64 or what the kernel puts over it", false
        )
      case .place(let target):
        let flags = traced[remark.address.rawValue] ?? 0
        if flags & disabled != 0 || probed.contains(remark.address.rawValue) { return nil }
        guard let target else {
          if isDispatcher(remark) { return nil }
          return (Text.hexadecimal(remark.bytes, separator: " "), "the nop of tracers, or a call", false)
        }
        guard flags & enabled != 0 else {
          return ("a call of \(target)", "the nop, since ftrace says that nothing traces it", true)
        }
        switch owners.owner(of: target) {
        case .made: return nil
        case .kernel where name(target).hasPrefix("ftrace_"): return nil
        // One that a module registered as a direct call.
        case .module where flags & 1 << 24 != 0: return nil
        case .kernel: return ("a call of \(name(target))", "a call of a tracer's trampoline", true)
        case .module(let module):
          return ("a call of \(target) in module \(module.printable)", "a call of a tracer's trampoline", true)
        case nil: return ("a call of \(target), which belongs to nothing", "a call of a tracer's trampoline", true)
        }
      }
    }
    var functions: [VirtualAddress: [Oddity]] = [:]
    for remark in text.remarks {
      guard let odd = oddity(remark) else { continue }
      functions[remark.function, default: []].append((remark, odd.seen, odd.expected, odd.isLeading))
    }
    var sightings = functions.sorted { $0.key < $1.key }.map { function, odd in
      sighting(of: name(function), at: function, odd)
    }
    var total = text.functions
    for module in modules.modules {
      var functions: [VirtualAddress: [Oddity]] = [:]
      for remark in module.text.remarks {
        guard let odd = oddity(remark, ofModule: true) else { continue }
        functions[remark.function, default: []].append((remark, odd.seen, odd.expected, odd.isLeading))
      }
      total += module.text.functions
      sightings += functions.sorted { $0.key < $1.key }.map { function, odd in
        let name = module.names[function] ?? "\(function)"
        return sighting(of: "\(name) [\(module.module.name.printable)]", at: function, odd)
      }
    }
    return Sightings(sightings, outOf: max(total, 1), faults: faults)
  }

  private typealias Oddity = (remark: TextRemark, seen: String, expected: String, isLeading: Bool)

  /// What is said of a function, of which at least one thing is odd.
  private static func sighting(of name: String, at function: VirtualAddress, _ odd: [Oddity]) -> Sighting {
    let what = odd.first(where: \.isLeading) ?? odd[0]
    let place = what.remark.address.distance(from: function)
    return Sighting(
      [.function(name)], .critical, .strong,
      "the code of \(name) was changed: \(what.seen) at +0x\(String(place, radix: 16))",
      evidence: odd.prefix(8).map {
        .init("code", at: $0.remark.address, symbol: name, seen: $0.seen, expected: $0.expected)
      }, persists: [what.remark.address.rawValue],
      related: Set(odd.compactMap { target(of: $0.remark).map { .code($0) } }))
  }

  /// Where the instruction there leads to.
  private static func target(of remark: TextRemark) -> VirtualAddress? {
    switch remark.kind {
    case .branch(let target): target
    case .place(let target): target
    case .breakpoint, .landing: nil
    }
  }

  /// What a changed branch leads to is what the kernel calls.
  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == ForeignHook.name && !finding.related.isDisjoint(with: effect.subjects)
  }
}
