import CRegion
public import Records

/// What a run of a monitor gave.
public struct MonitorRun: Sendable {
  public let result: MonitorResult
  /// Nanoseconds that the device took, by its own clock.
  public let elapsed: UInt64
  /// How many lanes shared the work.
  public let lanes: Int
  /// How many of them ended early; the result has the faults of the first ones.
  public let faulted: Int
}

extension Session {
  /// Runs a monitor that the device has.
  ///
  /// Cost: one round trip; two for a result longer than a few words.
  ///
  /// - Parameters:
  ///   - monitor: the monitor's name.
  ///   - lanes: how many share the work; 0 leaves it to the device, which also has a limit.
  ///   - budget: passes of loops that each lane may take; 0 leaves it to the device, which also has a limit.
  ///   - arguments: up to four numbers; what they mean is the monitor's.
  ///   - walks: whether to translate each address by a walk through the page tables, however often: a measure of what
  ///     the device's shorter ways give.
  ///   - timeout: how long it may take; by default, what the session says.
  /// - Returns: its records, and what it cost.
  /// - Throws: ``SessionError`` where the device has no such monitor, refuses the run, or does not answer.
  public func run(
    _ monitor: String, lanes: Int = 0, budget: UInt64 = 0, arguments: [UInt64] = [], walks: Bool = false,
    within timeout: Duration? = nil
  ) throws(SessionError) -> MonitorRun {
    var run = grass_run_request()
    let name = Array(monitor.utf8)
    guard name.count < Int(GRASS_NAME_SIZE), let lanes = UInt32(exactly: lanes) else {
      throw SessionError(host, .refused(.noMonitor))
    }
    withUnsafeMutableBytes(of: &run.monitor) { $0.copyBytes(from: name) }
    run.lanes = lanes
    run.budget = budget
    run.flags = walks ? GRASS_RUN_WALKS : 0
    withUnsafeMutableBytes(of: &run.arguments) { words in
      for (index, argument) in arguments.prefix(Int(GRASS_ARGUMENTS)).enumerated() {
        words.storeBytes(of: argument, toByteOffset: index * 8, as: UInt64.self)
      }
    }
    let headSize = MemoryLayout<grass_response>.size
    let answerSize = MemoryLayout<grass_run_answer>.size
    var answer: MonitorRun?
    try perform(1, within: timeout) { _, payload in
      payload.storeBytes(
        of: grass_request(operation: GRASS_RUN.rawValue, count: 0, format: 0, reserved: 0), as: grass_request.self)
      payload.storeBytes(of: run, toByteOffset: MemoryLayout<grass_request>.size, as: grass_run_request.self)
      return (MemoryLayout<grass_request>.size + MemoryLayout<grass_run_request>.size, headSize + answerSize)
    } accept: { _, payload throws(SessionError) in
      let response = try self.response(payload, to: GRASS_RUN)
      guard payload.count >= headSize + answerSize else { throw badAnswer("it is too short") }
      let run = payload.loadUnaligned(fromByteOffset: headSize, as: grass_run_answer.self)
      let faultSize = MemoryLayout<grass_lane_fault>.size
      let start = headSize + answerSize
      let faultsSize = min(Int(response.count), Int(GRASS_MAX_FAULTS)) * faultSize
      guard response.count <= GRASS_MAX_FAULTS, response.count <= run.faulted, payload.count >= start + faultsSize,
        run.size == UInt64(payload.count - start - faultsSize)
      else { throw badAnswer("\(payload.count) bytes for a run with \(response.count) faults") }
      let faults = (0..<Int(response.count)).map { index in
        let fault = payload.loadUnaligned(
          fromByteOffset: start + Int(run.size) + index * faultSize, as: grass_lane_fault.self)
        return MonitorResult.Fault(
          code: fault.fault, lane: Int(truncatingIfNeeded: fault.lane), address: fault.address,
          level: Int(fault.level), entry: fault.entry)
      }
      answer = MonitorRun(
        result: MonitorResult(output: Array(payload[start..<(start + Int(run.size))]), faults: faults),
        elapsed: run.elapsed,
        lanes: Int(run.lanes), faulted: Int(run.faulted))
    }
    guard let answer else { throw badAnswer("there is none") }
    return answer
  }

  /// The names of the monitors that the device has.
  ///
  /// - Throws: ``SessionError`` where the link ends, or the answer is false or does not come.
  public func monitors(within timeout: Duration? = nil) throws(SessionError) -> [String] {
    let headSize = MemoryLayout<grass_response>.size
    let size = MemoryLayout<grass_monitor_answer>.size
    var names: [String] = []
    try perform(1, within: timeout) { _, payload in
      payload.storeBytes(
        of: grass_request(operation: GRASS_MONITORS.rawValue, count: 0, format: 0, reserved: 0), as: grass_request.self)
      return (MemoryLayout<grass_request>.size, headSize)
    } accept: { _, payload throws(SessionError) in
      let response = try self.response(payload, to: GRASS_MONITORS)
      guard payload.count == headSize + Int(response.count) * size else { throw badAnswer("it has a false length") }
      names = (0..<Int(response.count)).map { index in
        let name = payload[(headSize + index * size)..<(headSize + (index + 1) * size)]
        return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
      }
    }
    return names
  }
}
