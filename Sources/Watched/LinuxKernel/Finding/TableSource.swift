public import Memory

/// Where a kernel's symbols and types were taken from.
public enum TableSource: Hashable, Sendable {
  /// From the memory itself.
  case memory
  /// Kept ones of the same build: their digest is that of the memory's own.
  case digest(MemoryDigest)
  /// Kept ones, for the memory's own do not serve; the reason.
  case kept(instead: String)
}
