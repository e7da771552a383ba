import CRegion

/// What a device says of itself without being asked: one read of its region.
public struct Beacon: Hashable, Sendable {
  public enum State: Hashable, Sendable {
    case running
    case stopped
    case unknown(UInt32)

    init(_ state: UInt32) {
      self =
        switch state {
        case GRASS_STATE_RUNNING.rawValue: .running
        case GRASS_STATE_STOPPED.rawValue: .stopped
        default: .unknown(state)
        }
    }
  }

  /// Grows as long as the device runs.
  public let counter: UInt64
  /// The device's clock in nanoseconds; its zero is the device's own.
  public let clock: UInt64
  public let state: State
  /// Number of the newest finding, 0 while there is none.
  public let newestFinding: UInt64
  /// Requests answered so far.
  public let served: UInt64

  /// The beacon in `bytes`, or nil where it is torn.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= MemoryLayout<grass_beacon>.size else { return nil }
    var beacon = bytes.loadUnaligned(as: grass_beacon.self)
    guard grass_beacon_is_whole(&beacon) else { return nil }
    counter = beacon.counter
    clock = beacon.clock
    newestFinding = beacon.newest_finding
    served = beacon.served
    state = State(beacon.state)
  }
}
