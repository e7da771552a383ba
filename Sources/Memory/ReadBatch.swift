/// Many reads asked for at once, and afterwards their bytes.
///
/// Reads are batched because the watched memory may be far away: over a link one batch costs one round trip,
/// however many entries it has. The bytes of all entries lie in one buffer owned by the batch.
///
/// ```swift
/// var batch = ReadBatch<PhysicalAddress>()
/// let header = batch.add(address, count: 24)
/// memory.read(&batch)
/// let size = try batch.reader(header).u32(4)
/// ```
public struct ReadBatch<Address: Sendable>: Sendable {
  /// One read: `count` bytes at `address`, stored from `offset` in ``bytes``.
  public struct Entry: Sendable {
    public let address: Address
    public let offset: Int
    public let count: Int
  }

  public private(set) var entries: [Entry] = []
  /// The bytes of all entries, one after the other. Empty until the batch is read; those of a failed entry are zero.
  public private(set) var bytes: [UInt8] = []
  /// What failed, by the entry's index.
  public private(set) var faults: [Int: MemoryFault] = [:]
  /// The bytes asked for in all.
  public private(set) var byteCount = 0

  public init() {}

  /// Asks for `count` bytes at `address`.
  ///
  /// - Returns: the entry's index, for ``reader(_:)``.
  @discardableResult
  public mutating func add(_ address: Address, count: Int) -> Int {
    precondition(count >= 0, "a read of \(count) bytes")
    entries.append(Entry(address: address, offset: byteCount, count: count))
    byteCount += count
    return entries.count - 1
  }

  public mutating func reserveCapacity(_ count: Int) { entries.reserveCapacity(count) }

  /// Whether entry `index` could be read.
  public func succeeded(_ index: Int) -> Bool { faults.isEmpty || faults[index] == nil }

  /// The bytes of entry `index`.
  ///
  /// - Throws: the fault that its read ended with.
  @_lifetime(borrow self)
  public func reader(_ index: Int) throws(MemoryFault) -> ByteReader {
    if !faults.isEmpty, let fault = faults[index] { throw fault }
    let entry = entries[index]
    return try ByteReader(bytes.span.bytes).slice(entry.offset, count: entry.count)
  }

  /// Reads every entry with `body`, which fills the buffer with the bytes at the address. For sources of memory.
  ///
  /// The buffer is valid during the call of `body` alone, and starts zeroed.
  public mutating func fill(_ body: (Address, UnsafeMutableRawBufferPointer) throws(MemoryFault) -> Void) {
    var failed: [Int: MemoryFault] = [:]
    bytes = [UInt8](repeating: 0, count: byteCount)
    bytes.withUnsafeMutableBytes { buffer in
      for (index, entry) in entries.enumerated() where entry.count > 0 {
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[entry.offset..<entry.offset + entry.count])
        do throws(MemoryFault) {
          try body(entry.address, target)
        } catch {
          target.initializeMemory(as: UInt8.self, repeating: 0)
          failed[index] = error
        }
      }
    }
    faults = failed
  }

  /// Fills the bytes of all entries at once, for a source that gets them in an order of its own.
  ///
  /// The buffer is valid during the call of `body` alone, holds ``byteCount`` bytes, and starts zeroed. `body` returns
  /// what failed, by the entry's index; bytes of those entries are zeroed.
  public mutating func fillAll(_ body: (UnsafeMutableRawBufferPointer) -> [Int: MemoryFault]) {
    bytes = [UInt8](repeating: 0, count: byteCount)
    bytes.withUnsafeMutableBytes { buffer in
      faults = body(buffer)
      for index in faults.keys where entries[index].count > 0 {
        let range = entries[index].offset..<entries[index].offset + entries[index].count
        UnsafeMutableRawBufferPointer(rebasing: buffer[range]).initializeMemory(as: UInt8.self, repeating: 0)
      }
    }
  }

  /// Marks every entry as failed for the same reason: the source as a whole cannot be read.
  public mutating func fail(_ fault: MemoryFault) {
    bytes = [UInt8](repeating: 0, count: byteCount)
    faults = Dictionary(uniqueKeysWithValues: entries.indices.map { ($0, fault) })
  }

  /// Takes the result of `pieces`, a batch that asks for the same bytes in the same order, each entry cut in one or
  /// more pieces. Costs no copy.
  ///
  /// - Parameter owners: for each entry of `pieces`, the entry of this batch that it belongs to.
  /// - Parameter preset: faults known before, of entries whose pieces were not worth reading.
  public mutating func adopt<Other>(
    _ pieces: consuming ReadBatch<Other>, owners: [Int], preset: [Int: MemoryFault] = [:]
  ) {
    precondition(pieces.byteCount == byteCount, "the pieces ask for other bytes")
    faults = preset
    // In order, so that an entry's fault is that of the first of its pieces that failed.
    for (piece, fault) in pieces.faults.sorted(by: { $0.key < $1.key }) where faults[owners[piece]] == nil {
      faults[owners[piece]] = fault
    }
    bytes = pieces.bytes
    for index in faults.keys {
      let entry = entries[index]
      bytes.replaceSubrange(
        entry.offset..<entry.offset + entry.count, with: repeatElement(0, count: entry.count))
    }
  }
}
