import CCompression

/// Compresses pages, for one thread at a time.
///
/// The corresponding C functions are `ZSTD_compressCCtx` and `compress2`.
package final class PageCompressor: @unchecked Sendable {
  // One thread at a time has it.
  private let context: OpaquePointer
  private let kind: PageCompression
  private var room: [UInt8]

  /// The fastest level of either: pages are small, and links are fast.
  private static let level: CInt = 1

  /// Nil where there is no memory for it.
  package init?(_ kind: PageCompression) {
    guard let context = ZSTD_createCCtx() else { return nil }
    self.context = context
    self.kind = kind
    room = [UInt8](
      repeating: 0, count: max(ZSTD_compressBound(ZeroPages.size), Int(compressBound(uLong(ZeroPages.size)))))
  }

  deinit { ZSTD_freeCCtx(context) }

  /// The page compressed; nil where that takes no less room than it does.
  package func compress(_ page: UnsafeRawBufferPointer) -> [UInt8]? {
    let count =
      switch kind {
      case .zstd: zstd(page)
      case .zlib: zlib(page)
      }
    guard let count, count < page.count else { return nil }
    return Array(room[..<count])
  }

  private func zstd(_ page: UnsafeRawBufferPointer) -> Int? {
    let count = room.withUnsafeMutableBytes {
      ZSTD_compressCCtx(context, $0.baseAddress, $0.count, page.baseAddress, page.count, Self.level)
    }
    return ZSTD_isError(count) == 0 ? count : nil
  }

  private func zlib(_ page: UnsafeRawBufferPointer) -> Int? {
    var count = uLongf(room.count)
    let source = page.assumingMemoryBound(to: Bytef.self)
    let code = room.withUnsafeMutableBufferPointer { room in
      compress2(room.baseAddress, &count, source.baseAddress, uLong(source.count), Self.level)
    }
    return code == Z_OK ? Int(count) : nil
  }
}
