/// A finding as it was last, with who has seen to it.
public struct KeptFinding: Hashable, Sendable {
  /// Its number in the database.
  public var number: Int64
  public var host, id, boot, state, kind, severity, confidence, detector, title: String
  /// When it was first and last seen, in seconds since 1970.
  public var first, last: Double
  /// All of it as JSON, as the API has it.
  public var json: [UInt8]
  /// Who has acknowledged it, where that holds now.
  public var acknowledgement: Acknowledgement?

  public var isOpen: Bool { state != "closed" }

  /// How soon somebody has to look: 0 is the soonest.
  public var rank: Int {
    let severities = ["critical", "warning", "notice", "info"]
    return (isOpen ? 0 : 10) + (acknowledgement == nil ? 0 : 5) + (severities.firstIndex(of: severity) ?? 4)
  }
}
