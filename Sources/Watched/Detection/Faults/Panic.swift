public import KernelViews

/// A kernel that has panicked: it ends everything, and explains all that follows.
public struct Panic: Detector {
  public static let name = "panic"
  public static let kind = Finding.Kind.fault
  public static let summary = "The kernel has panicked: nothing runs on the host any more."
  public static let rule = "panic_cpu names a CPU; the reason is the log's record \"Kernel panic - not syncing\"."
  public static let looksLike = "Nothing: a kernel sets panic_cpu once, on its way down."
  public static let remedy = """
    Take what the memory holds before the host reboots (it may do so by itself, kernel.panic): grassctl dmesg, grassctl stack \
    --all, grassctl ps. Do not reset it first. What a device with detectors has kept stays: grassctl last-words.
    """
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let panic = try look.host().panic else { return Sightings() }
    let log = try? look.log()
    let record = log?.records.last { $0.text.starts(with: Array("Kernel panic - not syncing: ".utf8)) }
    let when = record.map { ", \(Text.seconds($0.time)) s after it booted" } ?? ""
    let cause = log.flatMap { Text.cause(of: record, in: $0) }
    var evidence = [Finding.Evidence("panic_cpu", seen: "\(panic.cpu)", expected: "-1")]
    if let record { evidence.append(.init("the log", seen: record.text.printable)) }
    if let cause { evidence.append(.init("the log before it", seen: cause)) }
    return Sightings([
      Sighting(
        [.host], .critical, .proven,
        "the kernel panicked on CPU \(panic.cpu)\(when): \(panic.message ?? "the log no longer says why")",
        evidence: evidence)
    ])
  }

  /// A dead kernel does nothing, so whatever waits waits because of it.
  public static func explains(_ finding: Finding, effect: Finding) -> Bool {
    effect.kind == .fault
      && (Detectors.detector(named: effect.detector)?.goesByTime == true
        || [Oops.name, OfflineCPU.name].contains(effect.detector))
  }
}
