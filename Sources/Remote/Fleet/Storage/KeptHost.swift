/// What is kept of a host from one run of the service to the next.
public struct KeptHost: Hashable, Sendable {
  /// Which of the logs that its devices had one after the other is the last.
  public var epoch: Int64 = 1
  /// Up to which number that log was taken, and what tells its entry of that number.
  public var taken: UInt64 = 0
  public var mark: Int64 = 0
  public var standing: Standing?
  /// What its device has found and is not over.
  public var open: [OpenFinding] = []
  /// What the service's own checks have found and is not over.
  public var checked: [OpenFinding] = []

  public init() {}
}
