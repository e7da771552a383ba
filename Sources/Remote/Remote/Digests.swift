import CRegion
import Memory

/// Has the device compute digests of physical memory.
struct Digests {
  let session: Session

  /// A part of a range, which one request is about.
  private struct Piece {
    var range: Int
    /// From the range's start, in bytes.
    var offset: Int
    var count: Int
  }

  /// The digest of each range.
  ///
  /// - Throws: ``SessionError`` where the device cannot be asked, and ``MemoryFault`` where it cannot read one.
  func ask(_ ranges: [MemorySegment]) throws -> [MemoryDigest] {
    var pieces: [Piece] = []
    for (index, range) in ranges.enumerated() {
      for offset in stride(from: 0, to: Int(clamping: range.count), by: Int(GRASS_MAX_DIGESTED)) {
        let count = min(Int(GRASS_MAX_DIGESTED), Int(clamping: range.count) - offset)
        pieces.append(Piece(range: index, offset: offset, count: count))
      }
    }
    var digests: [[(offset: Int, digest: MemoryDigest)]] = Array(repeating: [], count: ranges.count)
    var failure: MemoryFault?
    let requestSize = MemoryLayout<grass_request>.size
    let responseSize = MemoryLayout<grass_response>.size
    let answerSize = responseSize + MemoryLayout<grass_range_status>.size + MemoryLayout<grass_digest>.size
    try session.perform(pieces.count, within: nil) { number, payload in
      let piece = pieces[number]
      payload.storeBytes(
        of: grass_request(
          operation: GRASS_DIGEST.rawValue, count: 1, format: GRASS_PAGES_NONE.rawValue, reserved: 0),
        as: grass_request.self)
      payload.storeBytes(
        of: grass_digest_request(
          kind: GRASS_DIGEST_FAST.rawValue, unit: 0, seed: (MemoryDigest.seed(ofPieceAt: piece.offset), 0)),
        toByteOffset: requestSize, as: grass_digest_request.self)
      payload.storeBytes(
        of: grass_range(
          address: (ranges[piece.range].start + piece.offset).rawValue, root: 0, length: UInt32(piece.count), flags: 0),
        toByteOffset: requestSize + MemoryLayout<grass_digest_request>.size, as: grass_range.self)
      return (
        requestSize + MemoryLayout<grass_digest_request>.size + MemoryLayout<grass_range>.size, answerSize
      )
    } accept: { number, payload throws(SessionError) in
      let response = try session.response(payload, to: GRASS_DIGEST)
      guard response.count == 1, payload.count == answerSize else {
        throw session.badAnswer("\(payload.count) bytes for a digest")
      }
      let status = payload.loadUnaligned(fromByteOffset: responseSize, as: grass_range_status.self)
      guard let reason = MemoryFault.Reason(code: status.fault, level: Int(status.level), entry: status.entry) else {
        guard status.fault == GRASS_FAULT_NONE.rawValue else {
          throw session.badAnswer("a range failed with code \(status.fault)")
        }
        let digest = payload.loadUnaligned(
          fromByteOffset: responseSize + MemoryLayout<grass_range_status>.size, as: grass_digest.self)
        digests[pieces[number].range].append(
          (pieces[number].offset, MemoryDigest(low: digest.low, high: digest.high)))
        return
      }
      failure = MemoryFault(.physical(PhysicalAddress(status.address)), reason)
    }
    if let failure { throw failure }
    return digests.map { MemoryDigest(joining: $0) }
  }
}
