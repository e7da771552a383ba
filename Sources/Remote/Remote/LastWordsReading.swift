import CRegion
public import Records
import Region

extension Session {
  /// Whether the region has room for last words.
  public var keepsWords: Bool { wordsCount > 0 }

  /// Reads what last words of kernels the device keeps, the newest first; none where its region has no room for any.
  ///
  /// Those that are just being written are left out.
  ///
  /// Cost: one read of some hundred bytes for each place, of which there are eight.
  ///
  /// - Throws: ``SessionError`` where the link ends.
  public func lastWords(within timeout: Duration? = nil) throws(SessionError) -> [LastWords.Head] {
    let deadline = ContinuousClock.now + (timeout ?? self.timeout)
    return try read(until: deadline) { exchange throws(SessionError) in
      var heads: [LastWords.Head] = []
      for place in 0..<exchange.layout.wordsCount {
        if let head = try exchange.wordsHead(place, until: deadline) { heads.append(head) }
      }
      return heads.sorted { $0.number > $1.number }
    }
  }

  /// Reads last words whole: those of a number, or nil where others have taken their place.
  ///
  /// Cost: up to a MiB.
  ///
  /// - Throws: ``SessionError`` where the link ends, or they are none of this version's.
  public func lastWords(number: UInt64, within timeout: Duration? = nil) throws(SessionError) -> LastWords? {
    let deadline = ContinuousClock.now + (timeout ?? self.timeout)
    return try read(until: deadline) { exchange throws(SessionError) in
      for place in 0..<exchange.layout.wordsCount {
        guard try exchange.wordsHead(place, until: deadline)?.number == number else { continue }
        guard let record = try exchange.words(place, number: number, until: deadline) else { return nil }
        guard let words = LastWords(record: record) else { throw badAnswer("its last words are none") }
        return words
      }
      return nil
    }
  }
}

extension Exchange {
  /// The start of the last words of a place; nil where there are none, or they are being written.
  fileprivate func wordsHead(
    _ place: Int, until deadline: ContinuousClock.Instant
  ) throws(SessionError) -> LastWords.Head? {
    var bytes: [UInt8] = try read(LastWords.Head.byteCount, at: offset(place), until: deadline) { [UInt8]($0) }
    try opening(until: deadline) { group in bytes.withUnsafeMutableBytes { group.openWordsHead($0) } }
    return bytes.withUnsafeBytes { LastWords.Head($0) }
  }

  /// The record of a place, piece by piece; nil where it is not that of `number` from its start to its end.
  fileprivate func words(
    _ place: Int, number: UInt64, until deadline: ContinuousClock.Instant
  ) throws(SessionError) -> [UInt8]? {
    let most = min(layout.responseSize * slotCount, 512 * 1024)
    let capacity = layout.words.count / max(1, layout.wordsCount)
    var record: [UInt8] = []
    var size = MemoryLayout<grass_record>.size
    while record.count < size {
      let count = min(size - record.count, most)
      let part: [UInt8] = try read(count, at: offset(place) + record.count, until: deadline) { [UInt8]($0) }
      record += part
      if record.count == MemoryLayout<grass_record>.size {
        let length = record.withUnsafeBytes { $0.loadUnaligned(as: grass_record.self).length }
        guard length <= UInt64(layout.wordsCapacity) else { return nil }
        size = Int(grass_record_size(length))
      }
    }
    try opening(until: deadline) { group in record.withUnsafeMutableBytes { group.openWords($0) } }
    var length: UInt64 = 0
    let verdict = record.withUnsafeBytes {
      grass_record_judge($0.baseAddress, UInt64(record.count), UInt64(capacity), number, nil, &length)
    }
    return verdict == GRASS_RECORD_WHOLE ? record : nil
  }

  private func offset(_ place: Int) -> Int { layout.words.lowerBound + place * Int(layout.header.words_size) }
}
