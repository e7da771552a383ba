import CRegion
import Region
import Testing

/// Where everything lies in a region, and which headers are believed.
struct LayoutTests {
  private static let shapes: [(slots: Int, request: Int, response: Int, scratch: Int, findings: Int, words: Int)] = [
    (1, 128, 128, 0, 4, 0), (2, 4096, 8192, 0, 16, 1), (16, 64 << 10, 1 << 20, 0, 1024, 8),
    (64, 192, 4096, 4096, 1024, 64),
  ]

  @Test(arguments: shapes)
  func nothingOverlaps(
    slots: Int, request: Int, response: Int, scratch: Int, findings: Int, words: Int
  ) throws {
    let layout = try RegionLayout(
      slots: slots, requestSize: request, responseSize: response, scratchSize: scratch, findings: findings, words: words
    )
    var parts = [0..<256, layout.beaconOffset..<layout.beaconOffset + 64]
    parts += (0..<slots).map { layout.lineOffset(slot: $0)..<layout.lineOffset(slot: $0) + 64 }
    parts += [layout.findings, layout.openFindings]
    if words > 0 { parts.append(layout.words) }
    parts += (0..<slots).map { layout.responseOffset(slot: $0)..<layout.responseOffset(slot: $0) + response }
    for (one, next) in zip(parts, parts.dropFirst()) { #expect(one.upperBound <= next.lowerBound) }
    #expect(parts.allSatisfy { layout.responsesPart.contains($0) })
    // One read of a line is one of a cache line; no record of the log crosses a page.
    #expect((0..<slots).allSatisfy { layout.lineOffset(slot: $0) % 64 == 0 })
    #expect(layout.findings.lowerBound % 512 == 0 && layout.findings.count == findings * 512)
    #expect(layout.openFindings.count == findings / 4 * 512)
    var header = layout.header
    // Last words are a feature that a region may be without.
    #expect((header.features & UInt64(GRASS_FEATURE_WORDS.rawValue) != 0) == (words > 0))
    #expect(layout.words.count == words << 20 && layout.words.lowerBound % 4096 == 0)
    #expect(words == 0 || grass_words_offset(&header, UInt32(words - 1)) == UInt64(layout.words.upperBound - (1 << 20)))
    #expect(words == 0 || layout.wordsCapacity > (1 << 20) - 64)
    #expect(grass_finding_offset(&header, 1) == UInt64(layout.findings.lowerBound))
    #expect(grass_finding_offset(&header, UInt64(findings)) == UInt64(layout.findings.upperBound - 512))
    #expect(grass_finding_offset(&header, UInt64(findings) + 1) == UInt64(layout.findings.lowerBound))
    #expect(layout.responsesPart.upperBound == layout.requestsPart.lowerBound)
    #expect(layout.requestsPart.upperBound == layout.scratchPart.lowerBound)
    #expect(layout.regionSize == layout.scratchPart.upperBound)
  }

  @Test(arguments: [0, 2, 1022, (1 << 20) + 4, -4])
  func countsOfFindingsAreChecked(findings: Int) {
    let error = #expect(throws: RegionError.self) { try RegionLayout(findings: findings) }
    #expect(error?.reason == .badLayout)
  }

  @Test(arguments: [-1, 65, .max])
  func countsOfLastWordsAreChecked(words: Int) {
    let error = #expect(throws: RegionError.self) { try RegionLayout(words: words) }
    #expect(error?.reason == .badLayout)
  }

  /// The layout that a changed header describes, if any.
  private func parse(
    words: Int = 8, _ change: (UnsafeMutableRawBufferPointer) -> Void
  ) throws -> RegionLayout? {
    var header = try RegionLayout(words: words).header
    return withUnsafeMutableBytes(of: &header) { bytes in
      change(bytes)
      return RegionLayout(parsing: UnsafeRawBufferPointer(bytes).bytes)
    }
  }

  @Test(arguments: [0, 1, 2, 3, 5, .max] as [UInt32])
  func otherVersionsAreRefused(version: UInt32) throws {
    #expect(try parse { _ in } != nil)
    #expect(try parse { $0.storeBytes(of: version, toByteOffset: 8, as: UInt32.self) } == nil)
  }

  /// All that a header says follows from its sizes, and what it does not use is zero; only what it can is free to grow.
  @Test func everyWordOfAHeaderIsChecked() throws {
    let features = MemoryLayout<grass_header>.offset(of: \.features)
    for word in stride(from: 0, to: MemoryLayout<grass_header>.size, by: 8) {
      for bit in [0, 3, 31, 32, 63] as [UInt64] {
        let changed = try parse { bytes in
          let value = bytes.load(fromByteOffset: word, as: UInt64.self)
          bytes.storeBytes(of: value ^ 1 << bit, toByteOffset: word, as: UInt64.self)
        }
        #expect((changed != nil) == (word == features), "bit \(bit) of the word at \(word)")
      }
    }
  }

  @Test func aLineIsWholeOrNot() {
    var line = grass_session_line()
    (line.counter, line.clock, line.newest_finding, line.state, line.open) = (7, 9, 3, 1, 2)
    line.counter_end = 7
    let covered = MemoryLayout<grass_session_line>.offset(of: \.check) ?? 0
    func seal() {
      var check: [UInt64] = [0, 0]
      withUnsafeBytes(of: &line) { grass_check(&check, 7, $0.baseAddress, UInt64(covered)) }
      line.check = (check[0], check[1])
    }
    seal()
    #expect(grass_session_line_is_whole(&line))
    line.newest_finding = 4
    #expect(!grass_session_line_is_whole(&line))
    seal()
    line.counter_end = 8
    #expect(!grass_session_line_is_whole(&line))
    line.counter_end = 7
    line.reserved = 1
    seal()
    #expect(!grass_session_line_is_whole(&line))
  }

  /// An entry of the log is a record like any other.
  @Test func aFindingIsARecord() {
    var finding = grass_finding()
    finding.content.identity = 0x1234
    finding.content.severity = UInt8(GRASS_SEVERITY_WARNING.rawValue)
    let length = UInt64(MemoryLayout<grass_finding_content>.size)
    var found: UInt64 = 0
    grass_record_seal(&finding, 42, length)
    #expect(finding.record.sequence == 42 && finding.number_end == 42)
    #expect(grass_record_judge(&finding, 512, 512, 42, nil, &found) == GRASS_RECORD_WHOLE)
    #expect(found == length)
    #expect(grass_record_judge(&finding, 512, 512, 43, nil, &found) == GRASS_RECORD_OTHER)
    finding.content.severity = UInt8(GRASS_SEVERITY_CRITICAL.rawValue)
    #expect(grass_record_judge(&finding, 512, 512, 42, nil, &found) == GRASS_RECORD_FALSE)
  }
}
