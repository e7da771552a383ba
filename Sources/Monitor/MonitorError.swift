/// Why a device could not run the monitor.
public struct MonitorError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The region is not laid out as this version does it.
    case badRegion
    case threadFailed(String)
  }

  public var reason: Reason

  public init(_ reason: Reason) { self.reason = reason }

  public var description: String {
    switch reason {
    case .badRegion: "the CPU device: the shared region's layout is not valid; make the region with this version"
    case .threadFailed(let why): "the CPU device: \(why)"
    }
  }
}
