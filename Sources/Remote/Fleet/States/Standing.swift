/// A host's state, since when, and why.
public struct Standing: Hashable, Sendable {
  public var state: HostState
  /// Seconds since 1970.
  public var since: Double
  /// Why, in one line.
  public var cause: String
  /// What it was when it was seen last; nil where it is seen now, or never was.
  public var before: Before?

  /// An earlier state.
  public struct Before: Hashable, Sendable {
    public var state: HostState
    public var since: Double
    public var cause: String

    public init(state: HostState, since: Double, cause: String) {
      self.state = state
      self.since = since
      self.cause = cause
    }
  }

  public init(state: HostState, since: Double, cause: String, before: Before? = nil) {
    self.state = state
    self.since = since
    self.cause = cause
    self.before = before
  }

  /// How soon somebody has to look: a host that died before it was lost comes first still.
  public var rank: Int { min(state.rank, before?.state.rank ?? state.rank) }
}
