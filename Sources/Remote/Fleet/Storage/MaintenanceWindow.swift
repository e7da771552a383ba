/// A time in which nobody is to be told of a host.
public struct MaintenanceWindow: Hashable, Sendable {
  public var number: Int64
  public var host, who, comment: String
  /// In seconds since 1970.
  public var from, until: Double
}
