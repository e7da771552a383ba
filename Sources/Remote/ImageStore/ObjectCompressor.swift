import Acquisition

/// Makes of pages and nodes what packs have, for one thread at a time.
final class ObjectCompressor {
  private let compressor = PageCompressor(.zstd)

  /// The object, compressed where that takes less room.
  func object(_ bytes: UnsafeRawBufferPointer, _ kind: ObjectKind, _ name: ObjectName) -> Pack.Stored {
    if let compressed = compressor?.compress(bytes) {
      return Pack.Stored(kind: kind, isCompressed: true, name: name, payload: compressed)
    }
    return Pack.Stored(kind: kind, isCompressed: false, name: name, payload: Array(bytes))
  }

  func object(_ bytes: [UInt8], _ kind: ObjectKind, _ name: ObjectName) -> Pack.Stored {
    bytes.withUnsafeBytes { object($0, kind, name) }
  }
}
