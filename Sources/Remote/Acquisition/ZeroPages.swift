import Glibc

/// Tells pages that hold nothing but zeros.
package enum ZeroPages {
  package static let size = 4096

  /// Whether the page at `start`, which may be cut short by the end of `bytes`, is one.
  package static func isZero(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Bool {
    let page = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + size, bytes.count)])
    guard let base = page.baseAddress, page[0] == 0 else { return false }
    // Each byte is the one before it.
    return memcmp(base, base + 1, page.count - 1) == 0
  }
}
