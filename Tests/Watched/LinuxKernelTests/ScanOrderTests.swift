import Memory
import Testing

@testable import KernelInfo
@testable import LinuxKernel

struct ScanOrderTests {
  private func order(_ segments: [(UInt64, UInt64)]) -> [[UInt64]] {
    let segments = segments.map { MemorySegment(start: PhysicalAddress($0.0), count: $0.1) }
    return ScanOrder(segments, windowSize: 0x4000, pageSize: 0x1000).map { [$0.start.rawValue, $0.count] }
  }

  @Test func alternatesBetweenTheEnds() {
    #expect(
      order([(0, 0x9000), (0x2_0000, 0x4000)]) == [
        [0, 0x4000], [0x2_0000, 0x4000], [0x4000, 0x4000], [0x8000, 0x1000],
      ])
  }

  @Test func leavesOutPartsOfPages() {
    #expect(order([]) == [])
    #expect(order([(0x10, 0xfff), (0x2001, 0x1ffe)]) == [])
    #expect(order([(0x10, 0x1fff)]) == [[0x1000, 0x1000]])
    #expect(
      order([(0x10, 0xfef), (0x3000, 0x1fff), (.max, 1), (.max - 0xfff, 0x1000)]) == [
        [0x3000, 0x1000], [.max - 0xfff, 0x1000],
      ])
  }
}
