import KernelInfo
package import Memory

/// The windows in which memory is searched: from both ends in turn towards the middle.
///
/// The kernel allocates its note while it boots, which leaves it near the start of memory or near its end, depending on
/// the kernel. So most searches end after a few windows.
package struct ScanOrder: Sequence, IteratorProtocol {
  /// Whole pages only.
  private let segments: [MemorySegment]
  private let windowSize: UInt64
  private var low: (segment: Int, window: UInt64)
  private var high: (segment: Int, window: UInt64)
  private var left: UInt64 = 0
  private var takesLow = true

  package init(_ segments: [MemorySegment], windowSize: UInt64, pageSize: UInt64) {
    self.windowSize = windowSize
    self.segments = segments.compactMap { segment in
      let skipped = (0 &- segment.start.rawValue) % pageSize
      guard segment.count >= skipped + pageSize else { return nil }
      let count = (segment.count - skipped) / pageSize * pageSize
      return MemorySegment(start: PhysicalAddress(segment.start.rawValue &+ skipped), count: count)
    }
    low = (0, 0)
    high = (self.segments.count, 0)
    for segment in self.segments { left += windows(in: segment) }
  }

  private func windows(in segment: MemorySegment) -> UInt64 { (segment.count - 1) / windowSize + 1 }

  package mutating func next() -> MemorySegment? {
    guard left > 0 else { return nil }
    left -= 1
    defer { takesLow.toggle() }
    if takesLow {
      while low.window == windows(in: segments[low.segment]) { low = (low.segment + 1, 0) }
      defer { low.window += 1 }
      return window(low.window, of: segments[low.segment])
    }
    while high.window == 0 { high = (high.segment - 1, windows(in: segments[high.segment - 1])) }
    high.window -= 1
    return window(high.window, of: segments[high.segment])
  }

  private func window(_ index: UInt64, of segment: MemorySegment) -> MemorySegment {
    let offset = index * windowSize
    return MemorySegment(
      start: PhysicalAddress(segment.start.rawValue &+ offset), count: Swift.min(windowSize, segment.count - offset))
  }
}
