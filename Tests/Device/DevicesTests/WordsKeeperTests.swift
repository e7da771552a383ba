import CMailbox
import CRegion
import CRuntime
import Records
import Region
import Testing

/// What a device does with last words: when it gathers them, which it throws away, and which of those that it has make room.
@Suite(.serialized) struct WordsKeeperTests {
  /// What the stand-ins for a host's detectors see.
  private struct Host {
    var boot: UInt8 = 1
    /// Its memory is written over, the id of its boot with it.
    var isGarbage = false
    var now: UInt64 = 1_000_000_000
    var hasPanicked = false
    var hasStopped = false
    /// How the end of the gathering differs from its start.
    var endBoot: UInt8?
    var endPanicCPU: Int32?
    var isEnded = true
    /// How far the log has got, which grows with each look where it is nil, and whether something cannot be read.
    var logHead: UInt64?
    var faults = false
    var gathered = 0
  }
  // Only the test at work uses it; C calls what cannot capture.
  nonisolated(unsafe) private static var host = Host()

  /// Runs the stand-in of that number: the clock, what sees, what gathers.
  private static func run(_ lane: UnsafeMutablePointer<grass_lane_state>?, _ monitor: UInt32) {
    func emit<Raw>(_ value: Raw, _ kind: UInt32) {
      grass_emit(lane, kind, UInt32(MemoryLayout<Raw>.size))?.storeBytes(of: value, as: Raw.self)
    }
    let host = WordsKeeperTests.host
    switch monitor {
    case 0:
      var clock = grass_host_clock()
      clock.now = host.now
      clock.boot = host.isGarbage ? garbage : bootID(host.boot)
      emit(clock, GRASS_DETECT_CLOCK.rawValue)
    case 1:
      func see(_ detector: grass_detector) {
        var sighting = grass_sighting()
        sighting.detector = detector.rawValue
        sighting.kind = 1
        sighting.severity = 4
        sighting.confidence = 3
        sighting.looks = 1
        sighting.flags = detector == GRASS_DETECTOR_PANIC ? UInt32(GRASS_SIGHTING_STAYS) : 0
        sighting.subjects.0.kind = GRASS_SUBJECT_HOST.rawValue
        emit(sighting, GRASS_DETECT_SIGHTING.rawValue)
      }
      if host.hasPanicked { see(GRASS_DETECTOR_PANIC) }
      if host.hasStopped { see(GRASS_DETECTOR_STOPPED) }
    default:
      guard grass_lane(lane) == 0 else { return }
      WordsKeeperTests.host.gathered += 1
      var state = grass_words_state()
      state.boot = host.isGarbage ? garbage : bootID(host.boot)
      state.now = host.now
      state.panic_cpu = host.hasPanicked ? 1 : -1
      state.end_boot = host.isGarbage ? garbage : bootID(host.endBoot ?? host.boot)
      state.end_now = host.now
      state.end_panic_cpu = host.endPanicCPU ?? state.panic_cpu
      state.is_ended = host.isEnded ? 1 : 0
      state.log_head = host.logHead ?? UInt64(WordsKeeperTests.host.gathered)
      emit(state, GRASS_WORDS_STATE.rawValue)
      if host.faults { lane?.pointee.fault = GRASS_FAULT_ABSENT.rawValue }
    }
  }

  /// The detectors of a device over a region with room for three, without a thread.
  private final class Bench {
    let region: SharedRegion
    let detectors: UnsafeMutablePointer<grass_detectors>
    private let kept: UnsafeMutablePointer<grass_kept>
    private let summary: UnsafeMutablePointer<grass_summary>
    private let machine: UnsafeMutablePointer<grass_machine>
    private let lane: UnsafeMutablePointer<grass_lane_state>
    private let items: UnsafeMutablePointer<grass_item>
    private let memory: UnsafeMutableRawPointer
    var now: UInt64 = 1_000_000_000

    init() throws {
      WordsKeeperTests.host = Host()
      region = try SharedRegion(
        layout: RegionLayout(slots: 1, requestSize: 4096, responseSize: 4096, findings: 64, words: 3))
      let count = Int(region.layout.header.open_count)
      kept = .allocate(capacity: count)
      kept.initialize(repeating: grass_kept(), count: count)
      summary = .allocate(capacity: 1)
      summary.initialize(to: grass_summary())
      machine = .allocate(capacity: 1)
      machine.initialize(to: grass_machine())
      machine.pointee.slide = 0x1000
      lane = .allocate(capacity: 1)
      lane.initialize(to: grass_lane_state())
      items = .allocate(capacity: 16)
      items.initialize(repeating: grass_item(), count: 16)
      let size = region.layout.wordsCapacity
      memory = .allocate(byteCount: size + (1 << 16) + 3 * Int(GRASS_STATE_WORDS) * 8, alignment: 64)
      memory.initializeMemory(as: UInt8.self, repeating: 0, count: size + (1 << 16) + 3 * Int(GRASS_STATE_WORDS) * 8)
      detectors = .allocate(capacity: 1)
      start()
    }

    /// As a device does that takes over.
    func start() {
      detectors.initialize(to: grass_detectors())
      kept.update(repeating: grass_kept(), count: Int(region.layout.header.open_count))
      var header = region.layout.header
      grass_keeper_start(
        &detectors.pointee.keeper, region.base.assumingMemoryBound(to: UInt8.self), &header, kept, summary)
      let size = region.layout.wordsCapacity
      detectors.pointee.count = 2
      detectors.pointee.slots.1.monitor = 1
      detectors.pointee.words_monitor = 2
      detectors.pointee.words = memory.assumingMemoryBound(to: UInt8.self)
      detectors.pointee.words_capacity = UInt64(size)
      detectors.pointee.output = (memory + size).assumingMemoryBound(to: UInt8.self)
      detectors.pointee.output_capacity = 1 << 16
      detectors.pointee.state = (memory + size + (1 << 16)).assumingMemoryBound(to: UInt64.self)
      detectors.pointee.words_state = detectors.pointee.state + 2 * Int(GRASS_STATE_WORDS)
      detectors.pointee.machine = UnsafePointer(machine)
      detectors.pointee.entry = { lane, monitor in WordsKeeperTests.run(lane, monitor) }
      detectors.pointee.lane = lane
      detectors.pointee.items = items
      detectors.pointee.item_capacity = 8
      detectors.pointee.steps = 1000
      detectors.pointee.period = 1_000_000_000
      withUnsafeMutableBytes(of: &detectors.pointee.kernel) { $0.copyBytes(from: Array("9.9.9-test abcd".utf8)) }
    }

    deinit {
      detectors.deallocate()
      kept.deallocate()
      summary.deallocate()
      machine.deallocate()
      lane.deallocate()
      items.deallocate()
      memory.deallocate()
    }

    func tick(_ count: Int = 1, change: (inout Host) -> Void = { _ in }) {
      change(&WordsKeeperTests.host)
      for _ in 0..<count {
        now += 1_000_000_000
        WordsKeeperTests.host.now &+= 1_000_000_000
        grass_detectors_tick(detectors, grass_moment(device: now, utc: now + 7))
      }
    }

    /// A place's record, as a remote host reads it: as many bytes as it says to have.
    func record(_ place: Int) -> [UInt8] {
      let start = region.base + region.layout.words.lowerBound + (place << 20)
      let length = start.load(fromByteOffset: 8, as: UInt64.self)
      return [UInt8](UnsafeRawBufferPointer(start: start, count: min(Int(grass_record_size(length)), 1 << 20)))
    }

    /// The numbers of what is kept, place by place.
    var numbers: [UInt64] { (0..<3).map { place in LastWords(record: record(place))?.head.number ?? 0 } }
  }

  @Test func theyAreGatheredAtOnceAndAgainWhileTheKernelGoesOn() throws {
    let bench = try Bench()
    bench.tick(3)
    #expect(bench.numbers == [0, 0, 0] && Self.host.gathered == 0)
    bench.tick { $0.hasPanicked = true }
    let words = try #require(LastWords(record: bench.record(0)))
    #expect(words.head.number == 1 && words.head.boot.first == 1 && words.head.slide == 0x1000)
    #expect(words.head.release == "9.9.9-test" && words.head.buildID == "abcd" && words.head.faulted == 0)
    #expect(words.head.taken.device == bench.now && words.head.taken.utc == bench.now + 7)
    #expect(words.state.panicCPU == 1 && words.head.detector == GRASS_DETECTOR_PANIC.rawValue)
    // Ever less often, for a minute, in its own place.
    bench.tick(120)
    let taken = Self.host.gathered
    #expect((5...9).contains(taken) && bench.numbers == [UInt64(taken), 0, 0])
    bench.tick(600)
    #expect(Self.host.gathered == taken)
  }

  @Test func whatIsNotOfOneBootIsThrownAway() throws {
    for change: (inout Host) -> Void in [
      { $0.endBoot = 2 }, { $0.endPanicCPU = -1 }, { $0.isEnded = false },
    ] {
      let bench = try Bench()
      bench.tick {
        $0.hasPanicked = true
        change(&$0)
      }
      #expect(bench.numbers == [0, 0, 0] && Self.host.gathered == 1)
      // The next time it is whole.
      bench.tick(4) { host in
        (host.endBoot, host.endPanicCPU, host.isEnded) = (nil, nil, true)
      }
      #expect(bench.numbers[0] > 0)
      let first = bench.record(0)
      // What was whole stays when the host boots anew while it is gathered again.
      bench.tick(60) { change(&$0) }
      #expect(bench.record(0) == first)
    }
  }

  /// A host that boots anew loses its memory bit by bit: what was kept whole is not written over by what is left.
  @Test func onlyWhatSaysMoreIsWrittenOver() throws {
    let bench = try Bench()
    bench.tick {
      ($0.hasPanicked, $0.logHead) = (true, 7)
    }
    let first = bench.record(0)
    bench.tick(20)
    #expect(bench.record(0) == first && Self.host.gathered > 2)
    bench.tick(60) { ($0.logHead, $0.faults) = (8, true) }
    #expect(bench.record(0) == first)
    // What cannot be read from the start on is kept as far as it can be.
    let other = try Bench()
    other.tick {
      ($0.hasPanicked, $0.logHead, $0.faults) = (true, 7, true)
    }
    #expect(other.numbers[0] == 1)
    other.tick(60) { ($0.logHead, $0.faults) = (8, false) }
    #expect(LastWords(record: other.record(0))?.head.faulted == 0)
  }

  /// While the id of the boot and the clock are erased already, what the kernel said of its panic may be there still: that is no
  /// panic of another boot.
  @Test func aBootThatIsErasedIsNotAnother() throws {
    let bench = try Bench()
    bench.tick {
      ($0.hasPanicked, $0.logHead) = (true, 7)
    }
    let first = bench.record(0)
    bench.tick(10) { ($0.boot, $0.logHead) = (0, 0) }
    for _ in 0..<10 { bench.tick { $0.now = 0 &- 1_000_000_000 } }
    // Or it is written over by whatever comes next.
    bench.tick(10) { ($0.now, $0.isGarbage) = (30_000_000_000, true) }
    bench.tick(10) { ($0.now, $0.boot, $0.isGarbage) = (11_372_056_152_700_000_000, 9, false) }
    #expect(bench.numbers == [1, 0, 0] && bench.record(0) == first)
    // Nor does it keep what says more from being kept, as when somebody erases the id alone.
    bench.tick(60) { ($0.now, $0.boot, $0.logHead) = (20_000_000_000, 0, nil) }
    #expect(bench.numbers[0] > 1 && bench.numbers[1] == 0)
    // The next boot has a clock of its own, and panics by itself.
    let kept = bench.record(0)
    bench.tick { ($0.now, $0.hasPanicked) = (0, false) }
    bench.tick { $0.hasPanicked = true }
    #expect(bench.record(0) == kept && bench.numbers[1] > bench.numbers[0])
  }

  @Test func theOldestMakesRoomAndBeforeThatWhatWasSurvived() throws {
    let bench = try Bench()
    // A pause that passed, and two boots that died.
    bench.tick { $0.hasStopped = true }
    bench.tick(5) { $0.hasStopped = false }
    #expect(bench.numbers[0] > 0 && bench.numbers[1] == 0)
    for boot: UInt8 in 2...3 {
      bench.tick {
        ($0.boot, $0.now, $0.hasPanicked) = (boot, 0, true)
      }
      bench.tick {
        ($0.boot, $0.now, $0.hasPanicked) = (boot + 1, 0, false)
      }
    }
    func boots() -> [UInt8] { (0..<3).map { LastWords(record: bench.record($0))?.head.boot.first ?? 0 } }
    #expect(boots() == [1, 2, 3])
    // The kernel of the first went on: it goes before those that died, though they are not older.
    bench.tick { $0.hasPanicked = true }
    #expect(boots() == [4, 2, 3])
    bench.tick {
      ($0.boot, $0.now, $0.hasPanicked) = (5, 0, true)
    }
    #expect(boots() == [4, 5, 3])
    // Another device takes over: what is there stays, and numbers go on.
    let newest = bench.numbers.max() ?? 0
    bench.start()
    bench.tick {
      ($0.boot, $0.now, $0.hasPanicked) = (6, 0, true)
    }
    #expect(boots() == [4, 5, 6] && bench.numbers.max() == newest + 1)
  }

  /// A panic says more than that all CPUs stand still, and comes after it.
  @Test func aPanicGoesBeforeAStandstill() throws {
    let bench = try Bench()
    bench.tick { $0.hasStopped = true }
    bench.tick { $0.hasPanicked = true }
    let detectors = (0..<3).map { LastWords(record: bench.record($0))?.head.detector }
    #expect(detectors == [GRASS_DETECTOR_STOPPED.rawValue, GRASS_DETECTOR_PANIC.rawValue, nil])
  }

  /// Whoever reads while they are written over has one or none.
  @Test func recordsThatAreTornAreNone() throws {
    let bench = try Bench()
    bench.tick { $0.hasPanicked = true }
    let whole = bench.record(0)
    #expect(LastWords(record: whole) != nil)
    let length = LastWords.Head.byteCount
    for byte in 0..<length where byte != 8 + 7 {
      var torn = whole
      torn[byte] ^= 1
      // The check of the whole record covers what the head's own does not.
      let isWhole = torn.withUnsafeBytes { bytes -> Bool in
        var found: UInt64 = 0
        let sequence = bytes.loadUnaligned(as: UInt64.self)
        return grass_record_judge(bytes.baseAddress, UInt64(bytes.count), UInt64(bytes.count), sequence, nil, &found)
          == GRASS_RECORD_WHOLE
      }
      #expect(!isWhole || LastWords(record: torn) == nil, "byte \(byte)")
    }
  }
}
