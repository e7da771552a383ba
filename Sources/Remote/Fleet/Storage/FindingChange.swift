public import Detection
public import Records

/// A change of a finding as a host's log has it, to be kept.
public struct FindingChange: Hashable, Sendable {
  /// Its number in the log.
  public var number: UInt64
  /// The finding's id: the same as long as it is the same finding.
  public var id: String
  /// The id of the host's boot; empty where it has none.
  public var boot: String
  public var state, kind, severity, confidence, detector, title: String
  /// When it was first and last seen, in seconds since 1970, by the device's word.
  public var first, last: Double
  /// All of it, as `Finding.value` writes it.
  public var json: [UInt8]
  /// What a host's state goes by.
  public var open: OpenFinding
  /// What tells this entry of the log from another log's of the same number.
  public var mark: Int64

  /// A record and the finding that was made of it; `json` is what all of that is as JSON.
  public init(_ record: FindingRecord, _ finding: Finding, json: [UInt8]) {
    number = record.number
    id = finding.id
    boot = finding.boot ?? ""
    state = finding.state.rawValue
    kind = finding.kind.rawValue
    severity = finding.severity.rawValue
    confidence = finding.confidence.rawValue
    detector = finding.detector
    title = finding.title
    first = finding.first.utc
    last = finding.last.utc
    self.json = json
    open = OpenFinding(finding)
    mark = Self.mark(record)
  }

  init(
    number: UInt64, id: String, boot: String, state: String, kind: String, severity: String, confidence: String,
    detector: String, title: String, first: Double, last: Double, json: [UInt8], open: OpenFinding, mark: Int64
  ) {
    (self.number, self.id, self.boot, self.state, self.kind) = (number, id, boot, state, kind)
    (self.severity, self.confidence, self.detector, self.title) = (severity, confidence, detector, title)
    (self.first, self.last, self.json, self.open, self.mark) = (first, last, json, open, mark)
  }

  /// What a check by the service itself has found; `json` is all of it.
  init(_ finding: Finding, json: [UInt8]) {
    self.init(
      number: 0, id: finding.id, boot: finding.boot ?? "", state: finding.state.rawValue, kind: finding.kind.rawValue,
      severity: finding.severity.rawValue, confidence: finding.confidence.rawValue, detector: finding.detector,
      title: finding.title, first: finding.first.utc, last: finding.last.utc, json: json, open: OpenFinding(finding),
      mark: 0)
  }

  /// That a finding is over which was kept.
  init(closing kept: KeptFinding, at utc: Double) {
    self.init(
      number: 0, id: kept.id, boot: kept.boot, state: Finding.State.closed.rawValue, kind: kept.kind,
      severity: kept.severity, confidence: kept.confidence, detector: kept.detector, title: kept.title,
      first: kept.first, last: utc, json: Self.closed(kept.json),
      open: OpenFinding(
        id: kept.id, detector: kept.detector, kind: .init(rawValue: kept.kind) ?? .fault,
        severity: .init(rawValue: kept.severity) ?? .info, confidence: .init(rawValue: kept.confidence) ?? .hint,
        title: kept.title, first: kept.first), mark: 0)
  }

  /// A finding's JSON with another state.
  ///
  /// Before the state there are only words of GRASS's own, so the first such member is it.
  private static func closed(_ json: [UInt8]) -> [UInt8] {
    let key = Array("\"state\": \"".utf8)
    guard json.count > key.count,
      let start = (0...(json.count - key.count)).first(where: { json[$0..<$0 + key.count].elementsEqual(key) }),
      let end = json[(start + key.count)...].firstIndex(of: UInt8(ascii: "\""))
    else { return json }
    return json[..<(start + key.count)] + Array(Finding.State.closed.rawValue.utf8) + json[end...]
  }

  /// FNV-1a of what a device writes once.
  static func mark(_ record: FindingRecord) -> Int64 {
    let words = [
      record.number, record.identity, record.first.device, record.first.utc, record.last.device, record.last.utc,
      UInt64(record.state), UInt64(record.count),
    ]
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for word in words {
      for shift in stride(from: UInt64(0), to: 64, by: 8) {
        hash = (hash ^ (word >> shift & 0xff)) &* 0x100_0000_01b3
      }
    }
    return Int64(bitPattern: hash)
  }

  /// Whether it is not over.
  public var isOpen: Bool { state != Finding.State.closed.rawValue }
}
