/// Something that who follows a fleet wants to know at once.
public struct FleetEvent: Sendable {
  public enum Kind: String, Sendable {
    /// A host has another state, or another cause of it.
    case state
    /// A finding was made, changed, or is over.
    case finding
    /// Somebody acknowledged a finding.
    case acknowledgement
    /// An image was asked for, has got further, or is over.
    case image
    /// The list of hosts is another.
    case fleet
    /// The service itself has a fault, or has it no more.
    case problem
  }

  public let kind: Kind
  /// The host's name; empty where it is none's.
  public let host: String
  /// All of it, as JSON on one line.
  public let json: [UInt8]
  /// What it is about, for forms of other programs.
  public let subject: EventSubject

  public init(_ kind: Kind, host: String, json: [UInt8], subject: EventSubject = .other) {
    self.subject = subject
    self.kind = kind
    self.host = host
    self.json = json
  }
}
