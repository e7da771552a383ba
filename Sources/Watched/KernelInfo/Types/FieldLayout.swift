public import Memory

/// Where a field lies in its struct, and how to load it.
public struct FieldLayout: Sendable {
  /// Which of the field's bits count.
  public struct BitField: Hashable, Sendable {
    /// The distance of the lowest bit from the lowest bit of the byte at the field's offset, below 8.
    public let offset: Int
    /// The number of bits, at most 64.
    public let size: Int
  }

  /// The path that was asked for.
  public let path: String
  /// The struct that the path starts from.
  public let structureName: String
  /// Bytes from the start of that struct.
  public let offset: Int
  /// Bytes of the whole field: all elements of an array, all bytes that a bit field touches.
  public internal(set) var size: Int
  /// Whether the field, or the element of an array, is a pointer.
  public let isPointer: Bool
  /// Whether the field, or the element of an array, is a signed integer.
  public let isSigned: Bool
  /// The number of elements where the field is an array (0 for a flexible one), of the first dimension.
  public let elementCount: Int?
  /// Bytes of one element of an array, otherwise of the field.
  public internal(set) var elementSize: Int
  /// The name of the field's struct or type, an array's element's, or a pointer's target's.
  ///
  /// It is the name for ``TypeTable/structure(_:)`` where that is a struct, and empty where the type has no name.
  public let typeName: String
  public internal(set) var bitfield: BitField?

  /// The field as an unsigned number, of the struct that starts at `base` in `reader`'s bytes.
  ///
  /// A signed field is sign-extended. A struct of up to 8 bytes that wraps a number, such as `atomic_t` or `kuid_t`, is
  /// loaded as that number, without sign.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before, or the field has no bytes or more than 8.
  @inlinable
  public func load(_ reader: borrowing ByteReader, base: Int = 0) throws(MemoryFault) -> UInt64 {
    let start = base &+ offset
    if bitfield == nil {
      switch size {
      case 8: return try reader.u64(start)
      case 4:
        return isSigned
          ? UInt64(truncatingIfNeeded: try reader.load(start, as: Int32.self)) : UInt64(try reader.u32(start))
      case 2:
        return isSigned
          ? UInt64(truncatingIfNeeded: try reader.load(start, as: Int16.self)) : UInt64(try reader.u16(start))
      case 1:
        return isSigned
          ? UInt64(truncatingIfNeeded: try reader.load(start, as: Int8.self)) : UInt64(try reader.u8(start))
      default: break
      }
    }
    return try loadBits(reader, start)
  }

  /// The field as a signed number.
  @inlinable
  public func loadSigned(_ reader: borrowing ByteReader, base: Int = 0) throws(MemoryFault) -> Int64 {
    Int64(bitPattern: try load(reader, base: base))
  }

  /// The field as an address of the kernel.
  @inlinable
  public func loadPointer(_ reader: borrowing ByteReader, base: Int = 0) throws(MemoryFault) -> VirtualAddress {
    VirtualAddress(try load(reader, base: base))
  }

  /// Element `index` of an array of numbers, which is sign-extended where it is signed.
  public func load(_ reader: borrowing ByteReader, base: Int = 0, element index: Int) throws(MemoryFault) -> UInt64 {
    guard index >= 0, index < elementCount ?? 1 || elementCount == 0 else {
      throw MemoryFault(.offset(index), .outOfBounds(size: elementSize, count: size))
    }
    let (distance, overflow) = index.multipliedReportingOverflow(by: elementSize)
    var element = self
    element.size = elementSize
    return try element.load(reader, base: overflow ? .max : base &+ distance)
  }

  /// The bytes of the field, such as a name in a `char` array, up to the first zero.
  public func loadCString(_ reader: borrowing ByteReader, base: Int = 0) throws(MemoryFault) -> [UInt8] {
    try reader.slice(base &+ offset, count: size).cString(0)
  }

  @usableFromInline
  package func loadBits(_ reader: borrowing ByteReader, _ start: Int) throws(MemoryFault) -> UInt64 {
    guard size > 0, size <= 8 else {
      throw MemoryFault(.offset(start), .outOfBounds(size: size, count: 8))
    }
    var value: UInt64 = 0
    for byte in 0..<size { value |= UInt64(try reader.u8(start &+ byte)) << UInt64(8 * byte) }
    let width = bitfield?.size ?? 8 * size
    value = (value >> UInt64(bitfield?.offset ?? 0)) << UInt64(64 - width)
    return isSigned ? UInt64(bitPattern: Int64(bitPattern: value) >> Int64(64 - width)) : value >> UInt64(64 - width)
  }
}
