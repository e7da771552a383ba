import CRegion
import Glibc
import Links
import Region
import Remote

/// A conversation with a monitor in the order of Kanamoto and Kourai's paper, over the same link and with the same
/// monitor, to compare with.
///
/// The request is written, then its flag; the answer's flag is polled, then the answer read; then the flag is cleared.
/// Each step waits for the one before. A heartbeat has neither request nor answer: its flag is written, the answer's
/// polled, and the first cleared. A record's own sequence number, its first word, serves as the flag; what is cleared is the
/// request's, since a remote host may not write answers. Neither check nor second sequence number of an answer is
/// looked at: the paper has none.
///
/// Used by one thread at a time.
final class PaperSequence {
  let requestCapacity: Int
  let responseCapacity: Int
  private let link: any Link
  private let layout: RegionLayout
  private let request: LinkBuffer
  private let response: LinkBuffer
  private var sequence = UInt64.random(in: 1 << 32..<1 << UInt64(GRASS_EPOCH_SHIFT - 1))

  private static let flagSize = 8

  init(link: any Link, within timeout: Duration) throws(LinkError) {
    let header = try link.read(
      MemoryLayout<grass_header>.size, from: link.grant.responses, offset: link.grant.responses.range.lowerBound,
      within: timeout)
    guard let layout = RegionLayout(parsing: header.span.bytes) else {
      throw LinkError(link.address, .protocolViolation("its header is none"))
    }
    self.link = link
    self.layout = layout
    request = try link.makeBuffer(byteCount: layout.requestSize)
    response = try link.makeBuffer(byteCount: layout.responseSize)
    requestCapacity = Int(grass_record_capacity(UInt64(layout.requestSize)))
    responseCapacity = Int(grass_record_capacity(UInt64(layout.responseSize)))
  }

  func close() { link.close() }

  /// Runs one errand, a piece after the other.
  func perform(_ errand: Errand, until deadline: ContinuousClock.Instant) throws(SessionError) {
    for piece in errand.pieces.indices {
      var isAnswered = false
      do throws(LinkError) {
        isAnswered = try perform(errand, piece, until: deadline)
      } catch {
        throw SessionError(link.address, .link(error))
      }
      guard isAnswered else { throw SessionError(link.address, .noAnswer) }
    }
  }

  /// Returns false where the answer did not come in time, or was none.
  private func perform(
    _ errand: Errand, _ piece: Int, until deadline: ContinuousClock.Instant
  ) throws(LinkError) -> Bool {
    sequence += 1
    let sequence = sequence
    let slot = link.grant.slots.lowerBound
    let headSize = MemoryLayout<grass_record>.size
    let sizes = request.withBytes(0..<layout.requestSize) { record in
      let (request, response) = errand.prepare(
        piece, UnsafeMutableRawBufferPointer(rebasing: record[headSize...].prefix(requestCapacity)))
      grass_record_seal(record.baseAddress, sequence, UInt64(request))
      return (request: Int(grass_record_size(UInt64(request))), response: headSize + response)
    }
    let flag = 0..<Self.flagSize
    if errand.what == .heartbeat {
      try write(0..<sizes.request, slot, deadline)
    } else {
      try write(Self.flagSize..<sizes.request, slot, deadline)
      try write(flag, slot, deadline)
    }
    var turn = 0
    repeat {
      try read(flag, slot, deadline)
      turn += 1
      if turn % 8 == 0 { sched_yield() } else { grass_pause() }
      if turn % 16 == 0, ContinuousClock.now >= deadline { return false }
    } while response.withBytes(flag, { $0.loadUnaligned(as: UInt64.self) }) != sequence
    if errand.what != .heartbeat { try read(0..<sizes.response, slot, deadline) }
    request.withBytes(flag) { $0.storeBytes(of: 0, as: UInt64.self) }
    try write(flag, slot, deadline)
    return errand.what == .heartbeat
      || response.withBytes(headSize..<sizes.response) {
        errand.isAnswered(piece, by: UnsafeRawBufferPointer($0))
      }
  }

  private func write(_ range: Range<Int>, _ slot: Int, _ deadline: ContinuousClock.Instant) throws(LinkError) {
    try link.wait(
      for: link.postWrite(
        request, range, to: link.grant.requests, offset: layout.requestOffset(slot: slot) + range.lowerBound,
        fenced: false), until: deadline)
  }

  private func read(_ range: Range<Int>, _ slot: Int, _ deadline: ContinuousClock.Instant) throws(LinkError) {
    try link.wait(
      for: link.postRead(
        into: response, range, from: link.grant.responses,
        offset: layout.responseOffset(slot: slot) + range.lowerBound, awaiting: nil), until: deadline)
  }
}
