public import LinuxKernel

/// Asks all detectors about a host, in one look or two.
///
/// What one look proves is found in one. What only lasts is looked at again after a pause, and is found where both looks agree:
/// tasks come and go, modules are being loaded, and a reader may see half of it.
public struct Check: Sendable {
  /// The detectors that are asked.
  public var detectors: [any Detector.Type]
  /// How long after the first look the second one follows.
  public var pause: Duration
  /// Whether the second look is taken also where nothing needs it, for what shows only in how things move.
  public var alwaysLooksTwice: Bool
  /// What was learned of the host before, which the looks are compared with; nil where nothing was.
  public var baseline: Baseline?
  /// What its owner knows to be right, and the day up to which that holds: of what they cover there are no findings.
  public var allowances: [Allowance] = []
  /// The day, as ``Allowance/expires`` writes it.
  public var today = ""

  public init(
    detectors: [any Detector.Type] = Detectors.all, pause: Duration = .seconds(1), alwaysLooksTwice: Bool = false,
    baseline: Baseline? = nil
  ) {
    self.detectors = detectors
    self.pause = pause
    self.alwaysLooksTwice = alwaysLooksTwice
    self.baseline = baseline
  }

  /// Called before a detector is asked, so that who waits knows which one takes so long, or ends the process.
  public var asks: @Sendable (any Detector.Type) -> Void = { _ in }

  /// What the host's device has found by itself and not closed: it looks all the time, and sees what two looks cannot.
  public var device: [Finding] = []

  /// What checks of this host found in its texts before, for who checks it again and again; nil where each is looked through.
  public var texts: SeenTexts?

  /// What a check gave.
  public struct Report: Sendable {
    /// Those that are confirmed, the worst first; what follows from another comes behind it.
    public var findings: [Finding] = []
    /// The ids of those that detectors of the check found, which the device may have found as well.
    public var asked: Set<String> = []
    /// What one look saw and the next did not, or not any more.
    public var unconfirmed: [Finding] = []
    /// What is covered by an allowance.
    public var allowed: [Finding] = []
    /// Detectors that could not look, and why.
    public var failures: [(detector: String, reason: String)] = []
    /// The names of those whose kernel lacks a symbol or a type that they need: no other look will be better.
    public var lacks: Set<String> = []
    /// Detectors whose answer is not whole, and an example of why.
    public var partial: [(detector: String, reason: String)] = []
    public var looks = 0
    /// Whether the host's clock stood still between two looks; nil after one look.
    public var stoodStill: Bool?

    /// The worst severity of what was found; nil where nothing was.
    public var worst: Finding.Severity? { findings.map(\.severity).max() }
  }

  /// Looks at the host.
  ///
  /// `wait` waits for as long as it is told; the caller's, since not every thread may sleep.
  ///
  /// Cost: that of the views that detectors ask, each once a look.
  public func run(on kernel: Kernel, wait: (Duration) -> Void) -> Report {
    var report = Report()
    let boot = kernel.bootID
    let first = Look(at: kernel, baseline: baseline, seen: texts)
    report.looks = 1
    let seen = ask(detectors, first, before: nil, &report)
    let needsMore = detectors.filter { detector in
      !detector.needsOneLook && (alwaysLooksTwice || seen.contains { $0.detector.name == detector.name })
    }
    guard !needsMore.isEmpty else {
      settle(seen.map { $0.finding(.confirmed, first.moment, first.moment, 1, kernel, boot) }, first, &report)
      return report
    }
    wait(pause)
    let second = Look(at: kernel, baseline: baseline, seen: texts)
    report.looks = 2
    report.stoodStill = first.moment.guest == second.moment.guest
    var ignored = Report()
    let again = ask(needsMore, second, before: first, &ignored)
    report.failures += ignored.failures.filter { new in !report.failures.contains { $0.detector == new.detector } }
    var found: [Finding] = []
    for item in seen {
      if item.detector.needsOneLook {
        found.append(item.finding(.confirmed, first.moment, first.moment, 1, kernel, boot))
      } else if let same = again.first(where: { $0.isSame(as: item) }) {
        found.append(same.finding(.confirmed, first.moment, second.moment, 2, kernel, boot))
      } else {
        report.unconfirmed.append(item.finding(.open, first.moment, first.moment, 1, kernel, boot))
      }
    }
    // What only two looks together can show is seen first in the second.
    for item in again where !seen.contains(where: { $0.isSame(as: item) }) {
      if item.sighting.needsBothLooks {
        found.append(item.finding(.confirmed, first.moment, second.moment, 2, kernel, boot))
      } else {
        report.unconfirmed.append(item.finding(.open, second.moment, second.moment, 1, kernel, boot))
      }
    }
    settle(found, second, &report)
    return report
  }

  /// Arranges what was found, without what is allowed.
  private func settle(_ found: [Finding], _ look: Look, _ report: inout Report) {
    var kept: [Finding] = []
    report.asked = Set(found.map(\.id))
    // What both see is told once, by who looked closer.
    let others = device.filter { other in !found.contains { $0.detector == other.detector } }
    for finding in found + others {
      let isAllowed = allowances.contains { allowance in
        // What cannot be read is not known to be right.
        (try? allowance.covers(finding, in: look, today: today)) ?? false
      }
      if isAllowed { report.allowed.append(finding) } else { kept.append(finding) }
    }
    report.findings = arrange(kept)
  }

  // MARK: Asking

  /// A sighting, and whose it is.
  private struct Item {
    let detector: any Detector.Type
    let sighting: Sighting
    var id: String { Finding.id(detector.name, sighting.subjects) }

    func isSame(as other: Item) -> Bool {
      detector.name == other.detector.name && sighting.subjects == other.sighting.subjects
        && sighting.persists == other.sighting.persists
    }

    func finding(
      _ state: Finding.State, _ first: Finding.Moment, _ last: Finding.Moment, _ count: Int, _ kernel: Kernel,
      _ boot: String?
    ) -> Finding {
      Finding(
        id: id, detector: detector.name, kind: detector.kind, severity: sighting.severity,
        confidence: sighting.confidence, state: state, first: first, last: last, count: count,
        subjects: sighting.subjects, related: sighting.related, title: sighting.title, evidence: sighting.evidence,
        techniques: detector.techniques, remedy: detector.remedy, kernel: kernel.release, boot: boot,
        baseline: sighting.baseline ?? detector.baseline)
    }
  }

  private func ask(
    _ detectors: [any Detector.Type], _ look: Look, before: Look?, _ report: inout Report
  ) -> [Item] {
    var items: [Item] = []
    for detector in detectors {
      asks(detector)
      do throws(KernelError) {
        let sightings = try detector.sightings(look, before: before)
        if let fault = sightings.faults.first { report.partial.append((detector.name, "\(fault)")) }
        items += Self.judged(sightings, of: detector, look, before: before).map {
          Item(detector: detector, sighting: $0)
        }
      } catch {
        report.failures.append((detector.name, "\(error)"))
        if error.isOfKernel { report.lacks.insert(detector.name) }
      }
    }
    return items
  }

  /// Judges what would name more than a tenth of a table, which cannot be taken as it is: a mistake of the reader looks like that.
  ///
  /// So it is looked at in another way: the detector's own, or, where it has none, once more with every address looked up in the
  /// page tables. Where both agree it is one finding about the table, as severe as its worst. Where they do not, it is one about the
  /// reader, beside all that they do agree on: who adds a thousand false things hides no true one. Nothing is dropped, also where
  /// there is no other way.
  private static func judged(
    _ seen: Sightings, of detector: any Detector.Type, _ look: Look, before: Look?
  ) -> [Sighting] {
    func isMuch(_ count: Int) -> Bool { seen.outOf.map { count > max(4, $0 / 10) } ?? false }
    guard isMuch(seen.sightings.count) else { return seen.sightings }
    let (count, outOf) = (seen.sightings.count, seen.outOf ?? 0)
    func evidence(_ sightings: [Sighting]) -> [Finding.Evidence] {
      Array(sightings.prefix(6).flatMap { $0.evidence.prefix(1) })
    }
    func table(_ sightings: [Sighting], _ confidence: Finding.Confidence?, _ how: String) -> [Sighting] {
      guard let worst = sightings.max(by: { $0.severity < $1.severity }) else { return [] }
      return [
        Sighting(
          [.table(detector.name, entry: nil)], worst.severity, confidence ?? worst.confidence,
          "\(sightings.count) of \(outOf) are not as they ought to be, \(how), for example: \(worst.title)",
          evidence: evidence(sightings))
      ]
    }
    let second: [Sighting]
    do throws(KernelError) {
      if let own = try detector.secondWay(look) {
        second = own.sightings
      } else {
        second = try detector.sightings(look.throughPageTables(), before: before).sightings
      }
    } catch {
      return table(seen.sightings, .hint, "seen in one way since the other fails (\(error))")
    }
    let others = Set(second.map(\.subjects))
    let agreed = seen.sightings.filter { others.contains($0.subjects) }
    if agreed.count * 10 >= count * 9 { return table(agreed, nil, "seen in two ways") }
    let rest = seen.sightings.filter { !others.contains($0.subjects) }
    return (isMuch(agreed.count) ? table(agreed, nil, "seen in two ways") : agreed) + [
      Sighting(
        [.observer(detector.name)], .warning, .strong,
        "\(detector.name) sees \(count) of \(outOf) that are not as they ought to be, and \(agreed.count) of them in another "
          + "way: the reader does not understand this kernel, or is being misled", evidence: evidence(rest))
    ]
  }

  // MARK: Arranging

  /// Puts what follows from something below it, and the worst first.
  private func arrange(_ found: [Finding]) -> [Finding] {
    var findings: [Finding] = []
    for finding in found where !findings.contains(where: { $0.id == finding.id }) { findings.append(finding) }
    let kinds = Dictionary(detectors.map { ($0.name, $0) }) { first, _ in first }
    for cause in findings.indices {
      guard let detector = kinds[findings[cause].detector] else { continue }
      for effect in findings.indices
      where effect != cause && !findings[cause].causes.contains(findings[effect].id)
        && detector.explains(findings[cause], effect: findings[effect])
      {
        findings[cause].effects.append(findings[effect].id)
        findings[effect].causes.append(findings[cause].id)
      }
    }
    func rank(_ one: Finding, _ other: Finding) -> Bool {
      (one.severity, one.confidence, other.id) > (other.severity, other.confidence, one.id)
    }
    var arranged: [Finding] = []
    func add(_ finding: Finding) {
      guard !arranged.contains(where: { $0.id == finding.id }) else { return }
      arranged.append(finding)
      for effect in findings.filter({ finding.effects.contains($0.id) }).sorted(by: rank) { add(effect) }
    }
    for root in findings.filter(\.causes.isEmpty).sorted(by: rank) { add(root) }
    for rest in findings.sorted(by: rank) { add(rest) }
    return arranged
  }
}

extension Finding {
  /// The same for the same detector and subjects, wherever and whenever: FNV-1a of their keys.
  static func id(_ detector: String, _ subjects: [Subject]) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in subjects.map({ "\($0.kind) \($0.key)" }).joined(separator: "\n").utf8 {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    let digits = String(hash, radix: 16)
    return "\(detector):\(String(repeating: "0", count: 16 - digits.count))\(digits)"
  }
}

extension KernelError {
  /// Whether the kernel has not what was to be read, whatever its memory holds just then.
  fileprivate var isOfKernel: Bool {
    switch cause {
    case .missingSymbol, .info: true
    default: false
    }
  }
}
