public import KernelViews
import Memory

/// The kernel calls code that belongs to nothing that is known.
public struct ForeignHook: Detector {
  public static let name = "foreign-hook"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "The kernel calls code that belongs neither to itself, nor to a loaded module, nor to a BPF program."
  public static let rule = """
    What system calls, interrupts, netfilter, ftrace, kprobes and tracepoints call has an owner: the kernel's text, a module of \
    the list, or the image of a BPF program or of a probe. Where system calls are found by a switch, it and the table agree.
    """
  public static let looksLike = """
    A module that is just being loaded or unloaded: both looks have to agree. Programs of BPF and probes have images of their \
    own, which are looked up in the kernel's tables of them.
    """
  public static let remedy = """
    Treat the host as taken over. See what is called: grassctl hooks, grassctl read ADDRESS; keep the memory.
    """
  public static let techniques = ["T1014"]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.hooks()
    let known = try look.knownCode()
    let owners = try look.codeOwners()
    let foreign = table.hooks.filter { hook in
      guard hook.code.owner == .unknown, !known.holds(hook.code.address) else { return false }
      // What traces the function that finds system calls is called by way of a trampoline that ftrace made; whether ftrace put the call
      // there is judged with all other code.
      guard hook.kind == .systemCall, hook.name == "any" else { return true }
      return owners.owner(of: hook.code.address) == nil
    }
    var sightings = foreign.map { hook -> Sighting in
      let on = hook.target.map { " on \($0.name)" } ?? ""
      return Sighting(
        [.table("\(hook.kind.rawValue) \(hook.name)", entry: nil), .code(hook.code.address)], .critical, .strong,
        "\(hook.kind.rawValue) \(hook.name)\(on) calls code at \(hook.code.address), which belongs to nothing",
        evidence: [
          .init(
            "what \(hook.kind.rawValue) \(hook.name) calls", at: hook.code.address, seen: hook.code.name,
            expected: "code of the kernel, of a module, or of a BPF program")
        ])
    }
    // Kernels that find system calls by a switch have the table for tracers only, and both say the same.
    for hook in table.hooks where hook.kind == .systemCall && hook.isPatched && hook.code.owner != .unknown {
      sightings.append(
        Sighting(
          [.table("\(hook.kind.rawValue) \(hook.name)", entry: nil)], .warning, .strong,
          "\(hook.kind.rawValue) \(hook.name) leads to \(hook.code.name), and the table of system calls says otherwise",
          evidence: [
            .init(
              "what \(hook.kind.rawValue) \(hook.name) calls", at: hook.code.address, seen: hook.code.name,
              expected: "the function that sys_call_table has")
          ], persists: [hook.code.address.rawValue]))
    }
    return Sightings(sightings, outOf: table.hooks.count, faults: table.faults)
  }
}
