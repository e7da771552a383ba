public import CRegion

/// Where everything lies in a region: the header that `grass_layout` makes, checked.
public struct RegionLayout: Sendable {
  public let header: grass_header

  /// How many slots a region has unless its owner says otherwise, and the most that a GPU looks at.
  public static let usualSlots = Int(GRASS_DEFAULT_SLOTS), mostSlotsOfGPU = Int(GRASS_GPU_SLOTS)
  /// The most slots that a region can have.
  public static let mostSlots = Int(GRASS_MAX_SLOTS)

  /// How many last words of kernels there is room for where detectors run.
  public static let usualWords = Int(GRASS_DEFAULT_WORDS)

  /// The size of requests' records of so many KiB: a line more, so that the heads of all slots, which are polled, do not fall into the
  /// same few lines of a cache.
  public static func requestSize(kibibytes: Int) -> Int {
    min(kibibytes * 1024 + Int(GRASS_LINE), Int(GRASS_MAX_RECORD))
  }

  /// A layout of the given numbers.
  ///
  /// Sizes are those of whole records, in bytes. `findings` says how many entries the log of findings has, a multiple of 4, and
  /// `words` how many last words of kernels there is room for, a MiB each.
  ///
  /// With `keys`, sessions need them.
  ///
  /// - Throws: ``RegionError`` where a number is out of range.
  public init(
    slots: Int = Int(GRASS_DEFAULT_SLOTS), requestSize: Int = Int(GRASS_DEFAULT_REQUEST_SIZE),
    responseSize: Int = Int(GRASS_DEFAULT_RESPONSE_SIZE), scratchSize: Int = 0,
    findings: Int = Int(GRASS_DEFAULT_FINDINGS), words: Int = 0, keys: Bool = false
  ) throws(RegionError) {
    var header = grass_header()
    guard let slots = UInt32(exactly: slots), let requestSize = UInt64(exactly: requestSize),
      let responseSize = UInt64(exactly: responseSize), let scratchSize = UInt64(exactly: scratchSize),
      let findings = UInt32(exactly: findings), let words = UInt32(exactly: words),
      grass_layout(&header, slots, requestSize, responseSize, scratchSize, findings, words)
    else { throw RegionError("of \(slots) slots", .badLayout) }
    if keys { header.features |= UInt64(GRASS_FEATURE_KEYS.rawValue) }
    self.header = header
  }

  /// The layout that the header at the start of `bytes` describes, or nil where it is none of this version, or one
  /// that needs more than `limit` bytes.
  public init?(parsing bytes: RawSpan, limit: Int = .max) {
    guard bytes.byteCount >= MemoryLayout<grass_header>.size else { return nil }
    var header = bytes.withUnsafeBytes { $0.loadUnaligned(as: grass_header.self) }
    guard grass_header_is_valid(&header, UInt64(limit)) else { return nil }
    self.header = header
  }

  /// Whether sessions need keys.
  public var hasKeys: Bool { header.features & UInt64(GRASS_FEATURE_KEYS.rawValue) != 0 }

  // A valid header's numbers are all below 2^40.
  public var slotCount: Int { Int(header.slot_count) }
  public var regionSize: Int { Int(header.region_size) }
  public var requestSize: Int { Int(header.request_size) }
  public var responseSize: Int { Int(header.response_size) }
  /// What a remote host may read.
  public var responsesPart: Range<Int> { 0..<Int(header.responses_part_size) }
  /// What a remote host may write where a slot was granted to it.
  public var requestsPart: Range<Int> {
    Int(header.requests_part_offset)..<Int(header.requests_part_offset + header.requests_part_size)
  }
  /// What may be read and written, for tests of links; empty unless asked for.
  public var scratchPart: Range<Int> {
    Int(header.scratch_offset)..<Int(header.scratch_offset + header.scratch_size)
  }
  public var beaconOffset: Int { Int(header.beacon_offset) }
  /// The header itself.
  public var headerPart: Range<Int> { 0..<MemoryLayout<grass_header>.size }
  /// The part of the region that the lines of `slots` take.
  public func lines(of slots: Range<Int>) -> Range<Int> {
    lineOffset(slot: slots.lowerBound)..<lineOffset(slot: slots.upperBound)
  }
  /// Where the line of a session lies whose first slot this is.
  public func lineOffset(slot: Int) -> Int { Int(header.lines_offset) + slot * Int(header.line_size) }
  /// The log of findings, and the findings that are open.
  public var findings: Range<Int> {
    Int(header.findings_offset)..<Int(header.findings_offset) + Int(header.finding_count) * Int(header.finding_size)
  }
  public var openFindings: Range<Int> {
    Int(header.open_offset)..<Int(header.open_offset) + Int(header.open_count) * Int(header.open_size)
  }

  /// Room for last words of kernels, a place after the other; empty where there is none.
  public var words: Range<Int> {
    Int(header.words_offset)..<Int(header.words_offset) + wordsCount * Int(header.words_size)
  }
  public var wordsCount: Int { Int(header.words_count) }
  /// Bytes that last words take at most, without what makes a record of them; 0 where there is no room for any.
  public var wordsCapacity: Int { Int(grass_record_capacity(UInt64(header.words_size))) }

  public func requestOffset(slot: Int) -> Int { Int(header.request_offset) + slot * requestSize }
  public func responseOffset(slot: Int) -> Int { Int(header.response_offset) + slot * responseSize }
  /// The part of the region that the responses of `slots` take.
  public func responses(of slots: Range<Int>) -> Range<Int> {
    responseOffset(slot: slots.lowerBound)..<responseOffset(slot: slots.upperBound)
  }
  /// The part of the region that the requests of `slots` take.
  public func requests(of slots: Range<Int>) -> Range<Int> {
    requestOffset(slot: slots.lowerBound)..<requestOffset(slot: slots.upperBound)
  }
}
