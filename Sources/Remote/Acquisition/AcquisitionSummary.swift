public import Memory

/// What an acquisition has written.
public struct AcquisitionSummary: Sendable {
  /// Bytes of memory in the image.
  public internal(set) var byteCount: UInt64 = 0
  /// How many of them were in it already when this run began.
  public internal(set) var resumed: UInt64 = 0
  /// In how many files it lies, each encrypted by itself: one, and one more for each time that it was interrupted.
  public internal(set) var fileCount = 1
  /// What of them could not be read, and is zeros in the image: in ascending order, at most ``mostUnread`` ranges.
  public internal(set) var unread: [MemorySegment] = []
  /// How many bytes could not be read in all.
  public internal(set) var unreadCount: UInt64 = 0
  /// What came of holding the image against the memory; nil where it was not.
  public internal(set) var consistency: ImageConsistency?
  /// The frames that changed while the image was taken, as ``MovedFrames`` writes them; empty where nobody looked.
  ///
  /// Cost: one pass over them.
  public var moved: [UInt8] { consistency.map { MovedFrames($0.moved).record } ?? [] }

  /// The lines `KEY=VALUE` of the image's note.
  public internal(set) var note: [String] = []

  /// The classes of frames as ``FrameMapRecord`` writes them; empty where they were not known.
  public internal(set) var frames: [UInt8] = []

  /// So many ranges are named; what comes after them is only counted.
  public static let mostUnread = 4096

  mutating func add(unread range: MemorySegment) {
    unreadCount &+= range.count
    if let last = unread.last, last.start.rawValue &+ last.count == range.start.rawValue {
      unread[unread.count - 1].count &+= range.count
    } else if unread.count < Self.mostUnread {
      unread.append(range)
    }
  }
}
