import CCompression
import Glibc
import Memory

/// A file of objects, one behind the other, to which is only ever appended.
///
/// ```
/// 0     "GRASSPCK", u32 version = 1, u32 the pack's number
/// 16    objects: u8 kind, u8 form (0 as it is, 1 zstd), u16 bytes that follow the name
///       32 bytes name, then the bytes
/// ```
/// Each object says what it is, so that a pack is read also without an index; and none is used that is not what its name says.
final class Pack: Sendable {
  let number: UInt32
  let path: String
  private let descriptor: CInt

  static let suffix = ".pack"
  static let magic = Array("GRASSPCK".utf8)
  static let headSize = 16, objectHeadSize = 36
  /// No object begins beyond: the next one goes into another pack.
  static let largest: UInt64 = 1 << 30
  /// Nor are there more: they are kept in memory while it is written.
  static let mostObjects = 1 << 20
  /// What an index can say.
  static let limit = UInt64(UInt32.max)

  /// An object as it lies in a pack.
  struct Stored: Sendable {
    var kind: ObjectKind
    var isCompressed: Bool
    var name: ObjectName
    var payload: [UInt8]

    func append(to bytes: inout [UInt8]) {
      bytes.append(kind.rawValue)
      bytes.append(isCompressed ? 1 : 0)
      withUnsafeBytes(of: UInt16(clamping: payload.count).littleEndian) { bytes += $0 }
      name.append(to: &bytes)
      bytes += payload
    }

    var size: Int { objectHeadSize + payload.count }

    /// The object's bytes, where they are what its name says.
    ///
    /// Cost: their SHA-256.
    var proven: [UInt8]? {
      guard let bytes = isCompressed ? Self.unpacked(payload) : payload, bytes.count == ObjectKind.size,
        bytes.withUnsafeBytes(kind.name) == name
      else { return nil }
      return bytes
    }

    private static func unpacked(_ payload: [UInt8]) -> [UInt8]? {
      var count = 0
      // Into room for one object, whatever the compressed bytes say of themselves.
      let bytes = [UInt8](unsafeUninitializedCapacity: ObjectKind.size) { room, filled in
        count = payload.withUnsafeBytes { ZSTD_decompress(room.baseAddress, ObjectKind.size, $0.baseAddress, $0.count) }
        filled = ZSTD_isError(count) == 0 ? min(count, ObjectKind.size) : 0
      }
      return bytes.count == ObjectKind.size ? bytes : nil
    }
  }

  init(_ folder: String, _ number: UInt32) throws(StoreError) {
    self.number = number
    path = "\(folder)/\(StoreFiles.name(number, Self.suffix))"
    descriptor = try StoreFiles.open(path, O_RDONLY)
  }

  deinit { close(descriptor) }

  var size: UInt64 { (try? StoreFiles.size(descriptor, path)) ?? 0 }

  /// The object at an offset, whose bytes are not proven yet; nil where there is none.
  func stored(at offset: UInt64) -> Stored? {
    guard let bytes = try? StoreFiles.read(descriptor, offset, count: Self.objectHeadSize + ObjectKind.size, path)
    else {
      return nil
    }
    return Self.stored(bytes, 0)
  }

  private static func stored(_ bytes: [UInt8], _ offset: Int) -> Stored? {
    let reader = ByteReader(bytes.span.bytes)
    guard let kind = try? reader.u8(offset), kind <= ObjectKind.highest, let form = try? reader.u8(offset + 1),
      form <= 1,
      let count = try? reader.u16(offset + 2), count > 0, Int(count) <= ObjectKind.size,
      let name = try? ObjectName(reader, offset + 4),
      let payload = try? reader.slice(offset + objectHeadSize, count: Int(count)).copy()
    else { return nil }
    return Stored(kind: ObjectKind(rawValue: kind), isCompressed: form == 1, name: name, payload: payload)
  }

  /// What a walk through a pack comes by.
  enum Step {
    /// An object whose bytes are what its name says.
    case object(Stored)
    /// One whose bytes are something else.
    case damaged(ObjectName)
    /// So many bytes that are no object: behind them one was found again, or the pack ends.
    case unknown(UInt64)
  }

  /// Goes through all objects in their order, as long as `body` returns true.
  ///
  /// - Throws: ``StoreError`` where the pack cannot be read. Cost: a read and the SHA-256 of all of it.
  func forEach(_ body: (_ offset: UInt64, Step) throws(StoreError) -> Bool) throws(StoreError) {
    let size = try StoreFiles.size(descriptor, path)
    let head = try StoreFiles.read(descriptor, 0, count: Self.headSize, path)
    if head != Self.head(number) { guard try body(0, .unknown(UInt64(head.count))) else { return } }
    var (start, buffer) = (UInt64(Self.headSize), [UInt8]())
    var (place, lost) = (start, UInt64(0))
    while place < size {
      var offset = Int(place - start)
      if buffer.count - offset < Self.objectHeadSize + ObjectKind.size, start + UInt64(buffer.count) < size {
        buffer = try StoreFiles.read(descriptor, place, count: 4 << 20, path)
        (start, offset) = (place, 0)
      }
      let one = Self.stored(buffer, offset)
      let isProven = one?.proven != nil
      // Behind what is no object the next is only one whose bytes are what its name says.
      guard let one, isProven || lost == 0 else {
        (place, lost) = (place + 1, lost + 1)
        if lost > Self.patience { (lost, place) = (lost + size - place, size) }
        continue
      }
      if lost > 0 { guard try body(place - lost, .unknown(lost)) else { return } }
      lost = 0
      guard try body(place, isProven ? .object(one) : .damaged(one.name)) else { return }
      place += UInt64(one.size)
    }
    if lost > 0 { _ = try body(size - lost, .unknown(lost)) }
  }

  /// How far an object is looked for behind what is none: bytes.
  private static let patience: UInt64 = 64 << 10

  /// Has what was written of it kept whatever happens to this machine.
  func synchronize() throws(StoreError) { try StoreFiles.synchronize(descriptor, path) }

  static func head(_ number: UInt32) -> [UInt8] {
    var head = magic
    for word in [UInt32(1), number] { withUnsafeBytes(of: word.littleEndian) { head += $0 } }
    return head
  }
}

/// The pack that is appended to, by its one writer.
final class OpenPack {
  let number: UInt32
  let path: String
  private let descriptor: CInt
  private var buffer: [UInt8]
  private(set) var size: UInt64
  /// Where the objects lie that are in it.
  private(set) var offsets: [ObjectName: UInt32] = [:]

  init(_ folder: String, _ number: UInt32) throws(StoreError) {
    self.number = number
    path = "\(folder)/\(StoreFiles.name(number, Pack.suffix))"
    descriptor = try StoreFiles.open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND)
    buffer = Pack.head(number)
    size = UInt64(buffer.count)
  }

  deinit { close(descriptor) }

  func append(_ object: Pack.Stored) throws(StoreError) {
    offsets[object.name] = UInt32(truncatingIfNeeded: size)
    size += UInt64(object.size)
    object.append(to: &buffer)
    if buffer.count >= 1 << 20 { try flush() }
  }

  /// Hands all to the system: from then on it can be read, and outlives this process.
  func flush() throws(StoreError) {
    guard !buffer.isEmpty else { return }
    try StoreFiles.write(buffer, to: descriptor, path)
    buffer.removeAll(keepingCapacity: true)
  }

  func synchronize() throws(StoreError) {
    try flush()
    try StoreFiles.synchronize(descriptor, path)
  }
}
