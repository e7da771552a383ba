/// A change of a host's state, as it is kept.
public struct StateChange: Hashable, Sendable {
  /// In seconds since 1970.
  public var at: Double
  public var state: String
  public var cause: String
}
