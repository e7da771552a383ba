public import Memory

/// The memory that a level leaves.
public struct FrameSelection: Sendable {
  /// In ascending order, without overlap.
  public private(set) var runs: [MemorySegment] = []
  /// What no image may hold, whatever it costs: broken pages, and those that were given back.
  public private(set) var forbidden: [MemorySegment] = []
  /// How many frames are left out, by class.
  public private(set) var leftOut: [FrameClass: UInt64] = [:]

  /// What `level` leaves of `segments`, by the classes of their frames.
  ///
  /// `segments` are in ascending order and without overlap. What is no whole frame stays. Cost: one pass over the frames.
  public init(of segments: [MemorySegment], _ map: FrameMap, _ level: DumpLevel) {
    let size = FrameMap.frameSize
    let leavesOut = (0...UInt8.max).map { FrameClass(rawValue: $0).map(level.leavesOut) ?? false }
    let forbids = (0...UInt8.max).map { FrameClass(rawValue: $0).map(level.forbids) ?? false }
    var counts = [UInt64](repeating: 0, count: 256)
    var gaps: [MemorySegment] = []
    for part in map.parts {
      for (index, kind) in part.classes.enumerated() where leavesOut[Int(kind)] {
        counts[Int(kind)] += 1
        let frame = MemorySegment(start: PhysicalAddress((part.first + UInt64(index)) * size), count: size)
        Self.append(frame, to: &gaps)
        if forbids[Int(kind)] { Self.append(frame, to: &forbidden) }
      }
    }
    for kind in FrameClass.allCases where counts[Int(kind.rawValue)] > 0 { leftOut[kind] = counts[Int(kind.rawValue)] }
    runs = Self.subtract(gaps, from: segments)
  }

  private static func append(_ frame: MemorySegment, to runs: inout [MemorySegment]) {
    if let last = runs.last, last.start.rawValue + last.count == frame.start.rawValue {
      runs[runs.count - 1].count += frame.count
    } else {
      runs.append(frame)
    }
  }

  /// What of `runs` is in none of `gaps`; both in ascending order and without overlap.
  static func subtract(_ gaps: [MemorySegment], from runs: [MemorySegment]) -> [MemorySegment] {
    var rest: [MemorySegment] = []
    var next = 0
    for run in runs {
      var start = run.start.rawValue
      let end = start + run.count
      while next < gaps.count, gaps[next].start.rawValue + gaps[next].count <= start { next += 1 }
      var gap = next
      while gap < gaps.count, gaps[gap].start.rawValue < end {
        if gaps[gap].start.rawValue > start {
          rest.append(MemorySegment(start: PhysicalAddress(start), count: gaps[gap].start.rawValue - start))
        }
        start = gaps[gap].start.rawValue + gaps[gap].count
        gap += 1
      }
      if start < end { rest.append(MemorySegment(start: PhysicalAddress(start), count: end - start)) }
    }
    return rest
  }

  /// At most `most` runs, of which those that lie nearest to each other are joined with what lies between them.
  ///
  /// Nothing is joined over what is `forbidden` or over what is in no segment; there may then be more. Cost: a sort.
  static func join(
    _ runs: [MemorySegment], most: Int, forbidden: [MemorySegment], segments: [MemorySegment]
  ) -> [MemorySegment] {
    guard runs.count > most, most > 0 else { return runs }
    var gaps: [(size: UInt64, after: Int)] = []
    var (barred, segment) = (0, 0)
    for index in runs.indices.dropLast() {
      let start = runs[index].start.rawValue + runs[index].count
      let end = runs[index + 1].start.rawValue
      while barred < forbidden.count, forbidden[barred].start.rawValue + forbidden[barred].count <= start {
        barred += 1
      }
      while segment < segments.count, segments[segment].start.rawValue + segments[segment].count <= start {
        segment += 1
      }
      let isBarred = barred < forbidden.count && forbidden[barred].start.rawValue < end
      let isInside =
        segment < segments.count && segments[segment].start.rawValue <= start
        && segments[segment].start.rawValue + segments[segment].count >= end
      if !isBarred, isInside { gaps.append((end - start, index)) }
    }
    gaps.sort { ($0.size, $0.after) < ($1.size, $1.after) }
    let closed = Set(gaps.prefix(runs.count - most).map(\.after))
    var joined: [MemorySegment] = []
    for (index, run) in runs.enumerated() {
      if index > 0, closed.contains(index - 1), let last = joined.last {
        joined[joined.count - 1].count = run.start.rawValue + run.count - last.start.rawValue
      } else {
        joined.append(run)
      }
    }
    return joined
  }
}
