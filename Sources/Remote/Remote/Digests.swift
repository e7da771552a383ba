import CRegion
import Memory

/// Has the device compute digests of physical memory.
struct Digests {
  let session: Session

  /// The most ranges that one request is about.
  private let mostRanges: Int
  /// The most bytes that it is about: whole pages, whose digests fit the answer.
  private let largest: UInt64
  private static let page: UInt64 = 4096

  /// Has it compute those of `largest` bytes at once, of a page at least.
  init(session: Session, largest: UInt64) {
    self.session = session
    let asked = MemoryLayout<grass_request>.size + MemoryLayout<grass_digest_request>.size
    mostRanges = max(1, min(256, (session.requestCapacity - asked) / MemoryLayout<grass_range>.size))
    let statuses = MemoryLayout<grass_response>.size + mostRanges * MemoryLayout<grass_range_status>.size
    // A range that does not end with its last page has a digest more.
    let room = (session.responseCapacity - statuses) / MemoryLayout<grass_digest>.size - mostRanges
    self.largest = min(largest / Self.page, UInt64(max(1, room)), Self.mostPages) * Self.page
  }

  /// Whatever a device says that it can: lengths of ranges have 32 bits.
  private static let mostPages: UInt64 = 1 << 14

  /// What the device says of a range: a digest for each unit of it.
  private typealias Answer = Result<[MemoryDigest], MemoryFault>

  /// The digest of each range.
  ///
  /// - Throws: ``SessionError`` where the device cannot be asked, and ``MemoryFault`` where it cannot read one.
  func ask(_ ranges: [MemorySegment]) throws -> [MemoryDigest] {
    var pieces: [(range: Int, offset: Int, segment: MemorySegment)] = []
    for (index, range) in ranges.enumerated() {
      for (offset, segment) in split(range) { pieces.append((index, Int(offset), segment)) }
    }
    let answers = try answers(
      pieces.map { ([$0.segment], MemoryDigest.Seed(MemoryDigest.seed(ofPieceAt: $0.offset), 0)) }, unit: 0)
    var digests: [[(offset: Int, digest: MemoryDigest)]] = Array(repeating: [], count: ranges.count)
    for (piece, answer) in zip(pieces, answers) {
      for digest in try answer[0].get() { digests[piece.range].append((piece.offset, digest)) }
    }
    return digests.map { MemoryDigest(joining: $0) }
  }

  /// The digests of the pages of each range, nil where the device cannot read one.
  ///
  /// - Throws: ``SessionError`` where the device cannot be asked.
  func pages(of ranges: [MemorySegment], _ seed: MemoryDigest.Seed) throws(SessionError) -> [[MemoryDigest?]] {
    // Short ranges share a request.
    var questions: [[(range: Int, segment: MemorySegment)]] = []
    var room: UInt64 = 0
    for (index, range) in ranges.enumerated() {
      for (_, piece) in split(range) {
        if piece.count > room || (questions.last?.count ?? mostRanges) >= mostRanges {
          questions.append([])
          room = largest
        }
        questions[questions.count - 1].append((index, piece))
        room -= piece.count
      }
    }
    let answers = try answers(questions.map { ($0.map(\.segment), seed) }, unit: Self.page)
    // A range fails as a whole: what of it can be read is asked for page by page.
    let pieces = zip(questions, answers).flatMap { zip($0, $1) }
    let failed = pieces.filter { if case .failure = $0.1 { true } else { false } }
    let again = failed.flatMap { piece in Self.pages(of: piece.0.segment) }
    let most = min(mostRanges, Int(largest / Self.page))
    let singles = stride(from: 0, to: again.count, by: most).map { Array(again[$0..<min($0 + most, again.count)]) }
    var second = try self.answers(singles.map { ($0, seed) }, unit: Self.page).flatMap { $0 }[...]
    var digests: [[MemoryDigest?]] = Array(repeating: [], count: ranges.count)
    for (piece, answer) in pieces {
      switch answer {
      case .success(let pages): digests[piece.range] += pages.map { Optional($0) }
      case .failure:
        let count = Self.pages(of: piece.segment).count
        digests[piece.range] += second.prefix(count).map { try? $0.get().first }
        second = second.dropFirst(count)
      }
    }
    return digests
  }

  private static func pages(of segment: MemorySegment) -> [MemorySegment] {
    stride(from: 0, to: segment.count, by: UInt64.Stride(page)).map { offset in
      MemorySegment(start: segment.start + Int(offset), count: min(page, segment.count - offset))
    }
  }

  private func split(_ range: MemorySegment) -> [(offset: UInt64, segment: MemorySegment)] {
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
