/// What the service knows of a host at one moment.
public struct HostReport: Sendable {
  public var name: String
  public var url: String
  public var labels: [String: String]
  public var standing: Standing
  /// Seconds since its line last moved; nil where it never did.
  public var heartbeatAge: Double?
  public var heartbeats: HeartbeatHistory
  /// What is found and not over, those first that are the most severe.
  public var open: [OpenFinding]
  /// The worst of what its device says is open, as `enum grass_severity`.
  public var worstSeverity: Int
  /// How many of its device's detectors are suspended.
  public var suspended: Int
  /// Changes of its log that were lost before they were taken.
  public var missed: UInt64
  /// When it last answered, in seconds since 1970; nil where it never did.
  public var seen: Double?
  /// Changes of its log that were taken.
  public var taken: UInt64
  /// How often this service has checked its memory with all detectors.
  public var checks: UInt64 = 0
  /// When it did last, in seconds since 1970, how long that took, in seconds, and why not all of it could be; nil where it did not.
  public var lastCheck: Double?
  public var checkDuration: Double?
  public var checkProblem: String?
  /// What its kernel is called; nil before it was read.
  public var kernel: KernelName?
  /// Whether its own agent answers Prometheus; nil where nobody knows.
  public var isAgentUp: Bool?
}
