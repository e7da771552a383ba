import CRegion
import Memory

/// Has the device compute digests of physical memory.
struct Digests {
  let session: Session

  /// The most bytes that one request is about.
  private static let largest = UInt64(GRASS_MAX_DIGESTED)
  private static let page: UInt64 = 4096

  /// What the device says of a range: a digest for each unit of it.
  private typealias Answer = Result<[MemoryDigest], MemoryFault>

  /// The digest of each range.
  ///
  /// - Throws: ``SessionError`` where the device cannot be asked, and ``MemoryFault`` where it cannot read one.
  func ask(_ ranges: [MemorySegment]) throws -> [MemoryDigest] {
    var pieces: [(range: Int, offset: Int, segment: MemorySegment)] = []
    for (index, range) in ranges.enumerated() {
      for (offset, segment) in Self.pieces(of: range) { pieces.append((index, Int(offset), segment)) }
    }
    let answers = try answers(
      pieces.map { ([$0.segment], MemoryDigest.Seed(MemoryDigest.seed(ofPieceAt: $0.offset), 0)) }, unit: 0)
    var digests: [[(offset: Int, digest: MemoryDigest)]] = Array(repeating: [], count: ranges.count)
    for (piece, answer) in zip(pieces, answers) {
      for digest in try answer[0].get() { digests[piece.range].append((piece.offset, digest)) }
    }
    return digests.map { MemoryDigest(joining: $0) }
  }

  /// The digest of each page of `range`, nil where the device cannot read it.
  ///
  /// - Throws: ``SessionError`` where the device cannot be asked.
  func pages(of range: MemorySegment, _ seed: MemoryDigest.Seed) throws(SessionError) -> [MemoryDigest?] {
    let pieces = Self.pieces(of: range).map(\.segment)
    let answers = try answers(pieces.map { ([$0], seed) }, unit: Self.page)
    // A range fails as a whole: what of it can be read is asked for page by page.
    let failed = answers.indices.filter { if case .failure = answers[$0][0] { true } else { false } }
    let again = failed.map { piece in
      stride(from: 0, to: pieces[piece].count, by: UInt64.Stride(Self.page)).map { offset in
        MemorySegment(
          start: pieces[piece].start + Int(offset), count: min(Self.page, pieces[piece].count - offset))
      }
    }
    let second = try self.answers(again.map { ($0, seed) }, unit: Self.page)
    var singles = Dictionary(uniqueKeysWithValues: zip(failed, second))
    return answers.enumerated().flatMap { index, answer -> [MemoryDigest?] in
      if let pages = singles.removeValue(forKey: index) { return pages.map { try? $0.get().first } }
      return (try? answer[0].get()) ?? []
    }
  }

  private static func pieces(of range: MemorySegment) -> [(offset: UInt64, segment: MemorySegment)] {
    stride(from: 0, to: range.count, by: UInt64.Stride(largest)).map { offset in
      (offset, MemorySegment(start: range.start + Int(offset), count: min(largest, range.count - offset)))
    }
  }

  /// What the device says to questions, each about ranges of ``largest`` bytes together: an answer for each range.
  private func answers(
    _ questions: [(ranges: [MemorySegment], seed: MemoryDigest.Seed)], unit: UInt64
  ) throws(SessionError) -> [[Answer]] {
    let requestSize = MemoryLayout<grass_request>.size + MemoryLayout<grass_digest_request>.size
    let responseSize = MemoryLayout<grass_response>.size
    func digestCount(_ range: MemorySegment) -> Int {
      Int(grass_digest_count(UInt32(range.count), UInt32(unit)))
    }
    func answerSize(_ ranges: [MemorySegment]) -> Int {
      ranges.reduce(responseSize + ranges.count * MemoryLayout<grass_range_status>.size) {
        $0 + digestCount($1) * MemoryLayout<grass_digest>.size
      }
    }
    var answers: [[Answer]] = Array(repeating: [], count: questions.count)
    try session.perform(questions.count, within: nil) { number, payload in
      let (ranges, seed) = questions[number]
      payload.storeBytes(
        of: grass_request(
          operation: GRASS_DIGEST.rawValue, count: UInt32(ranges.count), format: GRASS_PAGES_NONE.rawValue,
          reserved: 0), as: grass_request.self)
      payload.storeBytes(
        of: grass_digest_request(kind: GRASS_DIGEST_FAST.rawValue, unit: UInt32(unit), seed: (seed.low, seed.high)),
        toByteOffset: MemoryLayout<grass_request>.size, as: grass_digest_request.self)
      for (index, range) in ranges.enumerated() {
        payload.storeBytes(
          of: grass_range(address: range.start.rawValue, root: 0, length: UInt32(range.count), flags: 0),
          toByteOffset: requestSize + index * MemoryLayout<grass_range>.size, as: grass_range.self)
      }
      return (requestSize + ranges.count * MemoryLayout<grass_range>.size, answerSize(ranges))
    } accept: { number, payload throws(SessionError) in
      let ranges = questions[number].ranges
      let response = try session.response(payload, to: GRASS_DIGEST)
      guard response.count == ranges.count, payload.count == answerSize(ranges) else {
        throw session.badAnswer("\(payload.count) bytes for \(ranges.count) ranges' digests")
      }
      var place = responseSize + ranges.count * MemoryLayout<grass_range_status>.size
      for (index, range) in ranges.enumerated() {
        let status = payload.loadUnaligned(
          fromByteOffset: responseSize + index * MemoryLayout<grass_range_status>.size, as: grass_range_status.self)
        let count = digestCount(range)
        defer { place += count * MemoryLayout<grass_digest>.size }
        if let reason = MemoryFault.Reason(code: status.fault, level: Int(status.level), entry: status.entry) {
          answers[number].append(
            .failure(MemoryFault(.physical(PhysicalAddress(status.address)), reason)))
          continue
        }
        guard status.fault == GRASS_FAULT_NONE.rawValue else {
          throw session.badAnswer("a range failed with code \(status.fault)")
        }
        answers[number].append(
          .success(
            (0..<count).map { number in
              let digest = payload.loadUnaligned(
                fromByteOffset: place + number * MemoryLayout<grass_digest>.size, as: grass_digest.self)
              return MemoryDigest(low: digest.low, high: digest.high)
            }))
      }
    }
    return answers
  }
}
