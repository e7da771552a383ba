import CMailbox
import CRegion
import Records
import Region
import Testing

/// Drives what keeps a device's findings tick by tick, and reads what it wrote as a remote host does.
struct FindingKeeperTests {
  /// A keeper over a region with a log of few entries.
  private final class Bench {
    let region: SharedRegion
    let keeper: UnsafeMutablePointer<grass_keeper>
    let kept: UnsafeMutablePointer<grass_kept>
    let summary: UnsafeMutablePointer<grass_summary>
    var now: UInt64 = 1_000_000_000

    init(findings: Int = 8) throws {
      region = try SharedRegion(
        layout: RegionLayout(slots: 2, requestSize: 4096, responseSize: 8192, findings: findings))
      keeper = .allocate(capacity: 1)
      keeper.initialize(to: grass_keeper())
      kept = .allocate(capacity: findings / 4)
      kept.initialize(repeating: grass_kept(), count: findings / 4)
      summary = .allocate(capacity: 1)
      summary.initialize(to: grass_summary())
      start()
    }

    func start() {
      var header = region.layout.header
      grass_keeper_start(keeper, region.base.assumingMemoryBound(to: UInt8.self), &header, kept, summary)
    }

    deinit {
      keeper.deallocate()
      kept.deallocate()
      summary.deallocate()
    }

    func tick(
      _ sightings: [grass_sighting], late: Bool = false, blind: UInt64 = 0, boot: UInt8 = 1, guest: UInt64? = nil
    ) {
      now += 1_000_000_000
      grass_keeper_begin(keeper, grass_moment(device: now, utc: now + 5), late)
      var clock = grass_host_clock()
      clock.now = guest ?? now
      clock.boot = bootID(boot)
      grass_keeper_take_clock(keeper, &clock)
      for var sighting in sightings { grass_keeper_sight(keeper, &sighting) }
      grass_keeper_end(keeper, blind, 0)
    }

    func record(at offset: UInt64) -> FindingRecord? {
      FindingRecord(UnsafeRawBufferPointer(start: region.base + Int(offset), count: FindingRecord.size))
    }

    var log: [FindingRecord] {
      var header = region.layout.header
      return (0..<UInt64(header.finding_count)).compactMap { index in
        record(at: grass_finding_offset(&header, index + 1))
      }.sorted { $0.number < $1.number }
    }

    var open: [FindingRecord] {
      let header = region.layout.header
      return (0..<UInt64(header.open_count)).compactMap {
        record(at: header.open_offset + $0 * UInt64(header.open_size))
      }
    }
  }

  private func sighting(
    _ detector: grass_detector, task: UInt64 = 7, looks: UInt8 = 2, persists: UInt64 = 0, flags: UInt32 = 0,
    severity: UInt8 = 3
  ) -> grass_sighting {
    var sighting = grass_sighting()
    sighting.detector = detector.rawValue
    sighting.kind = 1
    sighting.severity = severity
    sighting.confidence = 2
    sighting.looks = looks
    sighting.persists = persists
    sighting.flags = flags
    sighting.subjects.0.kind = GRASS_SUBJECT_TASK.rawValue
    sighting.subjects.0.values.0 = task
    sighting.evidence.0 = grass_evidence(kind: 1, number: 0, address: 0x1000, seen: 5, expected: 6)
    return sighting
  }

  @Test func whatLastsIsBelievedAfterTwoLooksAndClosedAfterThreeWithout() throws {
    let bench = try Bench()
    bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK)])
    #expect(bench.log.isEmpty && bench.open.isEmpty && bench.summary.pointee.open == 0)
    bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK)])
    let first = try #require(bench.log.first)
    #expect(bench.log.count == 1 && bench.open == [first])
    #expect(first.number == 1 && first.previous == 0 && UInt32(first.state) == GRASS_FINDING_CONFIRMED.rawValue)
    #expect(first.count == 2 && first.last.device - first.first.device == 1_000_000_000)
    #expect(first.subjects.first?.values.first == 7 && first.evidence.first?.seen == 5)
    #expect(bench.summary.pointee.open == 1 && bench.summary.pointee.worst == 3)
    #expect(bench.summary.pointee.newest_finding == 1 && bench.summary.pointee.tick == 2)
    // A look that misses it is not yet its end.
    for _ in 0..<2 { bench.tick([]) }
    bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK)])
    #expect(bench.log.count == 1 && bench.open.count == 1)
    for _ in 0..<3 { bench.tick([]) }
    #expect(bench.log.map(\.state) == [2, 3] && bench.open.isEmpty && bench.summary.pointee.open == 0)
    #expect(bench.log.last?.previous == 1 && bench.log.last?.identity == first.identity)
  }

  @Test func whatOneLookProvesStaysUntilTheNextBoot() throws {
    let bench = try Bench()
    bench.tick([sighting(GRASS_DETECTOR_PANIC, looks: 1, flags: UInt32(GRASS_SIGHTING_STAYS))])
    #expect(bench.open.count == 1)
    for _ in 0..<5 { bench.tick([]) }
    #expect(bench.open.count == 1 && bench.log.count == 1)
    bench.tick([], boot: 2)
    #expect(bench.open.isEmpty && bench.log.map(\.state) == [2, 3])
    #expect(bench.log.last?.boot.first == 1, "the end belongs to the boot that it was of")
    // A kernel whose boot has no id yet: its clock starts anew.
    bench.tick(
      [sighting(GRASS_DETECTOR_PANIC, looks: 1, flags: UInt32(GRASS_SIGHTING_STAYS))], boot: 2, guest: 900_000_000_000)
    bench.tick([], boot: 2, guest: 1_000_000_000)
    #expect(bench.open.isEmpty)
  }

  @Test func differentThingsOfOneNameAreNotOneThatLasts() throws {
    let bench = try Bench()
    for switches: UInt64 in 0..<6 { bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK, persists: switches)]) }
    #expect(bench.log.isEmpty)
    bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK, persists: 5)])
    #expect(bench.log.count == 1)
  }

  @Test func lateTicksCountForNothingThatLasts() throws {
    let bench = try Bench()
    for _ in 0..<4 { bench.tick([sighting(GRASS_DETECTOR_STOPPED)], late: true) }
    #expect(bench.log.isEmpty)
    bench.tick([sighting(GRASS_DETECTOR_PANIC, looks: 1)], late: true)
    #expect(bench.log.count == 1, "an invariant is one however late")
  }

  @Test func whoCouldNotLookClosesNothing() throws {
    let bench = try Bench()
    for _ in 0..<2 { bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK)]) }
    for _ in 0..<9 { bench.tick([], blind: 1 << UInt64(GRASS_DETECTOR_HUNG_TASK.rawValue)) }
    #expect(bench.open.count == 1 && bench.log.count == 1)
  }

  @Test func openFindingsAreNotEvictedAndTheLogGoesRound() throws {
    let bench = try Bench(findings: 8)
    // Two places; the third finding has none.
    for _ in 0..<2 { bench.tick((1...3).map { sighting(GRASS_DETECTOR_HUNG_TASK, task: $0) }) }
    #expect(bench.open.map { $0.subjects[0].values[0] } == [1, 2] && bench.keeper.pointee.dropped == 2)
    for number in 0..<20 {
      bench.tick([
        sighting(GRASS_DETECTOR_HUNG_TASK, task: 1, severity: number % 2 == 0 ? 4 : 3),
        sighting(GRASS_DETECTOR_HUNG_TASK, task: 2),
      ])
    }
    #expect(bench.open.count == 2)
    let numbers = bench.log.map(\.number)
    #expect(numbers == Array(15...22))
    // Another device takes over the region: numbers go on, and it has yet to see what is open.
    bench.kept.update(repeating: grass_kept(), count: 2)
    bench.start()
    #expect(bench.summary.pointee.newest_finding == 22 && bench.open.isEmpty && bench.log.map(\.number) == numbers)
  }

  private func handed(
    _ identity: UInt64 = 0xbeef, severity: UInt8 = 3, state: grass_finding_state = GRASS_FINDING_CONFIRMED,
    cause: UInt64 = 0, boot: UInt8 = 1, guest: UInt64 = 5_000_000_000
  ) -> grass_finding_content {
    var content = grass_finding_content()
    content.identity = identity
    content.detector = GRASS_DETECTOR_NAMED.rawValue
    content.severity = severity
    content.state = UInt8(state.rawValue)
    content.causes.0 = cause
    content.boot = bootID(boot)
    content.last_guest = guest
    content.count = 2
    return content
  }

  /// What others found is written by the device, and ends when they say so, not when the device does not see it.
  @Test func whatIsHandedOverIsKeptUntilItsFinderEndsIt() throws {
    let bench = try Bench()
    func hand(_ content: grass_finding_content) {
      var content = content
      grass_keeper_take(bench.keeper, &content)
    }
    bench.tick([])
    hand(handed())
    #expect(bench.log.map(\.identity) == [0xbeef] && bench.open.count == 1)
    for _ in 0..<9 { bench.tick([]) }
    #expect(bench.log.count == 1 && bench.summary.pointee.open == 1 && bench.summary.pointee.worst == 3)
    // The same again is no news, but the table says when it was seen last.
    let before = try #require(bench.open.first)
    hand(handed())
    #expect(bench.log.count == 1 && bench.open[0].last.device > before.last.device)
    #expect(bench.open[0].first.device == before.first.device)
    hand(handed(severity: 4))
    hand(handed(severity: 4, cause: 7))
    #expect(bench.log.map(\.severity) == [3, 4, 4] && bench.log[2].causes == [7] && bench.log[2].previous == 2)
    hand(handed(state: GRASS_FINDING_CLOSED))
    #expect(bench.open.isEmpty && bench.log.last?.state == UInt8(GRASS_FINDING_CLOSED.rawValue))
    // The end of what is not there is none.
    hand(handed(state: GRASS_FINDING_CLOSED))
    #expect(bench.log.count == 4)
  }

  @Test func whatIsHandedOverLateIsNoNewsOfTheNextBoot() throws {
    let bench = try Bench()
    func hand(_ content: grass_finding_content) {
      var content = content
      grass_keeper_take(bench.keeper, &content)
    }
    bench.tick([], boot: 2, guest: 3_000_000_000)
    hand(handed(boot: 1))
    #expect(bench.log.isEmpty)
    // Nobody asked that kernel for the id of its boot: its clock tells.
    bench.tick([], boot: 0, guest: 4_000_000_000)
    hand(handed(boot: 0, guest: 700_000_000_000))
    #expect(bench.log.isEmpty)
    hand(handed(boot: 0, guest: 4_500_000_000))
    #expect(bench.log.count == 1)
    // And with the next boot it is over.
    bench.tick([], boot: 0, guest: 1_000_000_000)
    #expect(bench.open.isEmpty && bench.log.map(\.state) == [2, 3])
  }

  /// Who looks closer may say what a finding of the device's own follows from, and nothing else of it.
  @Test func causesAreAddedToWhatTheDeviceFound() throws {
    let bench = try Bench()
    for _ in 0..<2 { bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK)]) }
    let own = try #require(bench.open.first)
    var link = handed(own.identity, severity: 1, cause: 0xbeef)
    link.detector = own.detector
    grass_keeper_take(bench.keeper, &link)
    #expect(bench.log.count == 2 && bench.log[1].causes == [0xbeef] && bench.log[1].severity == 3)
    grass_keeper_take(bench.keeper, &link)
    #expect(bench.log.count == 2)
    // It stays the device's: three looks without it close it.
    for _ in 0..<3 { bench.tick([]) }
    #expect(bench.open.isEmpty)
    // One that says that it is somebody else's is not taken for the device's.
    for _ in 0..<2 { bench.tick([sighting(GRASS_DETECTOR_HUNG_TASK)]) }
    var foreign = handed(own.identity, severity: 4)
    grass_keeper_take(bench.keeper, &foreign)
    #expect(bench.open.first?.severity == 3)
  }

  @Test func theInboxHoldsWhatItHasRoomFor() throws {
    let inbox = UnsafeMutablePointer<grass_inbox>.allocate(capacity: 1)
    inbox.initialize(to: grass_inbox())
    defer { inbox.deallocate() }
    let bench = try Bench(findings: 64)
    let detectors = UnsafeMutablePointer<grass_detectors>.allocate(capacity: 1)
    detectors.initialize(to: grass_detectors())
    defer { detectors.deallocate() }
    detectors.pointee.keeper = bench.keeper.pointee
    detectors.pointee.inbox = inbox
    inbox.pointee.suspended = 2
    var taken = 0
    for number in 1...6 {
      var content = handed(UInt64(number), boot: 0, guest: 0)
      if grass_inbox_put(inbox, &content) { taken += 1 }
    }
    #expect(taken == Int(GRASS_INBOX_ENTRIES))
    grass_detectors_tick(detectors, grass_moment(device: 1, utc: 1))
    #expect(bench.log.map(\.identity) == [1, 2, 3, 4] && bench.summary.pointee.suspended == 2)
    var content = handed(5, boot: 0, guest: 0)
    #expect(grass_inbox_put(inbox, &content))
    // Numbers that lie cost one tick's worth of entries.
    inbox.pointee.put = 1 << 60
    grass_detectors_tick(detectors, grass_moment(device: 2, utc: 2))
    #expect(inbox.pointee.taken == 8)
  }

  @Test func recordsThatAreTornAreNone() throws {
    let bench = try Bench()
    bench.tick([sighting(GRASS_DETECTOR_PANIC, looks: 1)])
    var header = bench.region.layout.header
    let place = bench.region.base + Int(grass_finding_offset(&header, 1))
    for byte in 0..<FindingRecord.size {
      let old = place.load(fromByteOffset: byte, as: UInt8.self)
      place.storeBytes(of: old ^ 1, toByteOffset: byte, as: UInt8.self)
      #expect(bench.log.isEmpty, "byte \(byte)")
      place.storeBytes(of: old, toByteOffset: byte, as: UInt8.self)
    }
    #expect(bench.log.count == 1)
  }
}

/// Bytes of an id of a boot.
typealias BootBytes = (
  UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8
)

/// An id of a boot as kernels make them; none for 0.
func bootID(_ number: UInt8) -> BootBytes {
  number == 0
    ? (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    : (number, 0, 0, 0, 0, 0, 0x4a, 0, 0x9b, 0, 0, 0, 0, 0, 0, 0)
}

/// What no kernel makes: 086a0053-8b55-cce8-a421-fdff585a488b.
let garbage: BootBytes = (
  0x08, 0x6a, 0, 0x53, 0x8b, 0x55, 0xcc, 0xe8, 0xa4, 0x21, 0xfd, 0xff, 0x58, 0x5a, 0x48, 0x8b
)
