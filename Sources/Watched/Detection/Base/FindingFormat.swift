import Glibc
public import Views

/// Forms in which findings are handed to other programs, one line of JSON each.
public enum FindingFormat: String, Sendable, CaseIterable {
  /// The Detection Finding (class 2004) of the Open Cybersecurity Schema Framework, version 1.3.
  case ocsf
  /// The fields that Falco writes with `json_output`.
  case falco

  /// A finding in this form.
  public func value(_ finding: Finding) -> ViewValue {
    switch self {
    case .ocsf: ocsf(finding)
    case .falco: falco(finding)
    }
  }

  // MARK: OCSF

  private func ocsf(_ finding: Finding) -> ViewValue {
    // 1 Create, 2 Update, 3 Close.
    let activity = finding.state == .closed ? 3 : finding.count > 1 ? 2 : 1
    let severity =
      switch finding.severity {
      case .info: (1, "Informational")
      case .notice: (2, "Low")
      case .warning: (4, "High")
      case .critical: (5, "Critical")
      }
    let confidence =
      switch finding.confidence {
      case .hint: (1, "Low")
      case .strong: (2, "Medium")
      case .proven: (3, "High")
      }
    let information: [ViewValue.Member] = [
      .init("uid", finding.id), .init("title", finding.title),
      .init("types", ViewValue.list([.text(finding.kind.rawValue)])),
      .init("first_seen_time", Self.milliseconds(finding.first)),
      .init("last_seen_time", Self.milliseconds(finding.last)),
      .init(
        "analytic",
        ViewValue.object([.init("name", finding.detector), .init("type", "Rule"), .init("type_id", 1)])),
      .init(
        "attacks",
        ViewValue.list(finding.techniques.map { .object([.init("technique", ViewValue.object([.init("uid", $0)]))]) })),
      .init(
        "related_events", ViewValue.list((finding.causes + finding.effects).map { .object([.init("uid", $0)]) })),
    ]
    return .object([
      .init("class_uid", 2004), .init("class_name", "Detection Finding"), .init("category_uid", 2),
      .init("category_name", "Findings"), .init("activity_id", activity), .init("type_uid", 200_400 + activity),
      .init("time", Self.milliseconds(finding.last)), .init("message", finding.title),
      .init("severity_id", severity.0), .init("severity", severity.1), .init("confidence_id", confidence.0),
      .init("confidence", confidence.1),
      // 1 New, 4 Resolved.
      .init("status_id", finding.state == .closed ? 4 : 1), .init("is_alert", finding.severity >= .warning),
      .init("finding_info", ViewValue.object(information)),
      .init("evidences", ViewValue.list(finding.evidence.map { .object([.init("data", $0.value)]) })),
      .init("resources", ViewValue.list(finding.subjects.map { Self.resource($0) })),
      .init("remediation", ViewValue.object([.init("desc", finding.remedy)])),
      .init(
        "device",
        ViewValue.object([
          .init("type_id", 0), .init("uid", finding.boot),
          .init(
            "os",
            ViewValue.object([
              .init("name", "Linux"), .init("type", "Linux"), .init("type_id", 200),
              .init("kernel_release", finding.kernel),
            ])),
        ])),
      .init(
        "metadata",
        ViewValue.object([
          .init("version", "1.3.0"), .init("uid", finding.id),
          .init("product", ViewValue.object([.init("name", "GRASS"), .init("vendor_name", "GRASS")])),
        ])),
    ])
  }

  private static func resource(_ subject: Subject) -> ViewValue {
    .object([.init("type", subject.kind), .init("name", subject.text), .init("data", subject.value)])
  }

  private static func milliseconds(_ moment: Finding.Moment) -> Int64 { Int64(moment.utc * 1000) }

  // MARK: Falco

  private func falco(_ finding: Finding) -> ViewValue {
    let priority =
      switch finding.severity {
      case .info: "Informational"
      case .notice: "Notice"
      case .warning: "Warning"
      case .critical: "Critical"
      }
    let time = Self.date(finding.last.utc)
    return .object([
      .init("output", "\(time): \(priority) \(finding.title)"), .init("priority", priority),
      .init("rule", finding.detector), .init("source", "grass"),
      .init("tags", ViewValue.list(([finding.kind.rawValue] + finding.techniques).map { .text($0) })),
      .init("time", time),
      .init(
        "output_fields",
        ViewValue.object([
          .init("grass.id", finding.id), .init("grass.confidence", finding.confidence.rawValue),
          .init("grass.subjects", finding.subjects.map(\.text).joined(separator: ", ")),
          .init("grass.evidence", finding.evidence.map(\.text).joined(separator: "; ")),
          .init("grass.kernel", finding.kernel), .init("grass.boot", finding.boot),
          .init("evt.time", Int64(finding.last.utc * 1e9)),
        ])),
    ])
  }

  /// As RFC 3339 writes it, with microseconds.
  private static func date(_ utc: Double) -> String {
    guard utc.isFinite, utc >= 0, utc < 253_402_300_800 else { return "" }
    var seconds = time_t(utc)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func digits(_ number: Int32, _ count: Int) -> String {
      let text = "\(number)"
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    let fraction = Int32((utc - utc.rounded(.down)) * 1_000_000)
    return "\(digits(parts.tm_year + 1900, 4))-\(digits(parts.tm_mon + 1, 2))-\(digits(parts.tm_mday, 2))T"
      + "\(digits(parts.tm_hour, 2)):\(digits(parts.tm_min, 2)):\(digits(parts.tm_sec, 2)).\(digits(fraction, 6))Z"
  }
}
