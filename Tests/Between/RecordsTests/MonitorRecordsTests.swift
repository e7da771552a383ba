import Memory
import Records
import Testing

/// Records taken apart, and what two looks at a host say.
struct MonitorRecordsTests {
  private static func words(_ words: UInt32...) -> [UInt8] {
    words.flatMap { word in withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) } }
  }

  private static func result(_ records: (kind: UInt32, bytes: [UInt8])...) -> MonitorResult {
    MonitorResult(
      output: records.flatMap { words($0.kind, UInt32($0.bytes.count)) + $0.bytes }, faults: [])
  }

  /// A CPU as life has it.
  private static func cpu(
    _ number: UInt32, online: UInt32 = 1, runnable: UInt32 = 0, idle: UInt32 = 1, switches: UInt32 = 5,
    clock: UInt32 = 9
  ) -> (kind: UInt32, bytes: [UInt8]) {
    (2, words(number, online, runnable, idle, switches, 0, clock, 0))
  }

  private static func host(_ jiffies: UInt32, panic: UInt32 = .max) -> (kind: UInt32, bytes: [UInt8]) {
    (1, words(jiffies, 1, panic, 0))
  }

  private func look(_ records: (kind: UInt32, bytes: [UInt8])...) throws -> LifeSigns {
    let output = records.flatMap { Self.words($0.kind, UInt32($0.bytes.count)) + $0.bytes }
    return try #require(LifeSigns(MonitorResult(output: output, faults: [])))
  }

  @Test func twoLooksTellTheLivingFromTheDead() throws {
    let busy = Self.cpu(1, runnable: 2, idle: 0)
    let first = try look(Self.host(100), busy, Self.cpu(0))
    #expect(first.jiffies == 100 + 1 << 32)
    #expect(first.cpus.map(\.number) == [0, 1])
    #expect(first.verdict(since: first) == .still)
    // Idle CPUs need no ticks of their own, a busy one does.
    #expect(try look(Self.host(101), Self.cpu(0), busy).verdict(since: first) == .stuck(cpus: [1]))
    #expect(
      try look(Self.host(101), Self.cpu(0), Self.cpu(1, runnable: 2, idle: 0, clock: 10)).verdict(since: first)
        == .alive)
    // Just come to a task, or gone idle.
    #expect(try look(Self.host(101), Self.cpu(0, idle: 0), busy).verdict(since: first) == .stuck(cpus: [1]))
    #expect(try look(Self.host(101), Self.cpu(0), Self.cpu(1)).verdict(since: first) == .alive)
    // Without any tick: another CPU's switch is a sign of life, too.
    #expect(try look(Self.host(100), Self.cpu(0, switches: 6), busy).verdict(since: first) == .stuck(cpus: [1]))
    #expect(
      try look(Self.host(100), Self.cpu(0), Self.cpu(1, runnable: 2, idle: 0, switches: 6)).verdict(since: first)
        == .alive)
    // One that was taken offline has no task to be stuck with.
    #expect(
      try look(Self.host(101), Self.cpu(0), Self.cpu(1, online: 0, runnable: 2, idle: 0)).verdict(since: first)
        == .alive)
    #expect(try look(Self.host(101, panic: 1), Self.cpu(0), busy).verdict(since: first) == .panicked(cpu: 1))
  }

  @Test func sharesAreOfTheTimeBetweenTwoLooks() throws {
    func usage(_ cpus: [(user: UInt32, idle: UInt32)]) throws -> CPUUsage {
      let output = cpus.enumerated().flatMap { number, times in
        Self.words(1, 88, UInt32(number), 1, times.user, 0, 0, 0, 0, 0, times.idle, 0)
          + [UInt8](repeating: 0, count: 48)
      }
      return try #require(CPUUsage(MonitorResult(output: output, faults: [])))
    }
    let first = try usage([(100, 500), (7, 7), (0, 50)])
    let last = try usage([(400, 600), (7, 7), (10, 40), (1, 1)])
    let shares = last.shares(since: first)
    #expect(shares.map(\.number) == [0, 1, 2])
    func share(_ number: Int, _ name: String) -> Double? { shares[number].shares.first { $0.name == name }?.share }
    #expect(share(0, "user") == 0.75)
    #expect(share(0, "idle") == 0.25)
    #expect(share(0, "system") == 0)
    // One that is dead, and one whose idle time ran back.
    #expect(shares[1].shares.allSatisfy { $0.share == nil })
    #expect(share(2, "user") == 1)
  }

  @Test func framesAreInAscendingOrderWhateverLaneLeftThem() throws {
    func chunk(_ first: UInt32, _ runs: UInt32...) -> (kind: UInt32, bytes: [UInt8]) {
      let bytes = Self.words(first, 0, UInt32(runs.count), 0) + runs.flatMap { Self.words($0) }
      return (1, bytes + [UInt8](repeating: 0, count: bytes.count % 8))
    }
    let told = try #require(
      FrameDescriptions(Self.result(chunk(128, 64 << 16 | 7), chunk(70, 3 << 16 | 0x12, 55 << 16 | 5))))
    #expect(
      told.runs == [
        FrameRun(first: 70, count: 3, word: 0x12), FrameRun(first: 73, count: 55, word: 5),
        FrameRun(first: 128, count: 64, word: 7),
      ])
    // A run of none, more frames than a chunk has, more runs than its record holds.
    #expect(FrameDescriptions(Self.result(chunk(0, 7))) == nil)
    #expect(FrameDescriptions(Self.result(chunk(0, 60 << 16 | 1, 5 << 16 | 2))) == nil)
    #expect(FrameDescriptions(Self.result((1, Self.words(0, 0, 3, 0, 1 << 16, 1 << 16)))) == nil)
    #expect(FrameDescriptions(Self.result((1, Self.words(0, 0)))) == nil)
    #expect(FrameDescriptions(Self.result((1, Self.words(0, .max, 0, 0)))) == nil)
    #expect(FrameDescriptions(Self.result())?.runs.isEmpty == true)
  }

  @Test func otherRecordsAreNotTakenForOnesOwn() throws {
    let host = Self.host(1)
    #expect(LifeSigns(Self.result(Self.cpu(0))) == nil)
    #expect(LifeSigns(Self.result(host, host)) == nil)
    #expect(LifeSigns(Self.result(host, (2, Self.words(0, 0)))) == nil)
    #expect(ThreadList(Self.result((1, [UInt8](repeating: 0, count: 56)))) == nil)
    #expect(ThreadList(Self.result())?.threads.isEmpty == true)
    #expect(CPUUsage(Self.result((1, [UInt8](repeating: 0, count: 96)))) == nil)
    #expect(MemoryUsage(Self.result()) == nil)
    #expect(MemoryUsage(Self.result((1, [UInt8](repeating: 1, count: 27 * 8))))?["PageTables"] != nil)
    // A text that says to be longer than its record.
    let state: (kind: UInt32, bytes: [UInt8]) = (1, Self.words(.max, 0, 1, 0))
    let line = Self.words(7, 0, 8, 0, 0, 5 << 16) + Array("panic\0\0\0".utf8)
    #expect(PanicState(Self.result(state, (2, line)))?.lines.map(\.text) == [Array("panic".utf8)])
    let long = Self.words(7, 0, 8, 0, 0, 9 << 16) + Array("panic\0\0\0".utf8)
    #expect(PanicState(Self.result(state, (2, long))) == nil)
  }
}
