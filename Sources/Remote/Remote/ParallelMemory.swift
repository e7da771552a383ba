import Host
public import Memory
import Synchronization

/// A host's memory read by several sessions at once, as many as pay.
///
/// Long reads are cut and spread over them, each by a thread of its own: over TCP that is as many connections, whose bytes are
/// copied, checked and opened by as many processors here and there. It begins with one session, and has twice as many as long as
/// that makes it faster by more than a tenth; what the last step opened without that is closed again. Short reads and digests go
/// through the first.
public final class ParallelMemory: PhysicalMemory {
  public let first: any PhysicalMemory
  private let open: @Sendable () throws -> any PhysicalMemory
  private let clock: @Sendable () -> UInt64
  private let state: Locked<State>

  private struct State {
    /// All but the first.
    var others: [any PhysicalMemory] = []
    /// Whether there will be no more or fewer.
    var isSettled = false
    /// Bytes a nanosecond with as many as there were before.
    var rateBefore = 0.0
    /// What was read by as many as there are, and how long that took.
    var bytes: UInt64 = 0
    var nanoseconds: UInt64 = 0
  }

  /// Sessions to one host at most.
  public static let most = 8
  /// Less is not worth a thread of its own, and says nothing of the rate.
  private static let leastShare = 128 << 10, leastMeasured = 512 << 10
  /// A number of sessions is judged by what was read in so long.
  private static let patience: UInt64 = 300_000_000
  private static let worthwhile = 1.1
  private static let page = 4096

  /// - Parameters:
  ///   - first: the memory through the first session.
  ///   - count: how many sessions there are to be, ``most`` at most; nil for as many as pay.
  ///   - open: the same memory through another session; where it throws, there are no more.
  public convenience init(
    _ first: any PhysicalMemory, count: Int? = nil, open: @escaping @Sendable () throws -> any PhysicalMemory
  ) {
    self.init(first, count: count, clock: SystemCall.monotonicNanoseconds, open: open)
  }

  /// With the clock, in nanoseconds, by which reading is judged.
  init(
    _ first: any PhysicalMemory, count: Int?, clock: @escaping @Sendable () -> UInt64,
    open: @escaping @Sendable () throws -> any PhysicalMemory
  ) {
    (self.first, self.open, self.clock) = (first, open, clock)
    state = Locked(State(isSettled: count != nil))
    if let count { grow(to: min(count, Self.most)) }
  }

  public var segments: [MemorySegment] { first.segments }
  public var isNear: Bool { first.isNear }
  public var movedFrames: MovedFrames? { first.movedFrames }

  /// How many sessions there are.
  public var count: Int { state.withLock { 1 + $0.others.count } }

  public func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    let others = state.withLock { $0.others }
    let size = batch.byteCount
    let start = clock()
    if others.isEmpty || size < Self.leastShare * (1 + others.count) {
      first.read(&batch)
    } else {
      spread(&batch, over: [first] + others)
    }
    if size >= Self.leastMeasured, batch.faults.isEmpty {
      measure(UInt64(size), clock() - start)
    }
  }

  public func digests(of ranges: [MemorySegment]) throws(MemoryFault) -> [MemoryDigest] {
    try first.digests(of: ranges)
  }

  public func digests(
    ofPagesIn ranges: [MemorySegment], _ seed: MemoryDigest.Seed
  ) throws(MemoryFault) -> [[MemoryDigest?]] { try first.digests(ofPagesIn: ranges, seed) }

  // MARK: How many

  /// Judges the number of sessions once enough was read by them.
  private func measure(_ bytes: UInt64, _ nanoseconds: UInt64) {
    let next = state.withLock { state -> Int? in
      guard !state.isSettled else { return nil }
      state.bytes += bytes
      state.nanoseconds += nanoseconds
      guard state.nanoseconds >= Self.patience else { return nil }
      let rate = Double(state.bytes) / Double(state.nanoseconds)
      let count = 1 + state.others.count
      (state.bytes, state.nanoseconds) = (0, 0)
      guard rate > state.rateBefore * Self.worthwhile else {
        state.isSettled = true
        state.others.removeLast(count - count / 2)
        return nil
      }
      state.rateBefore = rate
      if count == Self.most { state.isSettled = true }
      return state.isSettled ? nil : 2 * count
    }
    if let next { grow(to: min(next, Self.most)) }
  }

  /// Opens sessions until there are so many, or one cannot be had.
  private func grow(to count: Int) {
    while self.count < count {
      guard let another = try? open(), another.segments == segments else {
        // As many as there are have to do.
        return state.withLock { $0.isSettled = true }
      }
      state.withLock { $0.others.append(another) }
    }
  }

  // MARK: Spreading

  /// A part of an entry.
  private struct Piece {
    var entry: Int
    var address: PhysicalAddress
    /// Where it lies in the batch's bytes.
    var offset: Int
    var count: Int
  }

  /// Where threads put what they read, each in ranges of its own; valid until all are joined.
  private struct Target: @unchecked Sendable {
    let base: UnsafeMutableRawBufferPointer

    func put(_ bytes: borrowing [UInt8], at offset: Int) {
      bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: base[offset...]).copyMemory(from: $0) }
    }
  }

  private func spread(_ batch: inout ReadBatch<PhysicalAddress>, over streams: [any PhysicalMemory]) {
    let shares = Self.cut(batch, into: streams.count)
    batch.fillAll { buffer in
      let target = Target(base: buffer)
      let faults = Locked([Int: (offset: Int, fault: MemoryFault)]())
      let work: @Sendable (Int) -> Void = { number in
        guard let start = shares[number].first?.offset else { return }
        var own = ReadBatch<PhysicalAddress>()
        for piece in shares[number] { own.add(piece.address, count: piece.count) }
        streams[number].read(&own)
        // A share's pieces lie one behind the other.
        target.put(own.bytes, at: start)
        guard !own.faults.isEmpty else { return }
        faults.withLock { faults in
          for (index, fault) in own.faults {
            let piece = shares[number][index]
            if faults[piece.entry].map({ piece.offset < $0.offset }) ?? true {
              faults[piece.entry] = (piece.offset, fault)
            }
          }
        }
      }
      let threads = shares.indices.dropFirst().map { number in
        let thread = try? DedicatedThread(name: "grass-stream") { work(number) }
        // Without a thread it only takes longer.
        if thread == nil { work(number) }
        return thread
      }
      work(0)
      for thread in threads { thread?.join() }
      return faults.withLock { $0.mapValues(\.fault) }
    }
  }

  /// A batch in `count` shares of about the same length, none of which cuts a page.
  private static func cut(_ batch: borrowing ReadBatch<PhysicalAddress>, into count: Int) -> [[Piece]] {
    let share = max(page, batch.byteCount / count)
    var shares: [[Piece]] = [[]]
    var room = share
    for (index, entry) in batch.entries.enumerated() where entry.count > 0 {
      var done = 0
      while done < entry.count {
        let address = entry.address + done
        let left = page - Int(address.rawValue % UInt64(page))
        if room < left, shares.count < count {
          shares.append([])
          room = share
        }
        // As many whole pages as there is room for; in the last share whatever is left.
        let most = shares.count == count ? entry.count - done : left + (max(0, room - left) / page) * page
        let length = min(entry.count - done, most)
        shares[shares.count - 1].append(
          Piece(entry: index, address: address, offset: entry.offset + done, count: length))
        room -= length
        done += length
      }
    }
    return shares
  }
}
