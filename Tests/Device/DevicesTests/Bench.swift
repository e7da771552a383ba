import CMailbox
import CRegion
import Region
import Testing

/// A mailbox over 64 KiB of memory at physical 0x100000, and its region, without a thread.
final class Bench {
  let region: SharedRegion
  let mailbox: UnsafeMutablePointer<grass_mailbox>
  let segment: UnsafeMutablePointer<grass_mapped_segment>
  let memory: UnsafeMutableRawPointer
  let scratch: UnsafeMutableRawPointer
  var sequence: UInt64 = 100
  var now: UInt64 = 1

  init(responseSize: Int = 8192) throws {
    region = try SharedRegion(layout: RegionLayout(slots: 2, requestSize: 4096, responseSize: responseSize))
    memory = .allocate(byteCount: 65536, alignment: 4096)
    memory.initializeMemory(as: UInt8.self, repeating: 0xaa, count: 65536)
    scratch = .allocate(byteCount: 4096, alignment: 64)
    segment = .allocate(capacity: 1)
    segment.initialize(
      to: grass_mapped_segment(
        segment: grass_segment(start: 0x10_0000, count: 65536), bytes: memory.assumingMemoryBound(to: UInt8.self),
        lost: nil))
    mailbox = .allocate(capacity: 1)
    mailbox.initialize(to: grass_mailbox())
    var header = region.layout.header
    #expect(grass_mailbox_start(mailbox, region.base, &header, segment, 1, scratch, now))
  }

  deinit {
    mailbox.deallocate()
    segment.deallocate()
    scratch.deallocate()
    memory.deallocate()
  }

  /// Seals and writes a request to a slot, changed by `damage`, and steps until it is answered or 10 ms are over.
  ///
  /// Returns the answer's payload, nil for none.
  func ask(
    _ payload: [UInt8], slot: Int = 0, damage: (UnsafeMutableRawPointer) -> Void = { _ in }
  ) -> [UInt8]? {
    sequence += 1
    let record = UnsafeMutableRawPointer.allocate(byteCount: 8192, alignment: 64)
    defer { record.deallocate() }
    payload.withUnsafeBytes {
      (record + 32).copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(record), byteCount: $0.count)
    }
    grass_record_seal(record, sequence, UInt64(payload.count))
    damage(record)
    grass_copy_in(region.base + region.layout.requestOffset(slot: slot), record, 4096)
    for _ in 0..<20 {
      now += 500_000
      if grass_mailbox_step(mailbox, now) > 0 { break }
    }
    return answer(slot: slot)
  }

  /// The payload of a slot's answer to the newest request, or that of a sequence number; nil where it is not there.
  func answer(slot: Int = 0, sequence: UInt64? = nil) -> [UInt8]? {
    let size = region.layout.responseSize
    let record = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    defer { record.deallocate() }
    grass_copy_out(record, region.base + region.layout.responseOffset(slot: slot), UInt64(size))
    var length: UInt64 = 0
    guard
      grass_record_judge(record, UInt64(size), UInt64(size), sequence ?? self.sequence, nil, &length)
        == GRASS_RECORD_WHOLE
    else { return nil }
    return [UInt8](UnsafeRawBufferPointer(start: record + 32, count: Int(length)))
  }

  func status(_ payload: [UInt8], damage: (UnsafeMutableRawPointer) -> Void = { _ in }) -> UInt32? {
    ask(payload, damage: damage)?.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self) }
  }
}

/// The bytes of 32-bit words, little endian.
func words(_ words: UInt32...) -> [UInt8] {
  words.flatMap { word in withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) } }
}
