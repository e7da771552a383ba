import Binding
public import KernelViews

/// A task got capabilities that the kernel gives nobody so.
public struct StolenCapabilities: Detector {
  public static let name = "stolen-capabilities"
  public static let kind = Finding.Kind.attack
  public static let summary = "A task has capabilities that it cannot have got from the kernel."
  public static let rule = """
    Its effective or permitted capabilities hold bits that init_cred has not, which none has; or effective ones that are not \
    permitted; or permitted ones more than in the look before, or than was learned, with the same program and user namespace and none of its ids \
    root's. Judged on real_cred.
    """
  public static let looksLike = """
    execve of a program with capabilities, setns and unshare into a user namespace: the count of executions or the namespace \
    changes with them.
    """
  public static let remedy = StolenCredentials.remedy
  public static let techniques = ["T1068"]
  public static let baseline = Finding.Baseline.invariant

  public static let factsAreOfBoot = true

  /// Which capabilities processes without root's ids may have, and of which program.
  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    let marks = try look.marks().marks.filter { ![$0.task.uid, $0.task.euid, $0.task.suid].contains(0) }
    return Dictionary(
      marks.map { ($0.key, "\($0.program) \(String($0.permittedCapabilities, radix: 16))") }
    ) { first, _ in first }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let table = try look.marks()
    let earlier = Dictionary(try before?.marks().marks.map { ($0.task.address, $0) } ?? []) { first, _ in first }
    let learned = try look.learned(by: Self.self)
    // What the kernel itself has is all there is.
    let all = try look.allCapabilities()
    var sightings: [Sighting] = []
    for mark in table.marks where mark.task.state != .zombie && mark.task.state != .dead {
      let task = mark.task
      let who = "\(task.comm.printable) (\(task.tid)) of user \(task.uid)"
      let (effective, permitted) = (mark.effectiveCapabilities, mark.permittedCapabilities)
      func sighting(_ confidence: Finding.Confidence, _ title: String, _ seen: UInt64, _ expected: String) -> Sighting {
        Sighting(
          [.task(task)], .critical, confidence, title,
          evidence: [
            .init("capabilities", at: mark.credentials, seen: "0x" + String(seen, radix: 16), expected: expected)
          ], persists: [mark.credentials.rawValue])
      }
      if let all, (effective | permitted) & ~all != 0 {
        sightings.append(
          sighting(
            .proven, "\(who) has capabilities that do not exist: they were written over", effective | permitted,
            "bits of 0x" + String(all, radix: 16) + " only"))
      } else if effective & ~permitted != 0 {
        sightings.append(
          sighting(
            .proven, "\(who) uses capabilities that it is not permitted to have: they were written over", effective,
            "bits of 0x" + String(permitted, radix: 16) + " only"))
      } else if ![task.uid, task.euid, task.suid].contains(0) {
        if let fact = learned?[mark.key]?.split(separator: " ").map(String.init), fact.count == 2,
          fact[0] == mark.program, let old = UInt64(fact[1], radix: 16), permitted & ~old != 0
        {
          var gained = sighting(
            .strong, "\(who) was given capabilities while it ran", permitted, "0x" + fact[1] + " as learned")
          gained.baseline = .learned
          sightings.append(gained)
        } else if let old = earlier[task.address], old.key == mark.key, old.program == mark.program,
          permitted & ~old.permittedCapabilities != 0
        {
          var gained = sighting(
            .strong, "\(who) was given capabilities while it ran", permitted,
            "0x" + String(old.permittedCapabilities, radix: 16) + " as before")
          gained.needsBothLooks = true
          sightings.append(gained)
        }
      }
    }
    return Sightings(sightings, outOf: table.marks.count, faults: table.faults)
  }
}

extension Look {
  /// The capabilities that this kernel knows, which are those of its own credentials; nil where it has none.
  func allCapabilities() throws(KernelError) -> UInt64? {
    guard let address = kernel.symbols.address(of: "init_cred") else { return nil }
    return try once("capabilities") { kernel throws(KernelError) in
      try KernelError.reading("the kernel's own credentials") {
        let place = try kernel.types.structure("cred").field("cap_permitted").offset
        return try kernel.addressSpace.load(address + place, as: UInt64.self)
      }
    }
  }
}

extension TaskMark {
  /// What may change its capabilities rightly: how often it called execve, what runs in it, and its user namespace.
  fileprivate var program: String { "\(executions)-\(memory)-\(userNamespace)" }
}
