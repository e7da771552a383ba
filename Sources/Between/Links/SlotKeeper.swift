/// The device behind a region's slots, as far as those who lend them need it.
public protocol SlotKeeper: Sendable {
  /// Whether sessions of this region need keys.
  var isKeyed: Bool { get }

  /// Has the mailbox program look at the region's slots at once, on the caller's thread, or does nothing.
  func assist()

  /// Has the device forget the sessions that had these slots, before they are lent anew; returns once it has.
  func release(_ slots: Range<Int>)

  /// The watched memory, where sessions may read it past the device, in clear; empty where they may not.
  var openMemory: [OpenSegment] { get }

  /// Whether the session of these slots has asked how its link reads that memory, and still may: a link lets nobody read otherwise.
  ///
  /// False from the moment on at which that session has ended, by the removal of its key for one.
  func wantsWindows(_ slots: Range<Int>) -> Bool

  /// Says how, to who has these slots: as parts of which offsets are physical addresses; nil while it is not known.
  func setWindows(_ windows: [RemotePart]?, _ slots: Range<Int>)
}

extension SlotKeeper {
  public var openMemory: [OpenSegment] { [] }
  public func wantsWindows(_ slots: Range<Int>) -> Bool { false }
  public func setWindows(_ windows: [RemotePart]?, _ slots: Range<Int>) {}
}

/// The keeper of a region whose sessions need no keys: there is nothing to forget.
public struct KeylessSlots: SlotKeeper {
  private let look: @Sendable () -> Void

  /// `assist` has the mailbox program look at the region's slots at once, on the caller's thread, or does nothing.
  public init(assist: @escaping @Sendable () -> Void = {}) { look = assist }

  public var isKeyed: Bool { false }
  public func assist() { look() }
  public func release(_ slots: Range<Int>) {}
}
