package import CRegion
import CSeal
import Glibc
import Host
package import Keys
package import Records

/// What a session's records are sealed under at this end, and the keys of what the device says to all.
///
/// Used only under its session's lock.
package final class Sealing: @unchecked Sendable {
  private let keys: UnsafeMutablePointer<grass_session_keys>
  private var number: UInt64
  private var records = 0
  private var since = ContinuousClock.now
  /// Of what the device says to all.
  package var group = GroupKeys()
  /// When this end asked last; a device forgets who does not for long.
  private(set) var asked = ContinuousClock.now
  /// The newest line that was opened: an older one was kept back by somebody, and sent again.
  private var counter: UInt64 = 0

  /// After how many records, or how long, this end goes on to the next epoch: before the device would by itself.
  private static let epochRecords = 1 << 19
  private static let epochTime = Duration.seconds(100)

  /// Begins with what a handshake gave, 32 bytes each.
  package init(request: SecretBytes, response: SecretBytes, hash: [UInt8]) {
    let keys = UnsafeMutablePointer<grass_session_keys>.allocate(capacity: 1)
    keys.initialize(to: grass_session_keys())
    request.withUnsafeBytes { request in
      response.withUnsafeBytes { response in
        grass_session_keys_start(
          keys, request.baseAddress?.assumingMemoryBound(to: UInt8.self),
          response.baseAddress?.assumingMemoryBound(to: UInt8.self), hash)
      }
    }
    self.keys = keys
    // Numbers begin where nobody knows, and are counted in all epochs alike.
    number = UInt64.random(in: 1..<1 << 40)
  }

  deinit {
    grass_wipe(keys, UInt64(MemoryLayout<grass_session_keys>.size))
    keys.deallocate()
  }

  /// Runs `body` with each key that this end has of the session, 32 bytes: who looks for them elsewhere has to know them.
  func withKeys(_ body: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    try withUnsafeBytes(of: &keys.pointee.now) { keys in
      for start in stride(from: 0, to: keys.count, by: 32) {
        try body(UnsafeRawBufferPointer(rebasing: keys[start..<start + 32]))
      }
    }
  }

  /// The number of the next record that this end sends.
  ///
  /// - Returns: nil where the session has come to its end.
  package func next() -> UInt64? {
    if records >= Self.epochRecords || ContinuousClock.now - since > Self.epochTime {
      guard grass_session_keys_next(keys) else { return nil }
      records = 0
      since = .now
    }
    records += 1
    number += 1
    asked = .now
    guard number >> UInt64(GRASS_EPOCH_SHIFT) == 0 else { return nil }
    return number | UInt64(keys.pointee.epoch) << UInt64(GRASS_EPOCH_SHIFT)
  }

  /// Seals a record around a payload that lies `sizeof(grass_record)` bytes behind `record`, in place.
  package func seal(_ record: UnsafeMutableRawBufferPointer, slot: Int, sequence: UInt64, length: Int) {
    guard let base = record.baseAddress, let of = grass_session_keys_of(keys, UInt32(grass_epoch(sequence))) else {
      return
    }
    let size = Int(grass_record_size(UInt64(length)))
    precondition(size <= record.count)
    let payload = base + MemoryLayout<grass_record>.size
    var head = grass_record(sequence: sequence, length: UInt64(length), check: (0, 0))
    withUnsafeMutableBytes(of: &head.check) { check in
      let bytes = payload.assumingMemoryBound(to: UInt8.self)
      Self.with(of, Self.requestKey) { key in
        grass_record_seal_payload(
          key, keys.pointee.token, UInt32(slot), sequence, bytes, UInt64(length), bytes,
          check.baseAddress?.assumingMemoryBound(to: UInt8.self))
      }
    }
    for index in length..<(size - MemoryLayout<grass_record>.size - 8) {
      (payload + index).storeBytes(of: 0, as: UInt8.self)
    }
    base.copyMemory(from: &head, byteCount: MemoryLayout<grass_record>.size)
    (base + size - 8).storeBytes(of: sequence, as: UInt64.self)
  }

  /// Judges a copy of an answer's first bytes, and opens it in place where it is whole.
  package func open(
    _ record: UnsafeMutableRawBufferPointer, slot: Int, slotSize: Int, isExpected: (UInt64) -> Bool,
    length: inout UInt64
  ) -> grass_verdict {
    length = 0
    let headSize = MemoryLayout<grass_record>.size
    guard record.count >= headSize, let base = record.baseAddress else { return GRASS_RECORD_OTHER }
    let head = base.loadUnaligned(as: grass_record.self)
    guard isExpected(head.sequence) else { return GRASS_RECORD_OTHER }
    guard head.length <= grass_record_capacity(UInt64(slotSize)) else { return GRASS_RECORD_IMPOSSIBLE }
    length = head.length
    let size = Int(grass_record_size(head.length))
    guard size <= record.count else { return GRASS_RECORD_LONGER }
    guard (base + size - 8).loadUnaligned(as: UInt64.self) == head.sequence else { return GRASS_RECORD_TORN }
    guard let of = grass_session_keys_of(keys, UInt32(grass_epoch(head.sequence))) else { return GRASS_RECORD_OTHER }
    let bytes = (base + headSize).assumingMemoryBound(to: UInt8.self)
    let isOpen = withUnsafeBytes(of: head.check) { check in
      Self.with(of, Self.responseKey) { key in
        grass_record_open_payload(
          key, keys.pointee.token, UInt32(slot), head.sequence, bytes, head.length,
          check.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes)
      }
    }
    return isOpen ? GRASS_RECORD_WHOLE : GRASS_RECORD_FALSE
  }

  /// Opens a session's line: one of this epoch, or of the next, which the device has begun by itself; nil where it is torn or not
  /// the device's.
  package func open(_ line: grass_session_line) -> grass_session_line? {
    guard line.counter == line.counter_end, line.counter != 0 else { return nil }
    let epoch = UInt32(grass_epoch(line.counter))
    var next = grass_session_keys()
    defer { grass_wipe(&next, UInt64(MemoryLayout<grass_session_keys>.size)) }
    guard line.counter >= counter else { return nil }
    if let of = grass_session_keys_of(keys, epoch) {
      let open = Self.open(line, of, token: keys.pointee.token)
      if open != nil { counter = line.counter }
      return open
    }
    next = keys.pointee
    guard epoch == keys.pointee.epoch + 1, grass_session_keys_next(&next),
      let open = withUnsafePointer(to: &next.now, { Self.open(line, $0, token: next.token) })
    else { return nil }
    grass_session_keys_next(keys)
    records = 0
    since = .now
    counter = line.counter
    return open
  }

  private static func open(
    _ line: grass_session_line, _ of: UnsafePointer<grass_epoch_keys>, token: UInt64
  ) -> grass_session_line? {
    var open = line
    let start = MemoryLayout<UInt64>.size
    let size = (MemoryLayout<grass_session_line>.offset(of: \.check) ?? 0) - start
    let isOpen = withUnsafeMutableBytes(of: &open) { bytes -> Bool in
      guard let text = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return false }
      return with(of, lineKey) { key in
        grass_record_open_payload(
          key, token, UInt32(GRASS_LINE_SLOT), line.counter, text + start, UInt64(size), text + start + size,
          text + start)
      }
    }
    return isOpen ? open : nil
  }

  /// Where in an epoch's keys each lies; asked for once, since a key path costs as much as sealing a short record.
  private static let requestKey = MemoryLayout<grass_epoch_keys>.offset(of: \.request) ?? 0
  private static let responseKey = MemoryLayout<grass_epoch_keys>.offset(of: \.response) ?? 0
  private static let lineKey = MemoryLayout<grass_epoch_keys>.offset(of: \.line) ?? 0

  /// Lends a key, 32 bytes, where it lies.
  private static func with<Result>(
    _ of: UnsafePointer<grass_epoch_keys>, _ offset: Int, _ body: (UnsafePointer<UInt8>) -> Result
  ) -> Result {
    body((UnsafeRawPointer(of) + offset).assumingMemoryBound(to: UInt8.self))
  }
}
