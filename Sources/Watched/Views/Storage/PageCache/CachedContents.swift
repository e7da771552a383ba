public import Memory

/// What the memory holds of a file's contents.
public struct CachedContents: Sendable {
  /// Why a part of a file is not in what was read.
  public enum Gap: String, Sendable {
    /// It is on the device alone.
    case notCached = "not cached"
    /// It is in memory's place on a swap device.
    case swapped = "swapped out"
    /// Its page is there, and the device's answer was not.
    case notRead = "not read from the device yet"
    /// Its page could not be read, or belonged to another file by the time it was read.
    case unreadable = "unreadable"
  }

  /// The file's size in bytes when it was read.
  public internal(set) var size: UInt64 = 0
  /// Bytes that were read.
  public internal(set) var count: UInt64 = 0
  /// What is missing, in bytes of the file, in ascending order. Holes of a file in memory are no gaps: they are zeroes.
  public internal(set) var gaps: [(range: Range<UInt64>, reason: Gap)] = []
  public internal(set) var faults: [MemoryFault] = []
}
