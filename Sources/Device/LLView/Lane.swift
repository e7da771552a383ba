import CRuntime

/// The state of one lane of a run, as the runtime lays it out.
enum Lane {
  static let size = MemoryLayout<grass_lane_state>.stride
}
