public import KernelViews

/// The kernel killed processes because memory ran out.
public struct OutOfMemoryKill: Detector {
  public static let name = "oom-kill"
  public static let kind = Finding.Kind.fault
  public static let summary = "The kernel killed a process because memory ran out."
  public static let rule = """
    The counter oom_kill of the kernel's memory events, which never falls; who was killed, and whether the host ran out or a \
    control group, is the log's. Three kills within a minute are a storm.
    """
  public static let looksLike =
    "A control group at its own limit is no shortage of the host: it is a warning, and said."
  public static let remedy = """
    See who takes the memory now: grassctl ps --sort=-rss, grassctl slabtop, grassctl free. Restarting what was killed \
    without that may kill the next.
    """
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let kills = try look.vmStatistics()["oom_kill"] ?? 0
    guard kills > 0 else { return Sightings() }
    let records = (try? look.log().records) ?? []
    let killed = records.filter { record in
      let text = record.text.printable
      return text.contains("Killed process ") && text.contains("ut of memory")
    }
    let isHost = killed.contains { !$0.text.starts(with: Array("Memory cgroup".utf8)) }
    // Of a log that has lost its records nobody knows whose memory it was.
    let severity: Finding.Severity = isHost || killed.isEmpty ? .critical : .warning
    var evidence = [Finding.Evidence("oom_kill", seen: "\(kills)", expected: "0")]
    evidence += killed.suffix(4).map { .init("the log", seen: $0.text.printable) }
    let times = killed.map(\.time)
    let isStorm = zip(times, times.dropFirst(2)).contains { $0.1 &- $0.0 < 60_000_000_000 }
    let what = killed.last.map { ", last \(Text.seconds($0.time)) s after it booted: \($0.text.printable)" } ?? ""
    let whose = killed.isEmpty ? "memory" : isHost ? "the host's memory" : "a control group's memory"
    return Sightings([
      Sighting(
        [.host], severity, .proven,
        "\(whose) ran out and the kernel killed \(kills == 1 ? "a process" : "\(kills) processes")"
          + "\(isStorm ? ", three within a minute" : "")\(what)", evidence: evidence)
    ])
  }
}
