import CMailbox
import CRegion
import Devices
import Region
import Testing

/// Drives the device program step by step with requests of every wrong shape.
struct MonitorTests {
  private static func gather(
    _ ranges: [(address: UInt64, root: UInt64, length: UInt32, flags: UInt32)],
    format: UInt32 = GRASS_PAGES_X86_64_4.rawValue, count: UInt32? = nil
  ) -> [UInt8] {
    words(3, count ?? UInt32(ranges.count), format, 0)
      + ranges.flatMap { range in
        withUnsafeBytes(of: range.address) { [UInt8]($0) } + withUnsafeBytes(of: range.root) { [UInt8]($0) }
          + words(range.length, range.flags)
      }
  }

  private static func digests(
    _ ranges: [(address: UInt64, root: UInt64, length: UInt32, flags: UInt32)], kind: UInt32 = 2, unit: UInt32 = 0,
    seed: (UInt64, UInt64) = (0, 0), format: UInt32 = 0, count: UInt32? = nil
  ) -> [UInt8] {
    words(6, count ?? UInt32(ranges.count), format, 0) + words(kind, unit)
      + withUnsafeBytes(of: seed) { [UInt8]($0) } + gather(ranges).dropFirst(16)
  }

  private static let heartbeat = words(1, 0, 0, 0)

  @Test func answersRequestsOfEveryWrongShapeWithAnErrorAndGoesOn() throws {
    let bench = try Bench()
    let cases: [(String, [UInt8], grass_status)] = [
      ("empty", [], GRASS_BAD_LENGTH),
      ("short", Array(Self.heartbeat.dropLast()), GRASS_BAD_LENGTH),
      ("long", Self.heartbeat + [0], GRASS_BAD_LENGTH),
      ("no operation", words(0, 0, 0, 0), GRASS_BAD_OPERATION),
      ("unknown operation", words(.max, 0, 0, 0), GRASS_BAD_OPERATION),
      ("more ranges than sent", Self.gather([(0, 0, 1, 0)], count: 2), GRASS_BAD_LENGTH),
      // 0x0aaaaaab * 24 is 8 modulo 2^32.
      (
        "a count that overflows", Self.gather([], count: 0x0aaa_aaab) + [UInt8](repeating: 0, count: 8),
        GRASS_BAD_LENGTH
      ),
      ("the greatest count", Self.gather([], count: .max), GRASS_BAD_LENGTH),
      ("one range too long", Self.gather([(0, 0, 8192, 0)]), GRASS_TOO_LARGE),
      ("a total that overflows", Self.gather([(0, 0, .max, 0), (0, 0, .max, 0), (0, 0, 2, 0)]), GRASS_TOO_LARGE),
      ("unknown flags", Self.gather([(0, 0, 1, 2)]), GRASS_BAD_RANGE),
      ("a root of what is physical", Self.gather([(0, 1, 1, 0)]), GRASS_BAD_RANGE),
      ("no such format", Self.gather([(0, 0, 1, 1)], format: 3), GRASS_BAD_FORMAT),
      ("another machine's format", Self.gather([(0, 0, 1, 1)], format: 17), GRASS_BAD_FORMAT),
      ("no format", Self.gather([(0, 0, 1, 1)], format: 0), GRASS_BAD_FORMAT),
      ("the greatest format", Self.gather([(0, 0, 1, 1)], format: .max), GRASS_BAD_FORMAT),
      ("a false format that nothing needs", Self.gather([(0x10_0000, 0, 1, 0)], format: 3), GRASS_BAD_FORMAT),
      ("a heartbeat that counts", words(1, 1, 0, 0), GRASS_BAD_FIELD),
      ("a heartbeat with a format", words(1, 0, 1, 0), GRASS_BAD_FIELD),
      ("a heartbeat with more", words(1, 0, 0, 1), GRASS_BAD_FIELD),
      ("a question with more", words(2, 0, 0, 1), GRASS_BAD_FIELD),
      ("a question that counts", words(5, 1, 0, 0), GRASS_BAD_FIELD),
      ("a gather with more", words(3, 0, 0, 1), GRASS_BAD_FIELD),
      ("digests without a kind", words(6, 0, 0, 0), GRASS_BAD_LENGTH),
      ("digests of no kind", Self.digests([], kind: 0), GRASS_BAD_FIELD),
      ("digests of a kind that is reserved", Self.digests([], kind: 1), GRASS_BAD_FIELD),
      ("digests of an odd unit", Self.digests([], unit: 24), GRASS_BAD_FIELD),
      ("digests of half words", Self.digests([], unit: 4), GRASS_BAD_FIELD),
      ("digests with a format", Self.digests([], format: 1), GRASS_BAD_FIELD),
      ("fewer digests than announced", Self.digests([(0, 0, 8, 0)], count: 2), GRASS_BAD_LENGTH),
      ("digests that overflow", Self.digests([], count: .max), GRASS_BAD_LENGTH),
      ("digests of what is virtual", Self.digests([(0, 0, 8, 1)]), GRASS_BAD_RANGE),
      ("digests with a root", Self.digests([(0, 8, 8, 0)]), GRASS_BAD_RANGE),
      ("digests of too much", Self.digests([(0, 0, 1 << 20, 0), (0, 0, 1, 0)]), GRASS_TOO_LARGE),
      ("digests of a total that overflows", Self.digests([(0, 0, .max, 0), (0, 0, .max, 0)]), GRASS_TOO_LARGE),
      ("too many digests", Self.digests([(0, 0, 4096, 0)], unit: 8), GRASS_TOO_LARGE),
      ("a stream", words(7, 0, 0, 0), GRASS_BAD_OPERATION),
    ]
    for (name, payload, expected) in cases {
      #expect(bench.status(payload) == expected.rawValue, "\(name)")
      #expect(bench.status(Self.heartbeat) == GRASS_OK.rawValue, "after: \(name)")
    }
    #expect(bench.mailbox.pointee.refused == cases.count)
  }

  @Test func answersDamagedRecordsOnlyWhereTheyAreComplete() throws {
    let bench = try Bench()
    #expect(
      bench.status(Self.heartbeat) { $0.storeBytes(of: UInt64(4096), toByteOffset: 8, as: UInt64.self) }
        == GRASS_BAD_LENGTH.rawValue)
    #expect(
      bench.status(Self.heartbeat) { $0.storeBytes(of: UInt64.max, toByteOffset: 8, as: UInt64.self) }
        == GRASS_BAD_LENGTH.rawValue)
    #expect(
      bench.status(Self.heartbeat) { $0.storeBytes(of: 2, toByteOffset: 32, as: UInt8.self) }
        == GRASS_BAD_CHECK.rawValue)
    #expect(
      bench.status(Self.heartbeat) { $0.storeBytes(of: 7, toByteOffset: 16, as: UInt64.self) }
        == GRASS_BAD_CHECK.rawValue)
    #expect(bench.status(Self.heartbeat) { $0.storeBytes(of: 7, toByteOffset: 48, as: UInt64.self) } == nil)
    #expect(bench.mailbox.pointee.torn == 5)
    #expect(bench.status(Self.heartbeat) == GRASS_OK.rawValue)
  }

  /// A sequence number's top bits are its epoch, of which there is only the one without keys.
  @Test func epochsWithoutKeysAreRefused() throws {
    let bench = try Bench()
    for epoch: UInt64 in [1, 2, 0xffff] {
      bench.sequence = epoch << 48 | 7
      #expect(bench.status(Self.heartbeat) == GRASS_BAD_EPOCH.rawValue)
    }
    bench.sequence = 1 << 48 - 2
    #expect(bench.status(Self.heartbeat) == GRASS_OK.rawValue)
  }

  @Test func saysWhyARangeFailed() throws {
    let bench = try Bench()
    // A table at 0x100000 whose every entry is itself.
    for index in 0..<512 { bench.memory.storeBytes(of: 0x10_0003, toByteOffset: index * 8, as: UInt64.self) }
    let ranges: [(address: UInt64, root: UInt64, length: UInt32, flags: UInt32)] = [
      (0x10_0000, 0, 8, 0), (0x10_fff9, 0, 8, 0), (0xf_ffff, 0, 2, 0), (.max, 0, 8, 0), (0x10_8000, 0, 0, 0),
      (0, 0x10_0000, 8, 1), (0, 0x9000_0000, 8, 1), (0, .max, 8, 1), (1 << 47, 0x10_0000, 8, 1),
      (0, 0x10_8000, 8, 1), (.max - 3, 0x10_0000, 8, 1),
    ]
    let answer = try #require(bench.ask(Self.gather(ranges)))
    let faults = ranges.indices.map { index in
      answer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16 + index * 24, as: UInt32.self) }
    }
    // 0xaaaaaaaaaaaaaaaa is not present; a range that wraps goes on at 0.
    #expect(faults == [0, 1, 1, 1, 0, 0, 4, 4, 2, 3, 0])
    #expect(answer.count == 16 + ranges.count * 24 + 10 * 8 - 6)
    #expect(answer[(16 + ranges.count * 24)...].prefix(8).elementsEqual([3, 0, 0x10, 0, 0, 0, 0, 0]))
  }

  @Test func digestsPartsAndSaysWhichRangeFailed() throws {
    let bench = try Bench()
    for index in 0..<8192 {
      bench.memory.storeBytes(of: UInt64(index) &* 0x9e37_79b9_7f4a_7c15, toByteOffset: index * 8, as: UInt64.self)
    }
    let ranges: [(address: UInt64, root: UInt64, length: UInt32, flags: UInt32)] = [
      (0x10_0003, 0, 131, 0), (0x10_ffff, 0, 2, 0), (0x10_0000, 0, 0, 0), (.max, 0, 64, 0), (0x10_0040, 0, 64, 0),
    ]
    let seed: (UInt64, UInt64) = (0x1234_5678_9abc_def0, 0xfeed_beef)
    func digest(_ range: Range<Int>) -> [UInt64] {
      var (low, high): (UInt64, UInt64) = (0, 0)
      for (number, start) in stride(from: range.lowerBound, to: range.upperBound, by: 8).enumerated() {
        var word: UInt64 = 0
        for index in start..<min(start + 8, range.upperBound) {
          word |= UInt64(bench.memory.load(fromByteOffset: index, as: UInt8.self)) << UInt64(8 * (index - start))
        }
        var x = (word ^ seed.1) &+ seed.0 &+ UInt64(number + 1) &* 0x9e37_79b9_7f4a_7c15
        x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
        x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
        x ^= x >> 31
        low &+= x
        high &+= x &* (2 &* UInt64(number) &+ 1)
      }
      return [low, high]
    }
    // Of 131 bytes, two units and three bytes; of the failed ranges, what would be theirs.
    let expected = digest(3..<67) + digest(67..<131) + digest(131..<134) + [0, 0, 0, 0] + digest(64..<128)
    let answer = try #require(bench.ask(Self.digests(ranges, unit: 64, seed: seed)))
    let faults = ranges.indices.map { index in
      answer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16 + index * 24, as: UInt32.self) }
    }
    #expect(faults == [0, 1, 0, 1, 0])
    let digests = Array(answer.dropFirst(16 + ranges.count * 24))
    #expect(
      stride(from: 0, to: digests.count, by: 8).map { offset in
        digests.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
      } == expected)
    let whole = try #require(bench.ask(Self.digests([(0x10_0000, 0, 0x1_0000, 0)], seed: seed)))
    #expect(whole.suffix(16).elementsEqual(digest(0..<0x1_0000).flatMap { withUnsafeBytes(of: $0) { [UInt8]($0) } }))
  }

  @Test func aProcessorPollsNoOtherDevicesMemory() throws {
    final class Elsewhere: RegionMemory {
      let address: UInt64 = 1 << 40
      let count = 256 << 20
      let dmaBuffer: Int32? = nil
      func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError) {}
      func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError) {}
    }
    let region = try SharedRegion(layout: RegionLayout(), in: Elsewhere())
    let error = #expect(throws: DeviceError.self) { try CPUDevice(region: region, segments: [], owner: nil) }
    #expect(error?.reason == .regionElsewhere)
  }

  @Test func ignoresWhatLayInTheSlotsBefore() throws {
    let bench = try Bench()
    #expect(grass_mailbox_step(bench.mailbox, 5) == 0)
    #expect(bench.status(Self.heartbeat) == GRASS_OK.rawValue)
    var header = bench.region.layout.header
    #expect(grass_mailbox_start(bench.mailbox, bench.region.base, &header, bench.segment, 1, bench.scratch, 1))
    #expect(grass_mailbox_step(bench.mailbox, 5) == 0)
    header.slot_count = 0
    #expect(!grass_mailbox_start(bench.mailbox, bench.region.base, &header, bench.segment, 1, bench.scratch, 1))
  }

  @Test("an answer that is added up while it is gathered has the check of its bytes", arguments: 0..<24)
  func gathersOfEveryShape(seed: UInt64) throws {
    let bench = try Bench(responseSize: 128 * 1024)
    for index in 0..<8192 {
      bench.memory.storeBytes(of: UInt64(index) &* 0x9e37_79b9_7f4a_7c15, toByteOffset: index * 8, as: UInt64.self)
    }
    var state = seed &* 0x2545_f491_4f6c_dd1d &+ 1
    func random(_ limit: UInt64) -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state >> 33) % limit
    }
    // Short and long ones, whole lines and odd bytes, and some that reach past the end of what is there.
    let ranges = (0..<12).map { _ -> (address: UInt64, root: UInt64, length: UInt32, flags: UInt32) in
      let length = [random(9), 64 * random(4), 4096, random(20000), random(9000)][Int(random(5))]
      let isAbsent = random(6) == 0
      return (isAbsent ? 0x11_0000 - length / 2 : 0x10_0000 + random(65537 - length), 0, UInt32(length), 0)
    }
    let answer = try #require(bench.ask(Self.gather(ranges)), "seed \(seed): the check does not hold")
    var at = 16 + ranges.count * 24
    for (index, range) in ranges.enumerated() {
      let start = Int(range.address) - 0x10_0000
      let isThere = start + Int(range.length) <= 65536
      #expect(
        answer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 16 + index * 24, as: UInt32.self) == 0 } == isThere)
      let expected = (0..<Int(range.length)).map {
        isThere ? bench.memory.load(fromByteOffset: start + $0, as: UInt8.self) : 0
      }
      #expect([UInt8](answer[at..<at + Int(range.length)]) == expected)
      at += Int(range.length)
    }
    #expect(answer.count == at)
  }
}
