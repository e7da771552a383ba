import Crypto
import Memory

/// The SHA-256 of something in a store, by which it is found.
///
/// A page's is that of its 4096 bytes. A node's is that of ``ObjectKind/domain``, its level and its bytes, so that no page can
/// be taken for one. A few values that nobody can find bytes for say of pages that there is nothing to keep.
public struct ObjectName: Hashable, Sendable {
  // As numbers of eight bytes, most significant first: in the order of the bytes.
  let words: SIMD4<UInt64>

  /// How many bytes.
  static let size = 32

  init(_ first: UInt64, _ second: UInt64, _ third: UInt64, _ fourth: UInt64) {
    words = SIMD4(first, second, third, fourth)
  }

  init(_ digest: SHA256Digest) {
    self = digest.withUnsafeBytes { bytes in ObjectName(raw: bytes) }
  }

  /// The name that 32 bytes are.
  init(raw bytes: UnsafeRawBufferPointer) {
    func word(_ index: Int) -> UInt64 {
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
    }
    self.init(word(0), word(1), word(2), word(3))
  }

  init(_ reader: borrowing ByteReader, _ offset: Int) throws(MemoryFault) {
    self.init(
      try reader.u64(offset).byteSwapped, try reader.u64(offset + 8).byteSwapped,
      try reader.u64(offset + 16).byteSwapped, try reader.u64(offset + 24).byteSwapped)
  }

  /// Memory that the image does not have.
  static let absent = ObjectName(0, 0, 0, 0)
  /// A page of zeros, or only such pages.
  static let zero = ObjectName(0, 0, 0, 1)
  /// What could not be read.
  static let unread = ObjectName(0, 0, 0, 2)

  /// Whether it says that there is nothing to keep.
  var isMark: Bool { words[0] | words[1] | words[2] == 0 && words[3] <= 2 }

  func append(to bytes: inout [UInt8]) {
    for index in 0..<4 { withUnsafeBytes(of: words[index].bigEndian) { bytes += $0 } }
  }

  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    append(to: &bytes)
    return bytes
  }

  /// The name that 64 hexadecimal digits are; nil for anything else.
  init?(_ text: some StringProtocol) {
    let digits = Array(text.utf8)
    guard digits.count == 64 else { return nil }
    let words = stride(from: 0, to: 64, by: 16).compactMap { start -> UInt64? in
      let digits = digits[start..<start + 16]
      guard digits.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }) else { return nil }
      return UInt64(String(decoding: digits, as: UTF8.self), radix: 16)
    }
    guard words.count == 4 else { return nil }
    self.init(words[0], words[1], words[2], words[3])
  }
}

extension ObjectName: Comparable {
  public static func < (lhs: ObjectName, rhs: ObjectName) -> Bool {
    for index in 0..<3 where lhs.words[index] != rhs.words[index] { return lhs.words[index] < rhs.words[index] }
    return lhs.words[3] < rhs.words[3]
  }
}

extension ObjectName: CustomStringConvertible {
  /// 64 hexadecimal digits.
  public var description: String {
    (0..<4).map { index in
      let digits = String(words[index], radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }

  /// The first twelve digits, which tell a store's images apart.
  public var short: String { String(description.prefix(12)) }
}

/// What an object is: a page of memory, or a node above pages.
///
/// Either has 4096 bytes.
struct ObjectKind: RawRepresentable, Hashable, Sendable {
  let rawValue: UInt8

  static let page = ObjectKind(rawValue: 0)
  /// The node of that level, from 1 on: one of level 1 has the names of pages.
  static func node(_ level: Int) -> ObjectKind { ObjectKind(rawValue: UInt8(clamping: level)) }

  /// Bytes of every object.
  static let size = 4096
  /// The highest level there is: that of 2^42 pages, more than physical addresses of x86-64 reach.
  static let highest = 6
  static let domain = Array("GRASS store node\0".utf8)

  /// The name of bytes of this kind.
  ///
  /// Cost: their SHA-256.
  func name(of bytes: UnsafeRawBufferPointer) -> ObjectName {
    var digest = SHA256()
    if self != .page { digest.update(data: Self.domain + [rawValue]) }
    digest.update(bufferPointer: bytes)
    return ObjectName(digest.finalize())
  }
}
