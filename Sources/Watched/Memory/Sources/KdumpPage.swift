import CCompression

/// A page of a kdump-compressed image, as its entry's flags say that it is compressed.
package enum KdumpPage {
  static let zlib: UInt32 = 0x1
  static let lzo: UInt32 = 0x2
  static let snappy: UInt32 = 0x4
  static let zstd: UInt32 = 0x20

  /// Unpacks it, and returns how many bytes it has; less than 0, or others than a page's, where it is broken.
  package static func unpack(
    _ data: UnsafeRawBufferPointer, _ flags: UInt32, to page: UnsafeMutableRawBufferPointer
  ) -> Int {
    switch flags & (zlib | lzo | snappy | zstd) {
    case 0:
      guard data.count == page.count else { return -1 }
      page.copyMemory(from: data)
      return data.count
    case zlib:
      var count = uLongf(page.count)
      let code = uncompress(
        page.baseAddress?.assumingMemoryBound(to: UInt8.self), &count,
        data.baseAddress?.assumingMemoryBound(to: UInt8.self), uLong(data.count))
      return code == Z_OK ? Int(count) : -1
    case zstd:
      let count = ZSTD_decompress(page.baseAddress, page.count, data.baseAddress, data.count)
      return ZSTD_isError(count) == 0 ? count : -1
    default: return -1
    }
  }
}
