/// That somebody has seen a finding and sees to it.
public struct Acknowledgement: Hashable, Sendable {
  public var who: String
  public var comment: String
  /// When it was made, and until when it holds, in seconds since 1970; nil for as long as the finding is there.
  public var at: Double
  public var until: Double?

  public init(who: String, comment: String, at: Double, until: Double?) {
    self.who = who
    self.comment = comment
    self.at = at
    self.until = until
  }
}
