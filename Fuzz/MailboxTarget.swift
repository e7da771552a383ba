import CMailbox
import CRegion
import CRuntime
import Samples

extension FuzzTarget {
  /// The device program, with requests of any shape in its slots.
  ///
  /// The first byte says how: 1 to seal them into a whole record, so that what lies behind the check is reached; 2 for a
  /// device without monitors. A run that begins is ended by a worker that leaves more records and faults than fit.
  static let mailbox = FuzzTarget(
    name: "mailbox",
    seeds: {
      let gather =
        bytes(UInt32(3), UInt32(2), GRASS_PAGES_X86_64_4.rawValue, UInt32(0)) + bytes(UInt64(0x10), UInt64(0))
        + bytes(UInt32(32), UInt32(0))
        + bytes(UInt64(0x1000), UInt64(0x1000)) + bytes(UInt32(16), UInt32(1))
      let heartbeat = bytes(UInt32(1), UInt32(0), UInt32(0), UInt32(0))
      let info = bytes(UInt32(2), UInt32(0), UInt32(0), UInt32(0))
      let record = bytes(UInt64(1), UInt64(16), UInt64(0), UInt64(0)) + heartbeat + bytes(UInt64(1))
      let monitors = bytes(UInt32(5), UInt32(0), UInt32(0), UInt32(0))
      let run =
        bytes(UInt32(4), UInt32(0), UInt32(0), UInt32(0)) + Array("ps".utf8) + [UInt8](repeating: 0, count: 30)
        + bytes(UInt64(1000)) + bytes(UInt32(7), UInt32(1)) + bytes(UInt64(1), UInt64(2), UInt64(3), UInt64(4))
      return [[1] + gather, [1] + heartbeat, [1] + info, [0] + record, [1] + monitors, [1] + run, [3] + run]
    },
    run: { bytes in
      var input = FuzzInput(bytes)
      let how = input.next(UInt8.self)
      let isSealed = how & 1 == 1
      let payload = input.remaining()
      var header = grass_header()
      require(grass_layout(&header, 2, 1024, 4096, 0, 4, 0), "the layout")
      // Guest memory of two segments; the second holds page tables that the input writes, too.
      var memory = [UInt8](repeating: 0, count: 3 * 4096)
      for index in 0..<min(payload.count, memory.count) { memory[memory.count - 1 - index] = payload[index] }
      let size = Int(header.region_size)
      // What surrounds it is found by the address sanitizer.
      let region = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
      let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(header.request_size), alignment: 64)
      defer {
        region.deallocate()
        scratch.deallocate()
      }
      region.initializeMemory(as: UInt8.self, repeating: 0)
      memory.withUnsafeBytes { bytes in
        guard let pointer = bytes.bindMemory(to: UInt8.self).baseAddress else { return }
        let segments = [
          grass_mapped_segment(segment: grass_segment(start: 0, count: 4096), bytes: pointer, lost: nil),
          grass_mapped_segment(
            segment: grass_segment(start: 0x1_0000, count: 8192), bytes: pointer + 4096, lost: nil),
        ]
        segments.withUnsafeBufferPointer { segments in
          var mailbox = grass_mailbox()
          require(
            grass_mailbox_start(
              &mailbox, region.baseAddress, &header, segments.baseAddress, 2, scratch.baseAddress, 1), "the start")
          let monitors = MonitorStorage(outputSize: Int(header.response_size))
          if how & 2 == 0 { grass_mailbox_set_monitors(&mailbox, monitors.monitors, monitors.output) }
          for slot in 0..<2 {
            let offset = Int(header.request_offset) + slot * Int(header.request_size)
            let target = UnsafeMutableRawBufferPointer(rebasing: region[offset..<offset + Int(header.request_size)])
            if isSealed {
              let capacity = Int(grass_record_capacity(header.request_size))
              let count = min(payload.count, capacity)
              target[MemoryLayout<grass_record>.size...].copyBytes(from: payload[..<count])
              grass_record_seal(target.baseAddress, UInt64(slot) + 1, UInt64(count))
            } else {
              target.copyBytes(from: payload.prefix(target.count))
            }
          }
          let before = Array(region[Int(header.requests_part_offset)...])
          for step: UInt64 in 0..<6 {
            _ = grass_mailbox_step(&mailbox, step * 10_000_000)
            monitors.work()
          }
          require(Array(region[Int(header.requests_part_offset)...]) == before, "it wrote where requests come in")
          if isSealed { require(mailbox.served == 2, "a whole request was not answered") }
          grass_mailbox_stop(&mailbox, 50_000_000)
        }
      }
    })
}

/// What a device with one monitor has for its mailbox.
final class MonitorStorage {
  let monitors: UnsafeMutablePointer<grass_monitors>
  let output: UnsafeMutablePointer<UInt8>
  private let name: UnsafeMutablePointer<grass_monitor_answer>

  init(outputSize: Int) {
    name = .allocate(capacity: 1)
    name.initialize(to: grass_monitor_answer())
    withUnsafeMutableBytes(of: &name.pointee) { $0.copyBytes(from: Array("ps".utf8)) }
    output = UnsafeMutableRawPointer.allocate(byteCount: outputSize, alignment: 8).bindMemory(
      to: UInt8.self, capacity: outputSize)
    output.initialize(repeating: 0xab, count: outputSize)
    monitors = .allocate(capacity: 1)
    monitors.initialize(to: grass_monitors())
    monitors.pointee.names = UnsafePointer(name)
    monitors.pointee.count = 1
    monitors.pointee.most_workers = 3
    monitors.pointee.lanes_per_worker = 4
    monitors.pointee.default_lanes = 1
    monitors.pointee.most_budget = 1 << 20
  }

  deinit {
    monitors.deallocate()
    UnsafeMutableRawPointer(output).deallocate()
    name.deallocate()
  }

  /// Ends the run at work, if there is one.
  func work() {
    guard monitors.pointee.is_running, monitors.pointee.job.finished == 0 else { return }
    require((1...12).contains(monitors.pointee.job.lanes), "\(monitors.pointee.job.lanes) lanes")
    require((1...(1 << 20)).contains(monitors.pointee.job.budget), "a budget of \(monitors.pointee.job.budget)")
    require((1...3).contains(monitors.pointee.job.workers), "\(monitors.pointee.job.workers) workers")
    var state = grass_lane_state()
    state.fault = 1
    for _ in 0..<monitors.pointee.job.lanes { grass_job_note(&monitors.pointee.job, &state) }
    monitors.pointee.job.output.used = monitors.pointee.job.output.capacity + 64
    for _ in 0..<monitors.pointee.job.workers { grass_job_finish(&monitors.pointee.job) }
  }
}
