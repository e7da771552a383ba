public import KernelViews
import Memory

/// Code that the kernel can execute and that belongs to nothing.
public struct OwnerlessCode: Detector {
  public static let name = "ownerless-code"
  public static let kind = Finding.Kind.attack
  public static let summary = "The kernel has executable memory that belongs to nothing: somebody put code there."
  public static let rule = """
    Each page that the kernel's page tables let a CPU execute lies in the kernel's text, in the memory of a module of the list, or in \
    what the kernel made itself: images and packs of BPF, trampolines of tracers, slots of probes, the code that starts CPUs or \
    another kernel, the vsyscall page, a hypervisor's page.
    """
  public static let looksLike = """
    A module that is being loaded or unloaded, a trampoline that is being made: both looks have to agree. The code of a module's start that \
    waits for RCU to be given back: a notice as long as the kernel's work for that waits. Code that hides in what is \
    left of an owner's last page is not seen.
    """
  public static let remedy = """
    Treat the host as taken over. Look at the code: grassctl read ADDRESS; keep the memory.
    """
  public static let techniques = ["T1014"]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let executable = try look.executableMemory()
    let owners = try look.codeOwners()
    let ownerless = try look.ownerlessCode()
    // As of modules that hide.
    let isFreeing = ownerless.isEmpty ? false : try look.isFreeingModules()
    let loaded =
      isFreeing
      ? try look.virtualAreas().areas.filter { $0.caller.map { HiddenModule.loaders.contains($0) } == true } : []
    let traced = isFreeing ? (try? look.tracedFunctions())?.places ?? [] : []
    let sightings = ownerless.map { range in
      let isGoing =
        loaded.contains { $0.range.contains(range.lowerBound) && range.upperBound <= $0.range.upperBound }
        && !traced.contains { range.contains($0.address.rawValue) }
      return Sighting(
        [.code(VirtualAddress(range.lowerBound))], isGoing ? .notice : .critical, isGoing ? .hint : .strong,
        "\(range.count) bytes of executable memory at \(VirtualAddress(range.lowerBound)) belong to nothing",
        evidence: [
          .init(
            "executable pages", at: VirtualAddress(range.lowerBound), seen: "\(range.count) bytes without an owner",
            expected: "the kernel's text, a module, or code that the kernel made")
        ])
    }
    return Sightings(sightings, outOf: executable.ranges.count, faults: executable.faults + owners.faults)
  }
}

/// Memory of the kernel that is writable and executable at once.
public struct WritableCode: Detector {
  public static let name = "writable-code"
  public static let kind = Finding.Kind.attack
  public static let summary = "The kernel has memory that is writable and executable at once."
  public static let rule = "No page of the kernel's page tables is writable and executable at once."
  public static let looksLike = """
    Kernels without strict permissions (CONFIG_STRICT_KERNEL_RWX off, or rodata=off) are so throughout: then it is one finding.
    """
  public static let remedy = """
    Treat the host as taken over unless it was booted with rodata=off. Look at the code: grassctl read ADDRESS; keep the memory.
    """
  public static let techniques = ["T1014"]
  public static let baseline = Finding.Baseline.invariant

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let executable = try look.executableMemory()
    let owners = try look.codeOwners()
    let sightings = executable.ranges.filter(\.isWritable).map { item -> Sighting in
      let start = VirtualAddress(item.range.lowerBound)
      let owner: String =
        switch owners.owner(of: start) {
        case .kernel: "the kernel's own text"
        case .module(let name): "module \(name.printable)"
        case .made(let what): what
        case nil: "nothing"
        }
      // Old kernels write to the page of a dispatcher or a trampoline of BPF where it lies, and leave it so.
      let isDispatcher =
        look.kernel.symbols.address(of: "bpf_jit_alloc_exec_page") != nil
        && ["BPF image bpf_dispatcher_", "BPF image bpf_trampoline_"].contains { owner.hasPrefix($0) }
      return Sighting(
        [.code(start)], isDispatcher ? .info : .critical, .strong,
        "\(item.range.count) bytes at \(start), which belong to \(owner), are writable and executable at once",
        evidence: [
          .init(
            "pages that can be written and executed", at: start, seen: "\(item.range.count) bytes", expected: "either")
        ])
    }
    return Sightings(sightings, outOf: executable.ranges.count, faults: executable.faults)
  }
}
