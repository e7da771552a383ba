public import Memory

/// What an acquisition has written.
public struct AcquisitionSummary: Sendable {
  /// Bytes of memory in the image.
  public internal(set) var byteCount: UInt64 = 0
  /// How many of them were in it already when this run began.
  public internal(set) var resumed: UInt64 = 0
  /// What of them could not be read, and is zeros in the image: in ascending order, at most ``mostUnread`` ranges.
  public internal(set) var unread: [MemorySegment] = []
  /// How many bytes could not be read in all.
  public internal(set) var unreadCount: UInt64 = 0
  /// What came of holding the image against the memory; nil where it was not.
  public internal(set) var consistency: Consistency?
  /// The frames that changed while the image was taken, as ``MovedFrames`` writes them; empty where nobody looked.
  public internal(set) var moved: [UInt8] = []

  /// How much of an image is of one instant.
  public struct Consistency: Sendable, Equatable {
    /// How often it was held against the memory.
    public var rounds: Int
    /// The instant, in milliseconds since 1970.
    public var instant: UInt64
    /// How many pages are of it, and how many are not.
    public var settled, movedCount: UInt64
  }

  mutating func add(_ outcome: ConsistencyRounds.Outcome) {
    consistency = Consistency(
      rounds: outcome.rounds, instant: outcome.instant, settled: outcome.settled, movedCount: outcome.movedCount)
    moved = MovedFrames(outcome.moved).record
  }
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
