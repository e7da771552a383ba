public import CRegion

/// Where everything lies in a region: the header that `grass_layout` makes, checked.
public struct RegionLayout: Sendable {
  public let header: grass_header

  /// A layout of the given numbers; sizes are those of whole records, in bytes.
  ///
  /// - Throws: ``RegionError`` where a number is out of range.
  public init(
    slots: Int = Int(GRASS_DEFAULT_SLOTS), requestSize: Int = Int(GRASS_DEFAULT_REQUEST_SIZE),
    responseSize: Int = Int(GRASS_DEFAULT_RESPONSE_SIZE), scratchSize: Int = 0
  ) throws(RegionError) {
    var header = grass_header()
    guard let slots = UInt32(exactly: slots), let requestSize = UInt64(exactly: requestSize),
      let responseSize = UInt64(exactly: responseSize), let scratchSize = UInt64(exactly: scratchSize),
      grass_layout(&header, slots, requestSize, responseSize, scratchSize)
    else { throw RegionError("of \(slots) slots", .badLayout) }
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

  public func requestOffset(slot: Int) -> Int { Int(header.request_offset) + slot * requestSize }
  public func responseOffset(slot: Int) -> Int { Int(header.response_offset) + slot * responseSize }
  /// The part of the region that the requests of `slots` take.
  public func requests(of slots: Range<Int>) -> Range<Int> {
    requestOffset(slot: slots.lowerBound)..<requestOffset(slot: slots.upperBound)
  }
}
