public import KernelViews

/// What was learned of a host when it was known to be well, for later looks to be compared with.
///
/// Detectors say what they learn (``Detector/facts(_:)``) and compare it themselves. What holds for one boot only, such as the
/// rights of a process, is not compared after the next one.
public struct Baseline: Sendable, Codable, Equatable {
  /// The kernel's release then.
  public var release: String
  /// What tells that boot from any other of the same host.
  public var boot: String
  /// Seconds since 1970, by the clock of who looked.
  public var learned: Double
  /// What each detector learned, by its name: of what, and how it was.
  public var facts: [String: [String: String]]

  /// Learns from a look.
  ///
  /// - Returns: what was learned, and the detectors that could not look with the reason.
  /// - Throws: ``KernelError`` where not even the boot can be told from others.
  public static func learned(
    from look: Look, _ detectors: [any Detector.Type] = Detectors.all
  ) throws(KernelError) -> (baseline: Baseline, failures: [(detector: String, reason: String)]) {
    var baseline = Baseline(
      release: look.kernel.release, boot: try look.bootMark(), learned: look.moment.utc, facts: [:])
    var failures: [(detector: String, reason: String)] = []
    for detector in detectors {
      do throws(KernelError) {
        let facts = try detector.facts(look)
        if !facts.isEmpty { baseline.facts[detector.name] = facts }
      } catch {
        failures.append((detector.name, "\(error)"))
      }
    }
    return (baseline, failures)
  }
}

extension Look {
  /// What tells this boot from others: when the first process and the first thread of the kernel began, to the nanosecond.
  ///
  /// The kernel's own boot id will not do: it has none until somebody asks for it.
  func bootMark() throws(KernelError) -> String {
    try tasks().tasks.filter { $0.tid == 1 || $0.tid == 2 }.map { "\($0.startTime)" }.joined(separator: "-")
  }

  /// What `detector` learned; nil where nothing was learned, or of another boot what holds for one only.
  func learned(by detector: any Detector.Type) throws(KernelError) -> [String: String]? {
    guard let baseline, let facts = baseline.facts[detector.name] else { return nil }
    if detector.factsAreOfBoot, try bootMark() != baseline.boot { return nil }
    return facts
  }
}
