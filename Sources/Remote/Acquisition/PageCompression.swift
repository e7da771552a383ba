/// How a kdump's pages are compressed.
public enum PageCompression: String, CaseIterable, Sendable {
  /// Fast; crash knows it since 2021, drgn does, and makedumpfile where it was built with it, which Debian's is not.
  case zstd
  /// Slower by far; every program that reads kdumps knows it.
  case zlib

  /// As headers of images and of pages have it.
  ///
  /// Source: makedumpfile, diskdump_mod.h.
  var flag: UInt32 {
    switch self {
    case .zstd: 0x20
    case .zlib: 0x1
    }
  }
}
