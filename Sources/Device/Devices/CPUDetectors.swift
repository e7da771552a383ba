import CMailbox
import CRegion
import CRuntime
import Glibc
import Host
import Region

/// The findings of a CPU device, which outlive the detectors that made them.
final class FindingKeeper: @unchecked Sendable {
  // Used by the thread of the detectors as long as there is one, else by whoever starts the next.
  fileprivate let detectors: UnsafeMutablePointer<grass_detectors>
  private let kept: UnsafeMutablePointer<grass_kept>
  /// What comes from detectors beside the device: each word is read and written atomically.
  let inbox: UnsafeMutablePointer<grass_inbox>
  /// Bytes that last words take at most, with their head; 0 where the region has no room for any.
  let wordsCapacity: Int

  /// Begins with what the region's log has.
  ///
  /// `summary` is where the mailbox looks, and both have to outlive this.
  /// What is found is sealed under `group`, where sessions need keys.
  init(region: SharedRegion, summary: UnsafeMutablePointer<grass_summary>, group: UnsafePointer<grass_group>? = nil) {
    let count = Int(region.layout.header.open_count)
    wordsCapacity = region.layout.wordsCapacity
    kept = .allocate(capacity: count)
    kept.initialize(repeating: grass_kept(), count: count)
    detectors = .allocate(capacity: 1)
    detectors.initialize(to: grass_detectors())
    inbox = .allocate(capacity: 1)
    inbox.initialize(to: grass_inbox())
    detectors.pointee.inbox = inbox
    var header = region.layout.header
    grass_keeper_start(
      &detectors.pointee.keeper, region.base.assumingMemoryBound(to: UInt8.self), &header, kept, summary)
    detectors.pointee.keeper.group = group
  }

  /// Forgets what was handed over and not taken; only while no detectors run.
  func dropHanded() { inbox.pointee.taken = inbox.pointee.put }

  /// May be called at any time from any thread.
  func setHypervisor(_ state: HypervisorState) { grass_detectors_set_hypervisor(detectors, state.raw) }

  deinit {
    detectors.deallocate()
    kept.deallocate()
    inbox.deallocate()
  }
}

/// The thread that runs a CPU device's detectors, all of them in turn, again and again.
final class CPUDetectors: @unchecked Sendable {
  // All but the semaphore is the thread's from init to stop.
  private let keeper: FindingKeeper
  private let code: MonitorProgram.NativeCode
  private let machine: UnsafeMutablePointer<grass_machine>
  private let lane: UnsafeMutablePointer<grass_lane_state>
  private let items: UnsafeMutablePointer<grass_item>
  private let state: UnsafeMutablePointer<UInt64>
  private let output: UnsafeMutablePointer<UInt64>
  private let words: UnsafeMutablePointer<UInt64>
  private let wordsState: UnsafeMutablePointer<UInt64>
  private let semaphore: UnsafeMutablePointer<sem_t>
  private var thread: DedicatedThread?
  /// Whether last words are kept where there are some.
  let keepsWords: Bool

  /// How the names of monitors begin that are detectors.
  static let prefix = "detect_"
  /// The one that says what time it is on the watched host; it comes first.
  static let clock = "detect_clock"
  /// What gathers last words, when one of the others has found that there are some.
  static let words = "detect_words"
  /// Steps that a detector may take in one tick: a tenth of a second or so.
  private static let steps: UInt64 = 1 << 24
  private static let mostItems = 1 << 14
  private static let outputSize = 1 << 20

  /// Starts the detectors among a program's monitors, which have these numbers; nil where there are none.
  ///
  /// `segments`, the watched memory in ascending order, have to outlive it. Of those that `remembered` is of, and that are the same
  /// and look at the same boot, each goes on with what it remembered.
  ///
  /// - Throws: ``DeviceError`` where there can be no thread.
  init?(
    _ code: MonitorProgram.NativeCode, _ program: MonitorProgram, kernel: KernelMapping,
    segments: UnsafeBufferPointer<grass_mapped_segment>, keeper: FindingKeeper, period: Duration,
    remembered: Remembered? = nil
  ) throws(DeviceError) {
    let numbers = program.detectorNumbers
    guard !numbers.isEmpty else { return nil }
    self.keeper = keeper
    self.code = code
    machine = .allocate(capacity: 1)
    machine.initialize(to: grass_machine())
    machine.pointee.segments = segments.baseAddress
    machine.pointee.segment_count = UInt64(segments.count)
    kernel.fill(&machine.pointee)
    lane = .allocate(capacity: 1)
    lane.initialize(to: grass_lane_state())
    items = .allocate(capacity: 2 * Self.mostItems)
    items.initialize(repeating: grass_item(), count: 2 * Self.mostItems)
    state = .allocate(capacity: numbers.count * Int(GRASS_STATE_WORDS))
    state.initialize(repeating: 0, count: numbers.count * Int(GRASS_STATE_WORDS))
    output = .allocate(capacity: Self.outputSize / 8)
    output.initialize(repeating: 0, count: Self.outputSize / 8)
    // Of a region that has no room for last words none are gathered.
    let capacity = program.wordsNumber == nil ? 0 : keeper.wordsCapacity
    keepsWords = capacity > 0
    words = .allocate(capacity: max(1, capacity / 8))
    words.initialize(repeating: 0, count: max(1, capacity / 8))
    wordsState = .allocate(capacity: Int(GRASS_STATE_WORDS))
    wordsState.initialize(repeating: 0, count: Int(GRASS_STATE_WORDS))
    semaphore = .allocate(capacity: 1)
    semaphore.initialize(to: sem_t())
    sem_init(semaphore, 0, 0)

    let detectors = keeper.detectors
    names = numbers.map { program.names[$0] }
    forms = numbers.map { program.forms[$0] }
    build = program.kernel
    mapping = kernel
    detectors.pointee.begin(program, period: period)
    if let remembered, remembered.build == build, remembered.mapping == mapping {
      detectors.pointee.last = remembered.last
      for (index, name) in names.enumerated() {
        guard let (form, words) = remembered.words[name], form == forms[index], form != 0 else { continue }
        (state + index * Int(GRASS_STATE_WORDS)).update(from: words, count: words.count)
        detectors.pointee.remember(index)
      }
    }
    detectors.pointee.words = UnsafeMutableRawPointer(words).assumingMemoryBound(to: UInt8.self)
    detectors.pointee.words_capacity = UInt64(capacity)
    detectors.pointee.words_state = wordsState
    detectors.pointee.machine = UnsafePointer(machine)
    detectors.pointee.entry = code.dispatch
    detectors.pointee.lane = lane
    detectors.pointee.items = items
    detectors.pointee.item_capacity = UInt64(Self.mostItems)
    detectors.pointee.steps = Self.steps
    detectors.pointee.state = state
    detectors.pointee.job = grass_job()
    detectors.pointee.output = UnsafeMutableRawPointer(output).assumingMemoryBound(to: UInt8.self)
    detectors.pointee.output_capacity = UInt64(Self.outputSize)
    grass_keeper_forget(&detectors.pointee.keeper, GRASS_DETECTOR_OBSERVER.rawValue)

    do throws(SystemCallError) {
      let unowned = Unowned(detectors: self)
      thread = try DedicatedThread(name: "grass-detect") { unowned.detectors.run() }
    } catch {
      throw DeviceError(.threadFailed(error.description))
    }
  }

  private struct Unowned: @unchecked Sendable {
    // The thread is joined before the object goes.
    unowned(unsafe) let detectors: CPUDetectors
  }

  private let names: [String]
  private let forms: [UInt64]
  private let build: String
  private let mapping: KernelMapping

  /// What detectors remember, by their names, each with its form; and of which boot.
  struct Remembered {
    fileprivate var build: String
    fileprivate var mapping: KernelMapping
    /// When the last tick began.
    fileprivate var last: UInt64
    fileprivate var words: [String: (form: UInt64, words: [UInt64])] = [:]
  }

  /// What they remember, once they are stopped.
  func remembered() -> Remembered {
    var remembered = Remembered(build: build, mapping: mapping, last: keeper.detectors.pointee.last)
    let count = Int(GRASS_STATE_WORDS)
    for (index, name) in names.enumerated() {
      remembered.words[name] = (
        forms[index], Array(UnsafeBufferPointer(start: state + index * count, count: count))
      )
    }
    return remembered
  }

  /// Ends the thread, after the tick at work.
  func stop() {
    guard let thread else { return }
    self.thread = nil
    sem_post(semaphore)
    thread.join()
  }

  deinit {
    stop()
    sem_destroy(semaphore)
    semaphore.deallocate()
    machine.deallocate()
    lane.deallocate()
    items.deallocate()
    state.deallocate()
    output.deallocate()
    words.deallocate()
    wordsState.deallocate()
  }

  private func run() {
    var random = SystemRandomNumberGenerator()
    while true {
      var now = timespec()
      clock_gettime(CLOCK_REALTIME, &now)
      let utc = UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
      grass_detectors_tick(keeper.detectors, grass_moment(device: SystemCall.monotonicNanoseconds(), utc: utc))
      let pause = grass_detectors_pause(keeper.detectors, random.next())
      var until = timespec()
      clock_gettime(CLOCK_REALTIME, &until)
      let end = UInt64(until.tv_nsec) + pause
      until.tv_sec += Int(end / 1_000_000_000)
      until.tv_nsec = Int(end % 1_000_000_000)
      var result = sem_timedwait(semaphore, &until)
      while result != 0, errno == EINTR { result = sem_timedwait(semaphore, &until) }
      if result == 0 { return }
    }
  }
}

extension grass_detectors {
  /// Begins anew with the detectors of a program, none of which has ended early, and no tick before the first.
  mutating func begin(_ program: MonitorProgram, period: Duration) {
    let numbers = program.detectorNumbers
    words_monitor = UInt32(program.wordsNumber ?? 0)
    withUnsafeMutableBytes(of: &kernel) { kernel in
      kernel.initializeMemory(as: UInt8.self, repeating: 0)
      kernel.copyBytes(from: Array(program.kernel.utf8).prefix(kernel.count - 1))
    }
    count = UInt32(numbers.count)
    withUnsafeMutableBytes(of: &slots) { slots in
      let slots = slots.bindMemory(to: grass_detector_slot.self)
      for (index, number) in numbers.enumerated() {
        var slot = grass_detector_slot()
        slot.monitor = UInt32(number)
        slot.form = program.forms[number]
        withUnsafeMutableBytes(of: &slot.name) { name in
          name.copyBytes(
            from: Array(program.names[number].utf8.dropFirst(CPUDetectors.prefix.utf8.count)).prefix(name.count))
        }
        slots[index] = slot
      }
    }
    self.period = UInt64(max(period / .nanoseconds(1), 0))
    last = 0
  }

  /// The place of the detector of this name and form; nil where there is none that remembers anything.
  func place(of name: String, form: UInt64) -> Int? {
    let text = Array(name.utf8.dropFirst(CPUDetectors.prefix.utf8.count))
    return withUnsafeBytes(of: slots) { slots in
      slots.bindMemory(to: grass_detector_slot.self).prefix(Int(count)).firstIndex { slot in
        slot.has_state && form != 0 && slot.form == form
          && withUnsafeBytes(of: slot.name) { $0.prefix { $0 != 0 }.elementsEqual(text.prefix($0.count)) }
      }
    }
  }

  /// Says that a detector goes on with what it remembered under an earlier program.
  mutating func remember(_ index: Int) {
    withUnsafeMutableBytes(of: &slots) { $0.bindMemory(to: grass_detector_slot.self)[index].has_state = true }
  }
}
