public import Memory

/// What an image leaves out, in makedumpfile's numbers: the option `-d` of that program.
public struct DumpLevel: OptionSet, Hashable, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  /// Pages of zeros: as with makedumpfile they are in the image, where they read as zeros, and take no room.
  ///
  /// Files other than kdump's have holes for them at every level.
  public static let zero = DumpLevel(rawValue: 1)
  /// The page cache, but for pages beside which a file system keeps data.
  public static let cache = DumpLevel(rawValue: 2)
  /// All of the page cache.
  public static let privateCache = DumpLevel(rawValue: 4)
  /// Memory of processes that is of no file, and huge pages.
  public static let user = DumpLevel(rawValue: 8)
  /// Free pages.
  public static let free = DumpLevel(rawValue: 16)

  /// Nothing but the kernel's own data.
  public static let all: DumpLevel = [.zero, .cache, .privateCache, .user, .free]

  /// Whether it takes the classes of page frames to tell what is left out.
  public var needsClasses: Bool { !subtracting(.zero).isEmpty }

  /// Whether pages of that class are left out.
  ///
  /// Broken pages always are: to read one may end the host. What was given back by a balloon is where classes count at all.
  public func leavesOut(_ kind: FrameClass) -> Bool {
    switch kind {
    case .unknown, .kernel, .slab, .pageTable: false
    case .free: contains(.free)
    case .cache: contains(.cache) || contains(.privateCache)
    case .privateCache: contains(.privateCache)
    case .user: contains(.user)
    case .offline: needsClasses
    case .poisoned: true
    }
  }

  /// Whether pages of that class are left out even where leaving them out costs more than having them.
  func forbids(_ kind: FrameClass) -> Bool { kind == .poisoned || kind == .offline && leavesOut(kind) }
}
