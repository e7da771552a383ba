import Host
import Memory

@testable import ImageStore

/// A host far away, as a store sees it: it computes digests by itself, and counts what is asked of it.
final class FarHost: PhysicalMemory {
  static let page = 4096

  struct State {
    var bytes: [UInt8]
    /// Bytes that were read.
    var read: UInt64 = 0
    /// Pages whose digests were asked for.
    var digests = 0
    /// Frames that cannot be read.
    var bad: Set<Int> = []
    /// Called after digests were computed, with the memory.
    var afterDigests: (@Sendable (inout [UInt8]) -> Void)?
    /// Called before the n-th question for digests is answered, from 0 on.
    var beforeDigests: (@Sendable (Int, inout [UInt8]) -> Void)?
    var asked = 0
  }

  let state: Locked<State>
  let segments: [MemorySegment]
  let isNear: Bool

  /// Memory of those segments, whose bytes are each at its address.
  init(_ bytes: [UInt8], _ segments: [(start: Int, count: Int)]? = nil, isNear: Bool = false) {
    state = Locked(State(bytes: bytes))
    self.segments = (segments ?? [(0, bytes.count)]).map {
      MemorySegment(start: PhysicalAddress(UInt64($0.start)), count: UInt64($0.count))
    }
    self.isNear = isNear
  }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    state.withLock { state in
      batch.fill { (address, target) throws(MemoryFault) in
        try Self.check(address, target.count, segments, state.bad)
        let start = Int(address.rawValue)
        state.bytes.withUnsafeBytes { target.copyMemory(from: .init(rebasing: $0[start..<start + target.count])) }
      }
      state.read += UInt64(batch.byteCount)
    }
  }

  private static func check(
    _ address: PhysicalAddress, _ count: Int, _ segments: [MemorySegment], _ bad: Set<Int>
  ) throws(MemoryFault) {
    let frames = Int(address.rawValue) / page...(Int(address.rawValue) + count - 1) / page
    guard segments.contains(where: { $0.contains(address, count: count) }), !bad.contains(where: frames.contains) else {
      throw MemoryFault(.physical(address), .absent)
    }
  }

  func digests(ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed) throws(MemoryFault) -> [[MemoryDigest?]] {
    state.withLock { state in
      state.beforeDigests?(state.asked, &state.bytes)
      state.asked += 1
    }
    return ranges.map { digestsOfPages(in: $0, seed) }
  }

  private func digestsOfPages(in range: MemorySegment, _ seed: MemoryDigest.Seed) -> [MemoryDigest?] {
    state.withLock { state in
      let end = Int(range.start.rawValue + range.count)
      let digests = stride(from: Int(range.start.rawValue), to: end, by: Self.page).map { start -> MemoryDigest? in
        let page = start..<min(start + Self.page, end)
        guard !state.bad.contains(where: (page.lowerBound / Self.page...(page.upperBound - 1) / Self.page).contains)
        else {
          return nil
        }
        return state.bytes.withUnsafeBytes { MemoryDigest(.init(rebasing: $0[page]), seed) }
      }
      state.digests += digests.count
      if let change = state.afterDigests {
        state.afterDigests = nil
        change(&state.bytes)
      }
      return digests
    }
  }

  var bytes: [UInt8] { state.withLock { $0.bytes } }

  /// Changes pages all over the memory, so many of each hundred.
  func change(percent: Int, seed: UInt64) {
    state.withLock { state in
      var random = Random(state: seed)
      let count = state.bytes.count / Self.page
      for _ in 0..<count * percent / 100 {
        let page = Int(random.next() % UInt64(count))
        for index in 0..<64 { state.bytes[page * Self.page + index * 64] = UInt8(truncatingIfNeeded: random.next()) }
      }
    }
  }
}

/// Numbers that are the same in each run.
struct Random: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    // SplitMix64.
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
    return word ^ word >> 31
  }

  /// Pages no two of which are alike and that cannot be compressed, but each eighth one of zeros.
  static func pages(_ count: Int, seed: UInt64) -> [UInt8] {
    var words = [UInt64](repeating: 0, count: count * 512)
    words.withUnsafeMutableBufferPointer { words in
      var (state, index) = (seed, 0)
      while index < words.count {
        // In place, without a call: tests are not optimized.
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        words[index] = state ^ state >> 29
        index += index % 4096 == 3583 ? 513 : 1
      }
    }
    return words.withUnsafeBytes { [UInt8]($0) }
  }
}
