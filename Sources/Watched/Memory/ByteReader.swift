/// Loads little-endian values from bytes, with every access checked against the bounds.
///
/// All parsing of the watched memory goes through this type. The bytes are a private copy: a value read twice is the
/// same twice.
public struct ByteReader: ~Escapable {
  public let bytes: RawSpan

  /// A reader of `bytes`, whose offsets count from their start.
  @_lifetime(copy bytes)
  @inlinable
  public init(_ bytes: RawSpan) { self.bytes = bytes }

  /// The number of bytes.
  @inlinable
  public var count: Int { bytes.byteCount }

  /// The little-endian integer at `offset`, which need not be aligned.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before it does.
  @inlinable
  public func load<T: FixedWidthInteger & BitwiseCopyable>(
    _ offset: Int, as type: T.Type = T.self
  ) throws(MemoryFault) -> T {
    guard offset >= 0, offset <= bytes.byteCount &- MemoryLayout<T>.size else {
      throw MemoryFault(.offset(offset), .outOfBounds(size: MemoryLayout<T>.size, count: bytes.byteCount))
    }
    return T(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self))
  }

  /// The byte at `offset`.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before.
  @inlinable
  public func u8(_ offset: Int) throws(MemoryFault) -> UInt8 { try load(offset) }
  /// The 16-bit number at `offset`, little endian.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before.
  @inlinable
  public func u16(_ offset: Int) throws(MemoryFault) -> UInt16 { try load(offset) }
  /// The 32-bit number at `offset`, little endian.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before.
  @inlinable
  public func u32(_ offset: Int) throws(MemoryFault) -> UInt32 { try load(offset) }
  /// The 64-bit number at `offset`, little endian.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before.
  @inlinable
  public func u64(_ offset: Int) throws(MemoryFault) -> UInt64 { try load(offset) }

  /// The kernel pointer at `offset`.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before.
  @inlinable
  public func pointer(_ offset: Int) throws(MemoryFault) -> VirtualAddress { VirtualAddress(try u64(offset)) }

  /// A reader of `count` bytes from `offset`.
  ///
  /// - Throws: ``MemoryFault`` where the bytes end before.
  @_lifetime(copy self)
  @inlinable
  public func slice(_ offset: Int, count: Int) throws(MemoryFault) -> ByteReader {
    guard offset >= 0, count >= 0, offset <= bytes.byteCount, count <= bytes.byteCount &- offset else {
      throw MemoryFault(.offset(offset), .outOfBounds(size: count, count: bytes.byteCount))
    }
    return ByteReader(bytes.extracting(offset..<offset &+ count))
  }

  /// The bytes from `offset` up to the first zero byte, or to `limit` bytes or the end where none comes before.
  ///
  /// - Throws: ``MemoryFault`` where `offset` lies outside the bytes.
  public func cString(_ offset: Int, limit: Int = .max) throws(MemoryFault) -> [UInt8] {
    guard offset >= 0, offset <= bytes.byteCount else {
      throw MemoryFault(.offset(offset), .outOfBounds(size: 1, count: bytes.byteCount))
    }
    let end = min(bytes.byteCount, limit > bytes.byteCount - offset ? bytes.byteCount : offset + max(0, limit))
    var result: [UInt8] = []
    for index in offset..<end {
      let byte = bytes.unsafeLoad(fromUncheckedByteOffset: index, as: UInt8.self)
      if byte == 0 { break }
      result.append(byte)
    }
    return result
  }

  /// A copy of all the bytes.
  public func copy() -> [UInt8] {
    bytes.withUnsafeBytes { [UInt8]($0) }
  }
}
