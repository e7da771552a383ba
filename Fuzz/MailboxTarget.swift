import CMailbox
import CMonitor
import Samples

extension FuzzTarget {
  /// The device program, with requests of any shape in its slots.
  ///
  /// The first byte says how: as they are, or sealed into a whole record, so that what lies behind the check is reached.
  static let mailbox = FuzzTarget(
    name: "mailbox",
    seeds: {
      let gather =
        bytes(UInt32(3), UInt32(2), UInt32(4), UInt32(0)) + bytes(UInt64(0x10), UInt64(0))
        + bytes(UInt32(32), UInt32(0))
        + bytes(UInt64(0x1000), UInt64(0x1000)) + bytes(UInt32(16), UInt32(1))
      let heartbeat = bytes(UInt32(1), UInt32(0), UInt32(0), UInt32(0))
      let info = bytes(UInt32(2), UInt32(0), UInt32(0), UInt32(0))
      let record = bytes(UInt64(1), UInt64(16), UInt64(0), UInt64(0)) + heartbeat + bytes(UInt64(1))
      return [[1] + gather, [1] + heartbeat, [1] + info, [0] + record]
    },
    run: { bytes in
      var input = FuzzInput(bytes)
      let isSealed = input.next(UInt8.self) & 1 == 1
      let payload = input.remaining()
      var header = grass_header()
      require(grass_layout(&header, 2, 1024, 4096, 0), "the layout")
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
          grass_segment(pointer: pointer, start: 0, count: 4096, lost: nil),
          grass_segment(pointer: pointer + 4096, start: 0x1_0000, count: 8192, lost: nil),
        ]
        segments.withUnsafeBufferPointer { segments in
          var monitor = grass_monitor()
          require(
            grass_monitor_start(
              &monitor, region.baseAddress, &header, segments.baseAddress, 2, scratch.baseAddress, 1), "the start")
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
          for step: UInt64 in 0..<4 { _ = grass_monitor_step(&monitor, step * 10_000_000) }
          require(Array(region[Int(header.requests_part_offset)...]) == before, "it wrote where requests come in")
          if isSealed { require(monitor.served == 2, "a whole request was not answered") }
          grass_monitor_stop(&monitor, 50_000_000)
        }
      }
    })
}
