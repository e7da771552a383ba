package import KernelInfo
public import Memory

/// The fields of one kernel struct that a view wants, and the windows of bytes that hold them.
///
/// Kernel structs are large and the wanted fields few: reading neighbouring fields in one window and leaving the rest
/// out keeps a batch over a link small.
@usableFromInline
package struct FieldSelection: Sendable {
  /// A wanted field.
  ///
  /// One that this kernel does not have loads as zero.
  ///
  /// No more than numbers, unlike a ``FieldLayout``: fields are loaded many times for each struct.
  @usableFromInline
  package struct Field: Sendable {
    @usableFromInline package internal(set) var offset: Int
    /// Bytes; zero for a field that this kernel does not have.
    @usableFromInline package let size: Int
    @usableFromInline let isSigned: Bool
    /// Which bits count, from the lowest bit of the byte at `offset` on; nil where all do.
    @usableFromInline let bits: (offset: UInt8, count: UInt8)?
    @inlinable
    package var isPresent: Bool { size > 0 }

    /// The same field of a struct that lies `distance` bytes further.
    @inlinable
    func moved(by distance: Int) -> Field {
      var field = self
      field.offset &+= distance
      return field
    }

    /// One that this kernel does not have.
    package static var absent: Field { Field(offset: 0, size: 0) }

    fileprivate init(_ layout: FieldLayout) {
      offset = layout.offset
      size = layout.size
      isSigned = layout.isSigned
      bits = layout.bitfield.map { (UInt8(clamping: $0.offset), UInt8(clamping: $0.size)) }
    }

    fileprivate init(offset: Int, size: Int) {
      self.offset = offset
      self.size = size
      isSigned = false
      bits = nil
    }
  }

  /// Fields closer than this share a window: an entry of a batch costs about as much as so many bytes.
  private static let gap = 64

  private let structure: StructLayout
  @usableFromInline var windows: [Range<Int>] = []

  package init(_ structure: StructLayout) { self.structure = structure }

  /// The same with one window, of the first `count` bytes.
  func spanning(_ count: Int) -> FieldSelection {
    var selection = self
    selection.windows = [0..<count]
    return selection
  }

  /// Adds the field at `path`, for example `tasks.next`.
  package mutating func want(_ path: String) throws(KernelInfoError) -> Field {
    let layout = try structure.field(path)
    cover(layout.offset..<layout.offset + layout.size)
    return Field(layout)
  }

  /// Adds the field at the first of two paths that there is, for one that kernels name differently.
  package mutating func want(_ path: String, or other: String) throws(KernelInfoError) -> Field {
    try want(structure.hasField(path) || !structure.hasField(other) ? path : other)
  }

  /// Adds the field at `path` if this kernel has it.
  package mutating func wantIfPresent(_ path: String) throws(KernelInfoError) -> Field {
    structure.hasField(path) ? try want(path) : Field(offset: 0, size: 0)
  }

  /// Adds a plain integer of `size` bytes inside a field whose place was worked out from the types.
  package mutating func want(offset: Int, size: Int) -> Field {
    cover(offset..<offset + size)
    return Field(offset: offset, size: size)
  }

  private mutating func cover(_ range: Range<Int>) {
    windows.append(range)
    windows.sort { $0.lowerBound < $1.lowerBound }
    var merged: [Range<Int>] = []
    for window in windows {
      if let last = merged.last, window.lowerBound <= last.upperBound + Self.gap {
        merged[merged.count - 1] = last.lowerBound..<max(last.upperBound, window.upperBound)
      } else {
        merged.append(window)
      }
    }
    windows = merged
  }

  /// The selection of one struct, read as a part of a batch.
  @usableFromInline
  package struct Record: Sendable {
    @usableFromInline let first: Int
  }

  /// Asks `batch` for the selection of the struct at `address`.
  package func add<Address>(
    to batch: inout ReadBatch<Address>, at address: VirtualAddress, locate: (VirtualAddress, Int) -> Address
  ) -> Record {
    let first = batch.entries.count
    for window in windows {
      batch.add(locate(address + window.lowerBound, window.count), count: window.count)
    }
    return Record(first: first)
  }

  package func add(to batch: inout ReadBatch<VirtualAddress>, at address: VirtualAddress) -> Record {
    add(to: &batch, at: address) { address, _ in address }
  }

  /// A reader of the window that holds `field`, and the field's offset in it.
  @_lifetime(borrow batch)
  @inlinable
  func window<Address>(
    of field: Field, _ record: Record, _ batch: borrowing ReadBatch<Address>, base: inout Int
  ) throws(MemoryFault) -> ByteReader {
    var low = 0
    var high = windows.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if windows[middle].lowerBound <= field.offset { low = middle } else { high = middle }
    }
    base = -windows[low].lowerBound
    return try batch.reader(record.first + low)
  }

  /// The value of `field`: sign-extended where its type is signed, as ``FieldLayout/load(_:base:)`` has it.
  ///
  /// Inlinable, as whatever lies on the way of every field is: a batch is generic.
  @inlinable
  package func load<Address>(
    _ field: Field, _ record: Record, _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> UInt64 {
    guard field.isPresent else { return 0 }
    var base = 0
    let reader = try window(of: field, record, batch, base: &base)
    let start = base + field.offset
    var value: UInt64
    switch field.size {
    case 1: value = UInt64(try reader.u8(start))
    case 2: value = UInt64(try reader.u16(start))
    case 4: value = UInt64(try reader.u32(start))
    case 8: value = try reader.u64(start)
    case ...8:
      value = 0
      for byte in 0..<field.size { value |= UInt64(try reader.u8(start + byte)) << UInt64(8 * byte) }
    default: throw MemoryFault(.offset(start), .outOfBounds(size: field.size, count: 8))
    }
    let unused: UInt64
    if let bits = field.bits {
      value >>= UInt64(bits.offset)
      unused = 64 - UInt64(bits.count)
    } else {
      unused = UInt64(64 - 8 * field.size)
    }
    value <<= unused
    return field.isSigned ? UInt64(bitPattern: Int64(bitPattern: value) >> Int64(unused)) : value >> unused
  }

  /// The value of `field`, sign-extended from its own width.
  package func signed<Address>(
    _ field: Field, _ record: Record, _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> Int64 {
    let unused = UInt64(64 - min(max(field.size, 1), 8) * 8)
    return Int64(bitPattern: try load(field, record, batch) << unused) >> Int64(unused)
  }

  package func pointer<Address>(
    _ field: Field, _ record: Record, _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> VirtualAddress {
    VirtualAddress(try load(field, record, batch))
  }

  /// The bytes of `field` up to the first zero.
  package func string<Address>(
    _ field: Field, _ record: Record, _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [UInt8] {
    guard field.isPresent else { return [] }
    var base = 0
    let reader = try window(of: field, record, batch, base: &base)
    return try reader.cString(base + field.offset, limit: field.size)
  }

  /// The bytes of `field`, all of them.
  package func bytes<Address>(
    _ field: Field, _ record: Record, _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [UInt8] {
    guard field.isPresent else { return [] }
    var base = 0
    let reader = try window(of: field, record, batch, base: &base)
    return try reader.slice(base + field.offset, count: field.size).copy()
  }

  /// The 64-bit elements of the array `field`.
  package func words<Address>(
    _ field: Field, _ record: Record, _ batch: borrowing ReadBatch<Address>
  ) throws(MemoryFault) -> [Int64] {
    guard field.isPresent else { return [] }
    var base = 0
    let reader = try window(of: field, record, batch, base: &base)
    var result: [Int64] = []
    for word in 0..<field.size / 8 { result.append(try reader.load(base + field.offset + word * 8)) }
    return result
  }
}
