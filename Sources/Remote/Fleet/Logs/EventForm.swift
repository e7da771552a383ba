public import Detection
import Output

/// What an event is about, for forms of other programs.
public enum EventSubject: Sendable {
  case finding(Finding)
  /// A finding of which only what was kept is known.
  case kept(OpenFinding, last: Double, isClosed: Bool)
  case state(Standing, labels: [String: String])
  case other
}

/// Forms in which events are written to logs, one line of JSON each.
public enum EventForm: String, CaseIterable, Sendable {
  /// As webhooks have them: `{"time": …, "event": …, "data": {…}}`.
  case json
  /// The Detection Finding (class 2004) of the Open Cybersecurity Schema Framework, version 1.3: findings and states.
  case ocsf

  /// An event in this form, without the end of the line; nil where the form has no place for it.
  func line(_ event: FleetEvent, at utc: Double) -> [UInt8]? {
    switch self {
    case .json:
      return Array("{\"time\": \"\(Moments.exact(utc))\", \"event\": \"\(event.kind.rawValue)\", \"data\": ".utf8)
        + event.json + [UInt8(ascii: "}")]
    case .ocsf: return ocsf(event, at: utc).map { FleetJSON.bytes($0) }
    }
  }

  private func ocsf(_ event: FleetEvent, at utc: Double) -> JSON? {
    switch event.subject {
    case .other: return nil
    case .finding(let finding):
      guard case .object(var members) = JSON(FindingFormat.ocsf.value(finding)) else { return nil }
      for index in members.indices where members[index].0 == "device" {
        if case .object(let device) = members[index].1 {
          members[index].1 = .object([("hostname", .string(event.host))] + device)
        }
      }
      return .object(members)
    case .kept(let finding, let last, let isClosed):
      return Self.detection(
        event.host, id: finding.id, title: finding.title, kind: finding.kind.rawValue, analytic: finding.detector,
        severity: finding.severity, first: finding.first, last: last, isClosed: isClosed, labels: [:])
    case .state(let standing, let labels):
      // A state is told as one finding of the host, which is over when the host is alive.
      return Self.detection(
        event.host, id: "state:\(event.host)", title: "\(event.host) is \(standing.state.rawValue): \(standing.cause)",
        kind: "state", analytic: "grass-fleet", severity: standing.state.severity, first: standing.since,
        last: max(utc, standing.since), isClosed: standing.state == .alive, labels: labels)
    }
  }

  private static func detection(
    _ host: String, id: String, title: String, kind: String, analytic: String, severity: Finding.Severity,
    first: Double, last: Double, isClosed: Bool, labels: [String: String]
  ) -> JSON {
    let activity: Int64 = isClosed ? 3 : 1
    let (number, name): (Int64, String) =
      switch severity {
      case .info: (1, "Informational")
      case .notice: (2, "Low")
      case .warning: (4, "High")
      case .critical: (5, "Critical")
      }
    return .object([
      ("class_uid", .signed(2004)), ("class_name", .string("Detection Finding")), ("category_uid", .signed(2)),
      ("category_name", .string("Findings")), ("activity_id", .signed(activity)),
      ("type_uid", .signed(200_400 + activity)), ("time", .signed(Int64(last * 1000))), ("message", .string(title)),
      ("severity_id", .signed(number)), ("severity", .string(name)), ("status_id", .signed(isClosed ? 4 : 1)),
      ("is_alert", .bool(severity >= .warning && !isClosed)),
      (
        "finding_info",
        .object([
          ("uid", .string(id)), ("title", .string(title)), ("types", .array([.string(kind)])),
          ("first_seen_time", .signed(Int64(first * 1000))), ("last_seen_time", .signed(Int64(last * 1000))),
          (
            "analytic",
            .object([("name", .string(analytic)), ("type", .string("Rule")), ("type_id", .signed(1))])
          ),
        ])
      ),
      (
        "device",
        .object([
          ("hostname", .string(host)), ("type_id", .signed(0)),
          (
            "os",
            .object([("name", .string("Linux")), ("type", .string("Linux")), ("type_id", .signed(200))])
          ),
        ])
      ),
      ("unmapped", .object([("labels", FleetJSON.labels(labels))])),
      (
        "metadata",
        .object([
          ("version", .string("1.3.0")), ("uid", .string(id)),
          ("product", .object([("name", .string("GRASS")), ("vendor_name", .string("GRASS"))])),
        ])
      ),
    ])
  }
}

extension HostState {
  /// How soon a human has to look.
  var severity: Finding.Severity {
    switch self {
    case .panic, .lying, .still: .critical
    case .stuck, .silent, .unreachable, .agentDead, .unseen: .warning
    case .alive: .info
    }
  }
}
