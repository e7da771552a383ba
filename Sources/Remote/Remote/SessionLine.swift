import CRegion

/// What a device says to one session without being asked: one read of its region tells that all is well, or that there is news.
public struct SessionLine: Hashable, Sendable {
  /// Grows as long as the device runs.
  public let counter: UInt64
  /// The device's clock in nanoseconds; its zero is the device's own.
  public let clock: UInt64
  /// How many ticks of the detectors have ended; 0 where there are no detectors.
  public let detectorTick: UInt64
  /// Number of the newest finding, 0 while there is none.
  public let newestFinding: UInt64
  public let state: Beacon.State
  /// `enum grass_severity`, of the open findings; 0 while there are none.
  public let worstSeverity: UInt8
  /// How many findings are open.
  public let open: Int
  /// How many detectors are suspended.
  public let suspended: Int

  /// The line in `bytes`, or nil where it is torn.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= MemoryLayout<grass_session_line>.size else { return nil }
    let line = bytes.loadUnaligned(as: grass_session_line.self)
    var check: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &check) { check in
      withUnsafeBytes(of: line) {
        grass_check(
          check.baseAddress?.assumingMemoryBound(to: UInt64.self), line.counter, $0.baseAddress,
          UInt64(MemoryLayout<grass_session_line>.offset(of: \.check) ?? 0))
      }
    }
    guard line.counter == line.counter_end, line.counter != 0, check == line.check else { return nil }
    self.init(opened: line)
  }

  /// A line that is known to be the device's.
  init(opened line: grass_session_line) {
    // Without its epoch, so that it grows with what the device does and not with its keys.
    counter = line.counter & (1 << UInt64(GRASS_EPOCH_SHIFT) - 1)
    clock = line.clock
    detectorTick = line.detector_tick
    newestFinding = line.newest_finding
    state = Beacon.State(UInt32(line.state))
    worstSeverity = line.worst_severity
    open = Int(line.open)
    suspended = Int(line.suspended)
  }
}
