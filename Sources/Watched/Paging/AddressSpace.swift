public import Memory

/// A virtual address space of the watched host: a root page table, or one for each half, and the ranges known to be mapped
/// linearly.
public struct AddressSpace: Sendable {
  /// A range of virtual addresses mapped to consecutive physical ones, so that translating is an addition.
  ///
  /// The kernel's direct map and its image are such ranges.
  public struct LinearRange: Hashable, Sendable {
    public let start: VirtualAddress
    /// Length in bytes.
    public let count: UInt64
    public let physical: PhysicalAddress

    public init(start: VirtualAddress, count: UInt64, physical: PhysicalAddress) {
      self.start = start
      self.count = count
      self.physical = physical
    }

    /// The physical address of all `length` bytes at `address`, or nil where they are not wholly in this range.
    @inlinable
    public func translate(_ address: VirtualAddress, count length: Int) -> PhysicalAddress? {
      let offset = address.rawValue &- start.rawValue
      guard offset < count, UInt64(length) <= count &- offset else { return nil }
      return PhysicalAddress(physical.rawValue &+ offset)
    }
  }

  public let walker: PageWalker
  /// The physical address of the root table: what CR3 holds, without its flags.
  ///
  /// Of a format with two roots, that of the lower half: what TTBR0 holds.
  public let root: PhysicalAddress
  /// The physical address of the upper half's root, what TTBR1 holds; ``root`` where the format has one alone.
  public let upperRoot: PhysicalAddress
  public let linearRanges: [LinearRange]

  /// An address space; `upperRoot` is that of a format which has two roots, and nil for any other.
  public init(
    memory: any PhysicalMemory, format: PageTableFormat, root: PhysicalAddress, upperRoot: PhysicalAddress? = nil,
    linearRanges: [LinearRange] = []
  ) {
    walker = PageWalker(memory: memory, format: format)
    self.root = root
    self.upperRoot = upperRoot ?? root
    self.linearRanges = linearRanges
  }

  public var memory: any PhysicalMemory { walker.memory }
  public var format: PageTableFormat { walker.format }

  /// The root table that translates `address`.
  public func root(for address: VirtualAddress) -> PhysicalAddress { format.isUpper(address) ? upperRoot : root }

  /// Where `address` is to be read: at a physical address if a linear range holds it, else through the tables.
  @inlinable
  public func location(of address: VirtualAddress, count: Int) -> MemoryLocation {
    for range in linearRanges {
      if let physical = range.translate(address, count: count) { return .physical(physical) }
    }
    return .virtual(address, root: root(for: address))
  }

  /// The physical address of one virtual address.
  ///
  /// - Throws: ``MemoryFault`` with the level and the entry where the walk ended.
  public func translate(_ address: VirtualAddress) throws(MemoryFault) -> PhysicalAddress {
    if case .physical(let physical) = location(of: address, count: 1) { return physical }
    return try walker.translate([(address, root(for: address))])[0].get().physical
  }

  /// Reads all entries of `batch`.
  ///
  /// Cost: that of ``PageWalker/read(_:)``; one batch where linear ranges hold every entry.
  public func read(_ batch: inout ReadBatch<VirtualAddress>) {
    var located = ReadBatch<MemoryLocation>()
    located.reserveCapacity(batch.entries.count)
    var isLinear = true
    for entry in batch.entries {
      let location = location(of: entry.address, count: entry.count)
      if case .virtual = location { isLinear = false }
      located.add(location, count: entry.count)
    }
    if isLinear, !(memory is any TranslatingMemory) {
      var physical = ReadBatch<PhysicalAddress>()
      physical.reserveCapacity(batch.entries.count)
      for entry in located.entries {
        if case .physical(let address) = entry.address { physical.add(address, count: entry.count) }
      }
      memory.read(&physical)
      batch.adopt(physical, owners: Array(batch.entries.indices))
    } else {
      walker.read(&located)
      batch.adopt(located, owners: Array(batch.entries.indices))
    }
  }

  /// The bytes at `address`, in a read of its own.
  ///
  /// Prefer a batch wherever there is more to read.
  ///
  /// - Throws: ``MemoryFault`` where any of them is not mapped or cannot be read.
  public func read(_ address: VirtualAddress, count: Int) throws(MemoryFault) -> [UInt8] {
    var batch = ReadBatch<VirtualAddress>()
    batch.add(address, count: count)
    read(&batch)
    return try batch.reader(0).copy()
  }
}
