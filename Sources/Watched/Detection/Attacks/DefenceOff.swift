public import KernelViews

/// A defence of the kernel is switched off.
public struct DefenceOff: Detector {
  public static let name = "defence-off"
  public static let kind = Finding.Kind.attack
  public static let summary = "Something that defends the host, or lets others watch it, is switched off."
  public static let rule = """
    Variables that no distribution sets so: randomize_va_space is 0, sysctl_perf_event_paranoid is negative, ftrace_enabled is 0, \
    all kprobes are disarmed.
    """
  public static let looksLike = "An administrator who debugs: it is a warning, never critical."
  public static let remedy =
    "See who did it, and set it back: sysctl kernel.randomize_va_space=2, kernel.ftrace_enabled=1."
  public static let techniques = ["T1562"]
  public static let baseline = Finding.Baseline.threshold
  public static let needsOneLook = true

  private struct Switch {
    let variable: String
    let isOff: @Sendable (Int32) -> Bool
    let title: String
    let expected: String
  }

  private static let switches: [Switch] = [
    .init(
      variable: "randomize_va_space", isOff: { $0 == 0 }, title: "addresses of processes are not random", expected: "2"),
    .init(
      variable: "sysctl_perf_event_paranoid", isOff: { $0 < 0 },
      title: "everybody may watch the kernel by perf events", expected: "2 or 3"),
    .init(variable: "ftrace_enabled", isOff: { $0 == 0 }, title: "tracing by ftrace is off for all", expected: "1"),
  ]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    var sightings: [Sighting] = []
    for one in switches {
      guard let value = try look.number(one.variable) else { continue }
      let number = Int32(truncatingIfNeeded: value)
      guard one.isOff(number) else { continue }
      sightings.append(sighting(one.variable, one.title, look, seen: "\(number)", expected: one.expected))
    }
    if let disarmed = try look.number("kprobes_all_disarmed", size: 1), disarmed == 1 {
      sightings.append(
        sighting("kprobes_all_disarmed", "all probes of the kernel are disarmed", look, seen: "1", expected: "0"))
    }
    return Sightings(sightings)
  }

  /// That it is lower than it was is the same once more.
  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.detector == LoweredDefence.name && effect.subjects == finding.subjects
  }

  private static func sighting(
    _ variable: String, _ title: String, _ look: Look, seen: String, expected: String
  ) -> Sighting {
    Sighting(
      [.table(variable, entry: nil)], .warning, .proven, "\(title): \(variable) is \(seen)",
      evidence: [.init(variable, at: look.kernel.symbols.address(of: variable), seen: seen, expected: expected)])
  }
}
