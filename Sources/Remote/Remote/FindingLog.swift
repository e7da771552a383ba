import CRegion
public import Records
import Region

/// What was read of a device's log of findings.
public struct FindingNews: Sendable {
  /// In the order of their numbers.
  public var findings: [FindingRecord] = []
  /// Up to which number the log was read: what to give next time.
  public var newest: UInt64 = 0
  /// How many changes the log has lost before they were read.
  ///
  /// The table of open findings has what is still open of them.
  public var missed: UInt64 = 0
}

extension Session {
  /// Reads this session's line, in which the device has no part.
  ///
  /// Cost: one read of 64 bytes.
  ///
  /// - Throws: ``SessionError`` where the link ends, or the line stays torn.
  public func line(within timeout: Duration? = nil) throws(SessionError) -> SessionLine {
    let deadline = ContinuousClock.now + (timeout ?? self.timeout)
    return try read(until: deadline) { exchange throws(SessionError) in
      try exchange.staySeen(until: deadline)
      guard exchange.sealing != nil else { return try exchange.line(until: deadline) }
      do throws(SessionError) { return try exchange.line(until: min(deadline, .now + .milliseconds(500))) } catch {
        guard error.reason == .tornAnswer, ContinuousClock.now < deadline else { throw error }
      }
      // There is none, or somebody between spoils it: the device may have forgotten this session.
      try exchange.revive(until: deadline)
      return try exchange.line(until: deadline)
    }
  }

  /// Reads the changes of findings with numbers behind `number`, up to `newest`, which a line has told.
  ///
  /// Cost: one read, of 512 bytes a change, or two where the log turns around.
  ///
  /// - Throws: ``SessionError`` where the link ends.
  public func findings(
    after number: UInt64, upTo newest: UInt64, within timeout: Duration? = nil
  ) throws(SessionError) -> FindingNews {
    let deadline = ContinuousClock.now + (timeout ?? self.timeout)
    return try read(until: deadline) { exchange throws(SessionError) in
      let header = exchange.layout.header
      var news = FindingNews()
      news.newest = max(number, newest)
      guard newest > number else { return news }
      // Above are the bits of epochs, which numbers of findings do not have.
      guard newest < 1 << UInt64(GRASS_EPOCH_SHIFT) else { throw badAnswer("its newest finding is number \(newest)") }
      let count = UInt64(header.finding_count)
      var next = number + 1
      if newest - number > count {
        news.missed = newest - number - count
        next = newest - count + 1
      }
      while next <= newest {
        let index = (next - 1) % count
        let run = min(newest - next + 1, count - index, UInt64(exchange.findingsAtOnce))
        let first = next
        let bytes: [UInt8] = try exchange.read(
          Int(run) * FindingRecord.size, at: Int(header.findings_offset + index * UInt64(header.finding_size)),
          until: deadline
        ) { [UInt8]($0) }
        let part = try exchange.entries(bytes, kind: GRASS_GROUP_FINDING, until: deadline).enumerated().map {
          entry, record in
          // One that was overwritten meanwhile has a later number, and is lost.
          record?.number == first + UInt64(entry) ? record : nil
        }
        for record in part {
          if let record { news.findings.append(record) } else { news.missed += 1 }
        }
        next += run
      }
      return news
    }
  }

  /// Reads the findings that are not closed.
  ///
  /// Cost: one read of the table, 128 KiB in a region of the usual size.
  ///
  /// - Throws: ``SessionError`` where the link ends.
  public func openFindings(within timeout: Duration? = nil) throws(SessionError) -> [FindingRecord] {
    let deadline = ContinuousClock.now + (timeout ?? self.timeout)
    return try read(until: deadline) { exchange throws(SessionError) in
      let header = exchange.layout.header
      var findings: [FindingRecord] = []
      var index = 0
      while index < Int(header.open_count) {
        let run = min(Int(header.open_count) - index, exchange.findingsAtOnce)
        let bytes: [UInt8] = try exchange.read(
          run * FindingRecord.size, at: Int(header.open_offset) + index * Int(header.open_size), until: deadline
        ) { [UInt8]($0) }
        findings += try exchange.entries(bytes, kind: GRASS_GROUP_OPEN, until: deadline).compactMap { $0 }
        index += run
      }
      return findings.sorted { $0.number < $1.number }
    }
  }
}

extension Session {
  /// Whether one read of this session's line brought one that is its own.
  func opensLine(until deadline: ContinuousClock.Instant) throws(SessionError) -> Bool {
    try read(until: deadline) { exchange throws(SessionError) in
      try exchange.read(
        MemoryLayout<grass_session_line>.size, at: exchange.layout.lineOffset(slot: exchange.firstSlot), until: deadline
      ) { bytes in exchange.sealing?.open(bytes.loadUnaligned(as: grass_session_line.self)) != nil }
    }
  }
}

extension Exchange {
  /// This session's line, once it is whole and the device's.
  fileprivate func line(until deadline: ContinuousClock.Instant) throws(SessionError) -> SessionLine {
    try read(MemoryLayout<grass_session_line>.size, at: layout.lineOffset(slot: firstSlot), until: deadline) { bytes in
      guard let sealing else { return SessionLine(bytes) }
      return sealing.open(bytes.loadUnaligned(as: grass_session_line.self)).map { SessionLine(opened: $0) }
    }
  }

  /// How many findings one read may bring: what fits where answers land.
  fileprivate var findingsAtOnce: Int { max(1, min(256, layout.responseSize * slotCount / FindingRecord.size)) }

  /// Takes entries of the log, or of the open findings, apart; nil for each that is torn, false, or none.
  fileprivate func entries(
    _ bytes: [UInt8], kind: grass_group_kind, until deadline: ContinuousClock.Instant
  ) throws(SessionError) -> [FindingRecord?] {
    let size = FindingRecord.size
    var records: [FindingRecord?] = []
    for start in stride(from: 0, through: bytes.count - size, by: size) {
      var entry = Array(bytes[start..<start + size])
      if entry.contains(where: { $0 != 0 }) {
        try opening(until: deadline) { group in
          entry.withUnsafeMutableBytes { group.openFinding($0, kind: kind) }
        }
      }
      records.append(entry.withUnsafeBytes { FindingRecord($0) })
    }
    return records
  }
}
