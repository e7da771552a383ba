/// The bytes of a kdump in the image's order, whether its file has them so or is flattened.
struct KdumpBytes {
  /// Bytes that stay where they are as long as this object.
  final class Part: @unchecked Sendable {
    // Sendable because nothing writes to them after init.
    let base: UnsafeRawPointer
    private let copied: UnsafeMutableRawPointer?
    /// What `base` lies in where nothing was copied.
    private let file: MappedFile?

    fileprivate init(_ file: MappedFile, at offset: Int) { (base, copied, self.file) = (file.base + offset, nil, file) }

    fileprivate init(_ flattened: FlattenedFile, at offset: Int, count: Int) {
      let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(count, 8), alignment: 8)
      flattened.copy(offset, to: UnsafeMutableRawBufferPointer(start: bytes, count: count))
      (base, copied, file) = (UnsafeRawPointer(bytes), bytes, nil)
    }

    deinit { copied?.deallocate() }
  }

  let file: MappedFile
  private let flattened: FlattenedFile?
  /// How long the image is.
  let count: Int

  init(_ file: MappedFile) throws(MemoryImageError) {
    self.file = file
    let isFlattened = file.bytes(at: 0, count: FlattenedFile.magic.count) == FlattenedFile.magic
    flattened = isFlattened ? try FlattenedFile(file) : nil
    count = flattened?.count ?? file.count
  }

  /// `count` bytes from `offset` on, which are there.
  func part(at offset: Int, count: Int) -> Part {
    flattened.map { Part($0, at: offset, count: count) } ?? Part(file, at: offset)
  }

  /// A copy of `count` bytes from `offset` on, fewer where the image ends before.
  func bytes(at offset: Int, count wanted: Int) -> [UInt8] {
    guard let flattened else { return file.bytes(at: offset, count: wanted) }
    guard offset >= 0, offset < count else { return [] }
    return [UInt8](unsafeUninitializedCapacity: min(wanted, count - offset)) { bytes, filled in
      filled = min(wanted, count - offset)
      flattened.copy(
        offset, to: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(bytes)[..<filled]))
    }
  }
}
