import Output

/// What the service says in JSON, in one place: the API, events and webhooks have the same.
enum FleetJSON {
  static func bytes(_ value: JSON) -> [UInt8] {
    var bytes: [UInt8] = []
    value.write(to: &bytes)
    return bytes
  }

  /// A state, and when the look was that shows it, in seconds since 1970.
  static func state(_ host: String, _ labels: [String: String], _ standing: Standing, at utc: Double) -> JSON {
    .object([("host", .string(host)), ("labels", Self.labels(labels)), ("at", .number(utc))] + members(standing))
  }

  static func labels(_ labels: [String: String]) -> JSON {
    .object(labels.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) })
  }

  static func members(_ standing: Standing) -> [(String, JSON)] {
    [
      ("state", .string(standing.state.rawValue)), ("since", .number(standing.since)),
      ("cause", .string(standing.cause)),
      (
        "before",
        standing.before.map {
          .object([
            ("state", .string($0.state.rawValue)), ("since", .number($0.since)), ("cause", .string($0.cause)),
          ])
        } ?? .null
      ),
    ]
  }

  /// A host as `/api/v1/fleet` has it.
  static func host(_ report: HostReport) -> JSON {
    .object(
      [("host", .string(report.name)), ("url", .string(report.url)), ("labels", labels(report.labels))]
        + members(report.standing)
        + [
          ("heartbeat_age_seconds", report.heartbeatAge.map { .number($0) } ?? .null),
          ("seen", report.seen.map { .number($0) } ?? .null), ("open_findings", .integer(report.open.count)),
          ("suspended_detectors", .integer(report.suspended)), ("missed_changes", .unsigned(report.missed)),
          ("checked", report.lastCheck.map { .number($0) } ?? .null),
          ("check_problem", report.checkProblem.map { .string($0) } ?? .null),
          ("agent_up", report.isAgentUp.map { .bool($0) } ?? .null),
          (
            "kernel",
            report.kernel.map {
              .object([
                ("release", .string($0.release)), ("version", .string($0.version)),
                ("build_id", $0.buildID.isEmpty ? .null : .string($0.buildID)),
              ])
            } ?? .null
          ),
        ])
  }

  /// A change of a finding as who follows gets it: `{"host": NAME, "finding": {…}}`.
  static func event(_ host: String, _ change: FindingChange) -> [UInt8] {
    Array("{\"host\": ".utf8) + bytes(.string(host)) + Array(", \"finding\": ".utf8) + change.json + Array("}".utf8)
  }

  /// A finding as the API has it: `{"number": …, "host": …, "finding": {…}, "acknowledgement": …}`.
  static func finding(_ finding: KeptFinding) -> [UInt8] {
    let acknowledgement: JSON =
      finding.acknowledgement.map {
        .object([
          ("who", .string($0.who)), ("comment", .string($0.comment)), ("at", .number($0.at)),
          ("until", $0.until.map { .number($0) } ?? .null),
        ])
      } ?? .null
    // A later log may have closed it without a word about it.
    let head: [(String, JSON)] = [
      ("number", .signed(finding.number)), ("host", .string(finding.host)), ("open", .bool(finding.isOpen)),
      ("acknowledgement", acknowledgement),
    ]
    return bytes(.object(head)).dropLast() + Array(", \"finding\": ".utf8) + finding.json + Array("}".utf8)
  }

  /// An image that was asked for.
  static func image(_ request: ImageRequest) -> JSON {
    .object([
      ("number", .signed(request.number)), ("host", .string(request.host)), ("who", .string(request.who)),
      ("reason", .string(request.reason)), ("rule", request.rule.isEmpty ? .null : .string(request.rule)),
      ("level", .integer(request.level)), ("state", .string(request.state.rawValue)),
      ("asked", .number(request.asked)), ("ended", request.ended.map { .number($0) } ?? .null),
      ("done_bytes", .unsigned(request.done)), ("total_bytes", .unsigned(request.total)),
      ("image", request.image.map { .string($0) } ?? .null), ("stored_bytes", .unsigned(request.stored)),
      ("problem", request.problem.map { .string($0) } ?? .null),
    ])
  }

  /// A time in which nobody is told of a host.
  static func maintenance(_ window: MaintenanceWindow) -> JSON {
    .object([
      ("number", .signed(window.number)), ("host", .string(window.host)), ("who", .string(window.who)),
      ("comment", .string(window.comment)), ("from", .number(window.from)), ("until", .number(window.until)),
    ])
  }

  /// Bytes as two digits each.
  static func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { $0 < 16 ? "0\(String($0, radix: 16))" : String($0, radix: 16) }.joined()
  }
}
