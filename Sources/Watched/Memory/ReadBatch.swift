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

    @inlinable
    init(address: Address, offset: Int, count: Int) {
      self.address = address
      self.offset = offset
      self.count = count
    }
  }

  // Inlinable throughout: a batch is generic and lies on the way of every read, and code that is not specialised to its
  // addresses costs many times the read itself.
  @usableFromInline var storedEntries: [Entry] = []
  @usableFromInline var storedBytes: [UInt8] = []
  @usableFromInline var storedFaults: [Int: MemoryFault] = [:]
  @usableFromInline var storedByteCount = 0
  /// Entries that were refused when they were added, by index.
  @usableFromInline var refused: [Int: MemoryFault] = [:]

  /// The most bytes that one batch holds.
  ///
  /// What a view asks for may come from the watched memory; a single lie there must not take all memory here.
  @inlinable
  public static var byteLimit: Int { 1 << 29 }

  @inlinable
  public var entries: [Entry] { storedEntries }
  /// The bytes of all entries, one after the other.
  ///
  /// Empty until the batch is read; those of a failed entry are zero.
  @inlinable
  public var bytes: [UInt8] { storedBytes }
  /// What failed, by the entry's index.
  @inlinable
  public var faults: [Int: MemoryFault] { storedFaults }
  /// The bytes asked for in all.
  @inlinable
  public var byteCount: Int { storedByteCount }

  @inlinable
  public init() {}

  /// Asks for `count` bytes at `address`.
  ///
  /// An entry that would make the batch larger than ``byteLimit`` asks for nothing and ends with
  /// ``MemoryFault/Reason/tooLarge(size:room:)`` at its address.
  ///
  /// - Returns: the entry's index, for ``reader(_:)``.
  @discardableResult
  @inlinable
  public mutating func add(_ address: Address, count: Int) -> Int {
    precondition(count >= 0, "a read of \(count) bytes")
    guard count <= Self.byteLimit - storedByteCount else {
      let place = (address as? any FaultLocatable)?.faultPlace ?? .offset(storedByteCount)
      refused[storedEntries.count] = MemoryFault(
        place, .tooLarge(size: count, room: Self.byteLimit - storedByteCount))
      storedEntries.append(Entry(address: address, offset: storedByteCount, count: 0))
      return storedEntries.count - 1
    }
    storedEntries.append(Entry(address: address, offset: storedByteCount, count: count))
    storedByteCount += count
    return storedEntries.count - 1
  }

  @inlinable
  public mutating func reserveCapacity(_ count: Int) { storedEntries.reserveCapacity(count) }

  /// Whether entry `index` could be read.
  @inlinable
  public func succeeded(_ index: Int) -> Bool { storedFaults.isEmpty || storedFaults[index] == nil }

  /// The bytes of entry `index`.
  ///
  /// - Throws: the fault that its read ended with.
  @_lifetime(borrow self)
  @inlinable
  public func reader(_ index: Int) throws(MemoryFault) -> ByteReader {
    if !storedFaults.isEmpty, let fault = storedFaults[index] { throw fault }
    let entry = storedEntries[index]
    return try ByteReader(storedBytes.span.bytes).slice(entry.offset, count: entry.count)
  }

  /// Reads every entry with `body`, which fills the buffer with the bytes at the address.
  ///
  /// For sources of memory.
  ///
  /// The buffer is valid only during the call of `body`, and holds whatever its memory held before: `body` writes all of it, or
  /// throws. To have it zeroed first costs long reads a seventh of their time and more.
  @inlinable
  public mutating func fill(_ body: (Address, UnsafeMutableRawBufferPointer) throws(MemoryFault) -> Void) {
    var failed = refused
    let size = byteCount
    storedBytes = [UInt8](unsafeUninitializedCapacity: size) { bytes, count in
      let buffer = UnsafeMutableRawBufferPointer(bytes)
      for (index, entry) in storedEntries.enumerated() where entry.count > 0 {
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[entry.offset..<entry.offset + entry.count])
        do throws(MemoryFault) {
          try body(entry.address, target)
        } catch {
          target.initializeMemory(as: UInt8.self, repeating: 0)
          failed[index] = error
        }
      }
      count = size
    }
    storedFaults = failed
  }

  /// Fills the bytes of all entries at once, for a source that gets them in an order of its own.
  ///
  /// The buffer is valid only during the call of `body`, and holds ``byteCount`` bytes, whatever they were before: `body` writes all
  /// of them but those of entries that failed, which it returns by their index; these are zeroed.
  @inlinable
  public mutating func fillAll(_ body: (UnsafeMutableRawBufferPointer) -> [Int: MemoryFault]) {
    let size = byteCount
    var failed: [Int: MemoryFault] = [:]
    storedBytes = [UInt8](unsafeUninitializedCapacity: size) { bytes, count in
      let buffer = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(bytes)[..<size])
      failed = refused.isEmpty ? body(buffer) : body(buffer).merging(refused) { $1 }
      for index in failed.keys where storedEntries[index].count > 0 {
        let range = storedEntries[index].offset..<storedEntries[index].offset + storedEntries[index].count
        UnsafeMutableRawBufferPointer(rebasing: buffer[range]).initializeMemory(as: UInt8.self, repeating: 0)
      }
      count = size
    }
    storedFaults = failed
  }

  /// Marks every entry as failed for the same reason: the source as a whole cannot be read.
  @inlinable
  public mutating func fail(_ fault: MemoryFault) {
    storedBytes = [UInt8](repeating: 0, count: byteCount)
    storedFaults = Dictionary(uniqueKeysWithValues: storedEntries.indices.map { ($0, fault) })
  }

  /// Takes over what another batch read for this one.
  ///
  /// Costs no copy.
  ///
  /// - Parameters:
  ///   - pieces: a batch that asks for the same bytes in the same order, each entry cut in one or more pieces.
  ///   - owners: for each entry of `pieces`, the entry of this batch that it belongs to.
  ///   - preset: faults known before, of entries whose pieces were not worth reading.
  @inlinable
  public mutating func adopt<Other>(
    _ pieces: consuming ReadBatch<Other>, owners: [Int], preset: [Int: MemoryFault] = [:]
  ) {
    precondition(pieces.byteCount == byteCount, "the pieces ask for other bytes")
    storedFaults = refused.isEmpty ? preset : preset.merging(refused) { $1 }
    // In order, so that an entry's fault is that of the first of its pieces that failed.
    for (piece, fault) in pieces.storedFaults.sorted(by: { $0.key < $1.key }) where storedFaults[owners[piece]] == nil {
      storedFaults[owners[piece]] = fault
    }
    storedBytes = pieces.storedBytes
    for index in storedFaults.keys {
      let entry = storedEntries[index]
      storedBytes.replaceSubrange(
        entry.offset..<entry.offset + entry.count, with: repeatElement(0, count: entry.count))
    }
  }
}
