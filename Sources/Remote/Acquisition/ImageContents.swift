public import Memory

/// What an image is to hold, and what it says of the kernel in it.
public struct ImageContents: Sendable {
  /// The memory to write, in ascending order, without overlap, no run empty and none beyond 2^52 bytes.
  public internal(set) var runs: [MemorySegment]
  /// The memory of which that is a selection.
  public let segments: [MemorySegment]
  /// What no image may hold: broken pages, and those that were given back.
  let forbidden: [MemorySegment]
  /// The classes of the frames of the memory; nil where they are not known.
  public var frames: FrameMap?
  /// What was left out.
  public let level: DumpLevel
  /// The text of the kernel's VMCOREINFO note; nil where it has none.
  public var coreInfo: [UInt8]?
  /// Where the kernel maps physical address 0; nil where no kernel was found.
  public var directMap: VirtualAddress?
  /// Lines `KEY=VALUE` that the image's own note is to have, beside those of the acquisition itself.
  public var remarks: [String] = []

  /// The end of what physical addresses of x86-64 reach.
  private static let end: UInt64 = 1 << 52

  /// All of `runs`, which come in any order: who says where memory lies may be wrong, so what overlaps counts once, and
  /// what lies where no memory can be is left out.
  public init(runs: [MemorySegment], coreInfo: [UInt8]? = nil, directMap: VirtualAddress? = nil) {
    self.runs = Self.normalized(runs)
    segments = self.runs
    forbidden = []
    level = []
    self.coreInfo = coreInfo
    self.directMap = directMap
  }

  /// What `level` leaves of a memory, by the classes of its frames; broken pages are left out at every level.
  ///
  /// Cost: one pass over the frames.
  public init(
    of segments: [MemorySegment], _ map: FrameMap?, _ level: DumpLevel, coreInfo: [UInt8]? = nil,
    directMap: VirtualAddress? = nil
  ) {
    self.segments = Self.normalized(segments)
    self.level = level
    frames = map
    self.coreInfo = coreInfo
    self.directMap = directMap
    remarks.append("LEVEL=\(level.rawValue)")
    guard let map else {
      (runs, forbidden) = (self.segments, [])
      return
    }
    let selection = FrameSelection(of: self.segments, map, level)
    (runs, forbidden) = (selection.runs, selection.forbidden)
    for kind in FrameClass.allCases {
      if let count = selection.leftOut[kind] { remarks.append("LEFT_OUT(\(kind))=\(count)") }
    }
  }

  static func normalized(_ runs: [MemorySegment]) -> [MemorySegment] {
    var kept: [MemorySegment] = []
    var last: UInt64 = 0
    for run in runs.sorted(by: { $0.start < $1.start }) where run.start.rawValue < Self.end {
      let start = max(run.start.rawValue, last)
      let end = run.start.rawValue + min(run.count, Self.end - run.start.rawValue)
      guard start < end else { continue }
      kept.append(MemorySegment(start: PhysicalAddress(start), count: end - start))
      last = end
    }
    return kept
  }

  /// How many bytes of memory it holds.
  ///
  /// Cost: one pass over the runs.
  public var byteCount: UInt64 { runs.reduce(0) { $0 + $1.count } }
}
