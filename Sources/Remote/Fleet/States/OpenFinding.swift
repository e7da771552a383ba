public import Detection

/// What a host's state goes by of a finding that is not over.
public struct OpenFinding: Hashable, Sendable {
  public var id: String
  public var detector: String
  public var kind: Finding.Kind
  public var severity: Finding.Severity
  public var confidence: Finding.Confidence
  public var title: String
  /// When it was first seen, in seconds since 1970, by the device's word.
  public var first: Double

  public init(
    id: String, detector: String, kind: Finding.Kind, severity: Finding.Severity, confidence: Finding.Confidence,
    title: String, first: Double
  ) {
    self.id = id
    self.detector = detector
    self.kind = kind
    self.severity = severity
    self.confidence = confidence
    self.title = title
    self.first = first
  }

  /// What a finding says.
  init(_ finding: Finding) {
    self.init(
      id: finding.id, detector: finding.detector, kind: finding.kind, severity: finding.severity,
      confidence: finding.confidence, title: finding.title, first: finding.first.utc)
  }

  /// The state of a host of which this is found; nil where it goes on all the same.
  public var state: HostState? {
    switch detector {
    case "panic": .panic
    case "stopped", "paused": .still
    case "hard-lockup", "soft-lockup", "rcu-stall", "softirq-livelock": .stuck
    case "hung-task", "deadlock": severity >= .warning ? .stuck : nil
    default:
      kind == .attack && severity >= .warning && confidence >= .strong && detector != "device-silent" ? .lying : nil
    }
  }
}
