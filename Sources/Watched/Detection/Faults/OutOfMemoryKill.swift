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
    // Those of a control group say so, and the record before says which.
    let ofGroups = killed.filter { $0.text.starts(with: Array("Memory cgroup".utf8)) }
    let ofHost = killed.filter { !$0.text.starts(with: Array("Memory cgroup".utf8)) }
    let groups = Dictionary(grouping: ofGroups) { group(of: $0, records) }
    let counter = Finding.Evidence("oom_kill", seen: "\(kills)", expected: "0")
    var sightings: [Sighting] = []
    // Of a log that has lost its records nobody knows whose memory it was.
    if !ofHost.isEmpty || killed.isEmpty {
      sightings.append(
        sighting(
          [.host], .critical, ofHost.isEmpty ? "memory" : "the host's memory",
          max(UInt64(ofHost.count), kills - min(kills, UInt64(ofGroups.count))), ofHost, counter))
    }
    for (group, records) in groups.sorted(by: { $0.key < $1.key }) {
      sightings.append(
        sighting(
          [.table("control group \(group)", entry: nil)], .warning, "the memory of control group \(group)",
          UInt64(records.count), records, counter))
    }
    return Sightings(sightings)
  }

  private static func sighting(
    _ subjects: [Subject], _ severity: Finding.Severity, _ whose: String, _ kills: UInt64, _ killed: [LogRecord],
    _ counter: Finding.Evidence
  ) -> Sighting {
    let times = killed.map(\.time)
    let isStorm = zip(times, times.dropFirst(2)).contains { $0.1 &- $0.0 < 60_000_000_000 }
    let what = killed.last.map { ", last \(Text.seconds($0.time)) s after it booted: \($0.text.printable)" } ?? ""
    return Sighting(
      subjects, severity, .proven,
      "\(whose) ran out and the kernel killed \(kills == 1 ? "a process" : "\(kills) processes")"
        + "\(isStorm ? ", three within a minute" : "")\(what)",
      evidence: [counter] + killed.suffix(4).map { .init("the log", seen: $0.text.printable) })
  }

  /// The control group whose memory ran out when `killed` was written; a question mark where the log has lost it.
  ///
  /// Source: mm/oom_kill.c, `dump_oom_summary`: "oom-kill:constraint=…,oom_memcg=/a,task_memcg=/a/b,task=…,pid=…".
  private static func group(of killed: LogRecord, _ records: [LogRecord]) -> String {
    let summary = records.last { $0.sequence < killed.sequence && $0.text.starts(with: Array("oom-kill:".utf8)) }
    let part = summary?.text.printable.split(separator: ",").first { $0.hasPrefix("oom_memcg=") }
    return part.map { String($0.dropFirst("oom_memcg=".count)) } ?? "?"
  }
}
