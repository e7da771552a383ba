public import KernelViews

/// A module that was not there.
public struct NewModule: Detector {
  public static let name = "module-new"
  public static let kind = Finding.Kind.change
  public static let summary = "A module of the kernel is loaded that was not when the host was learned."
  public static let rule =
    "A name in the list of modules that was not learned, or another size of its text under one that was."
  public static let looksLike = "Hardware that was plugged in, and services that need one: it is info."
  public static let remedy =
    "See whether it belongs to the kernel's package: grassctl lsmod; its taints say O or E where not."
  public static let baseline = Finding.Baseline.learned
  public static let needsOneLook = true

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    // A host without modules has learned that, too.
    var facts = ["": "\(look.kernel.release)"]
    for module in try look.modules().modules { facts[module.name.printable] = "\(module.textSize)" }
    return facts
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    // Another kernel has other modules.
    guard let old = try look.learned(by: Self.self), old[""] == look.kernel.release else { return Sightings() }
    let table = try look.modules()
    return Sightings(
      table.modules.compactMap { module in
        let name = module.name.printable
        guard old[name] != "\(module.textSize)" else { return nil }
        return Sighting(
          [.module(module.address, name: module.name)], .info, .strong,
          old[name] == nil ? "module \(name) is new" : "module \(name) is not the one that was learned",
          evidence: [.init("bytes of text", at: module.text, seen: "\(module.textSize)", expected: old[name] ?? "none")]
        )
      }, faults: table.faults)
  }
}

/// A defence is lower than it was.
public struct LoweredDefence: Detector {
  public static let name = "defence-lowered"
  public static let kind = Finding.Kind.attack
  public static let summary = "A switch that defends the host is lower than when it was learned."
  public static let rule = """
    Of these the value is smaller than was learned: kptr_restrict, perf_event_paranoid, unprivileged_bpf_disabled, yama's \
    ptrace_scope, modules_disabled, dmesg_restrict, randomize_va_space, kexec_load_disabled, the lockdown, protected_symlinks, \
    protected_hardlinks, audit_enabled, and whether SELinux enforces.
    """
  public static let looksLike = "An administrator who debugs: a warning, never critical."
  public static let remedy = "See who did it, and set it back by sysctl or setenforce."
  public static let techniques = ["T1562"]
  public static let baseline = Finding.Baseline.learned

  private static let variables = [
    "kptr_restrict", "sysctl_perf_event_paranoid", "sysctl_unprivileged_bpf_disabled", "ptrace_scope",
    "modules_disabled",
    "dmesg_restrict", "randomize_va_space", "kexec_load_disabled", "kernel_locked_down", "sysctl_protected_symlinks",
    "sysctl_protected_hardlinks", "audit_enabled",
  ]

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    var facts: [String: String] = [:]
    for name in variables {
      if let value = try look.number(name) { facts[name] = "\(Int32(truncatingIfNeeded: value))" }
    }
    if let state = look.kernel.symbols.address(of: "selinux_state"),
      let field = try? look.kernel.types.structure("selinux_state").field("enforcing")
    {
      let space = look.kernel.addressSpace
      let bytes = try KernelError.reading("the state of SELinux") { try space.read(state + field.offset, count: 1) }
      facts["selinux_state.enforcing"] = "\(bytes[0])"
    }
    return facts
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let old = try look.learned(by: Self.self) else { return Sightings() }
    let now = try facts(look)
    return Sightings(
      old.keys.sorted().compactMap { name in
        guard let was = old[name].flatMap({ Int32($0) }), let value = now[name].flatMap({ Int32($0) }), value < was
        else {
          return nil
        }
        return Sighting(
          [.table(name, entry: nil)], .warning, .strong, "\(name) was lowered from \(was) to \(value)",
          evidence: [.init(name, at: look.kernel.symbols.address(of: name), seen: "\(value)", expected: "\(was)")])
      })
  }
}

/// A program of BPF that decides on packets or on rights and was not there.
public struct NewProgram: Detector {
  public static let name = "bpf-attached"
  public static let kind = Finding.Kind.change
  public static let summary =
    "A BPF program sees packets or decides on rights that was not there when the host was learned."
  public static let rule = """
    A program of the kernel's table whose type is XDP, a class or an action of traffic, a filter of netfilter's or of streams, or a hook \
    of security, and whose tag was not learned for that type.
    """
  public static let looksLike = """
    Networks of containers, balancers and agents of security that were installed or updated since: it is a notice. Learn anew, or \
    allow it by its tag.
    """
  public static let remedy = "See what it is and who loaded it: grassctl bpf, grassctl lsof for bpf-prog."
  public static let techniques = ["T1205.002"]
  public static let baseline = Finding.Baseline.learned

  /// What the numbers of enum bpf_prog_type mean that are looked at.
  private static let kinds: [UInt32: String] = [
    3: "a class of traffic", 4: "an action of traffic", 6: "XDP, before the kernel sees a packet",
    14: "streams of sockets",
    16: "messages of sockets", 29: "a hook of security", 32: "a hook of netfilter",
  ]

  private static func key(_ program: BPFProgram) -> String { "\(program.type) \(Text.hexadecimal(program.tag))" }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    // A host without programs has learned that, too.
    var facts = ["": ""]
    for program in try look.bpf().programs where kinds[program.type] != nil {
      facts[key(program)] = program.name.printable
    }
    return facts
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let old = try look.learned(by: Self.self) else { return Sightings() }
    let table = try look.bpf()
    return Sightings(
      table.programs.compactMap { program in
        guard let kind = kinds[program.type], old[key(program)] == nil else { return nil }
        let name = program.name.isEmpty ? "" : "\(program.name.printable) "
        return Sighting(
          [.program(id: program.id, name: program.name)], .notice, .strong,
          "BPF program \(name)(\(program.id)) is new: \(kind)",
          evidence: [
            .init("its tag", at: program.address, seen: Text.hexadecimal(program.tag), expected: "one that was learned")
          ])
      }, faults: table.faults)
  }
}
