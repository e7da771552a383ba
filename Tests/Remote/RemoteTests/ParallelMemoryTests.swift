import Host
import Memory
import Testing

@testable import Remote

/// Memory read by several sessions: how many there come to be, and that what is read is the same.
struct ParallelMemoryTests {
  private static let page = 4096

  /// Time that passes as sessions hand out bytes: each so many in a nanosecond, or all of them together.
  private final class Time: Sendable {
    private let isShared: Bool
    private let nanoseconds = Locked<UInt64>(0)
    let sessions = Locked(1)

    init(isShared: Bool) { self.isShared = isShared }

    var now: UInt64 { nanoseconds.withLock { $0 } }

    /// 25 MB/s.
    func pass(forBytes count: Int) {
      let share = isShared ? 1 : sessions.withLock { $0 }
      nanoseconds.withLock { $0 += UInt64(count * 40 / share) }
    }
  }

  /// A memory that takes its time.
  private final class Slow: PhysicalMemory {
    static let size = 8 << 20
    private let time: Time

    init(_ time: Time) { self.time = time }

    var segments: [MemorySegment] { [MemorySegment(start: PhysicalAddress(0x1000), count: UInt64(Self.size))] }

    static func byte(_ address: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: address &* 31 ^ address >> 12) }

    func read(_ batch: inout ReadBatch<PhysicalAddress>) {
      time.pass(forBytes: batch.byteCount)
      batch.fill { (address, target) throws(MemoryFault) in
        let segment = segments[0]
        guard segment.contains(address, count: target.count) else {
          throw MemoryFault(.physical(address), .absent)
        }
        // A page that cannot be read.
        let pages = address.rawValue >> 12...(address.rawValue + UInt64(target.count) - 1) >> 12
        if pages.contains(0x123) { throw MemoryFault(.physical(PhysicalAddress(0x12_3000)), .absent) }
        // A few bytes of each page: tests are not optimized.
        target.initializeMemory(as: UInt8.self, repeating: 0)
        let first = (1024 - Int(address.rawValue % 1024)) % 1024
        for index in stride(from: first, to: target.count, by: 1024) {
          target[index] = Self.byte(address.rawValue + UInt64(index))
        }
      }
    }
  }

  private static func memory(isShared: Bool, count: Int? = nil, most: Int = .max) -> ParallelMemory {
    let time = Time(isShared: isShared)
    return ParallelMemory(Slow(time), count: count, clock: { time.now }) {
      guard time.sessions.withLock({ $0 < most }) else {
        throw MemoryFault(.offset(0), .sourceFailed("no slot is free"))
      }
      time.sessions.withLock { $0 += 1 }
      return Slow(time)
    }
  }

  private static func readAll(_ memory: ParallelMemory) throws {
    // As an acquisition does it: some MiB at a time, without the page that cannot be read.
    for _ in 0..<6 { _ = try memory.read(PhysicalAddress(0x20_0000), count: 4 << 20) }
  }

  @Test func growsAsLongAsThatPays() throws {
    let memory = Self.memory(isShared: false)
    #expect(memory.count == 1)
    for _ in 0..<20 { try Self.readAll(memory) }
    #expect(memory.count == ParallelMemory.most, "each session is as fast as the first")
  }

  @Test func staysWhereItDoesNotPay() throws {
    let memory = Self.memory(isShared: true)
    for _ in 0..<6 { try Self.readAll(memory) }
    #expect(memory.count == 1, "one way for all of them")
  }

  @Test func hasAsManyAsCanBeHad() throws {
    let memory = Self.memory(isShared: false, most: 3)
    for _ in 0..<10 { try Self.readAll(memory) }
    #expect(memory.count == 3)
    #expect(Self.memory(isShared: true, count: 4).count == 4, "as many as were asked for, whether they pay or not")
    #expect(Self.memory(isShared: true, count: 4, most: 2).count == 2)
  }

  /// Batches of many lengths, cut and put together, with what cannot be read.
  @Test(arguments: [1, 2, 3, 8]) func readsWhatOneReads(_ count: Int) {
    let memory = Self.memory(isShared: false, count: count)
    var entries: [(PhysicalAddress, Int)] = [(PhysicalAddress(0x1000), 1), (PhysicalAddress(0x2ffe), 5)]
    for index in 0..<40 {
      entries.append((PhysicalAddress(0x20_0000 + UInt64(index) * 0x2_0001), 20_000 + index * 3001))
    }
    entries.append((PhysicalAddress(0x12_0000), 0x8000))
    entries.append((PhysicalAddress(0x30_0010), 3 << 20))
    entries.append((PhysicalAddress(0x80_0000), 0x2000))
    entries.append((PhysicalAddress(0x12_2fff), 1))
    entries.append((PhysicalAddress(0x5000), 0))
    var (one, several) = (ReadBatch<PhysicalAddress>(), ReadBatch<PhysicalAddress>())
    for (address, size) in entries {
      one.add(address, count: size)
      several.add(address, count: size)
    }
    memory.first.read(&one)
    memory.read(&several)
    #expect(several.bytes == one.bytes)
    #expect(several.faults.keys.sorted() == one.faults.keys.sorted() && several.faults.count == 2)
    #expect(several.faults[42]?.place == one.faults[42]?.place)
  }
}
