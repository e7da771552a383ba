import KernelViews
import Memory
import Synchronization
import Testing

@testable import Binding
@testable import CodeViews
@testable import LinuxKernel
@testable import MachineViews
@testable import NetworkViews
@testable import StorageViews
@testable import TaskViews
@testable import WaitingViews

/// Memory of zeroes that counts what it was asked to keep at hand.
private final class CachedMemory: PhysicalMemory {
  let segments: [MemorySegment]
  private let kept = Mutex<(now: UInt64, most: UInt64)>((0, 0))

  init(_ segments: [MemorySegment]) { self.segments = segments }

  var counts: (now: UInt64, most: UInt64) { kept.withLock { $0 } }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    batch.fill { _, target in target.initializeMemory(as: UInt8.self, repeating: 0) }
  }
  func prepareCache(of segment: MemorySegment) {
    kept.withLock { $0 = ($0.now + segment.count, max($0.most, $0.now + segment.count)) }
  }
  func releaseCache(of segment: MemorySegment) { kept.withLock { $0.now -= segment.count } }
}

/// How all of a memory is read.
struct MemoryScanTests {
  private static let segments = [
    MemorySegment(start: PhysicalAddress(0x1000), count: 50 << 20),
    MemorySegment(start: PhysicalAddress(1 << 32), count: 3 << 20 + 7),
  ]

  @Test func everyByteIsReadOnceAndLittleIsKept() {
    let memory = CachedMemory(Self.segments)
    var read: [UInt64: UInt64] = [:]
    MemoryScan(memory: memory, overlap: 9).forEachPiece { start, bytes, count in
      let segment = Self.segments.first { $0.contains(start, count: count) }
      let end = segment.map { $0.start.rawValue + $0.count } ?? 0
      #expect(UInt64(bytes.count) == min(UInt64(count) + 9, end - start.rawValue))
      read[start.rawValue] = UInt64(count)
      return true
    } failed: {
      Issue.record("\($0)")
    }
    // The pieces join.
    for segment in Self.segments {
      var next = segment.start.rawValue
      while let count = read.removeValue(forKey: next) { next += count }
      #expect(next == segment.start.rawValue + segment.count)
    }
    #expect(read.isEmpty)
    #expect(memory.counts.now == 0 && memory.counts.most <= 16 << 20)
  }

  @Test func endsEarlyAndGivesBack() {
    let memory = CachedMemory(Self.segments)
    var pieces = 0
    MemoryScan(memory: memory, overlap: 0).forEachPiece { _, _, _ in
      pieces += 1
      return pieces < 20
    } failed: {
      Issue.record("\($0)")
    }
    #expect(pieces == 20 && memory.counts.now == 0)
  }
}
