import CMailbox
public import CRegion
import CRuntime
import Glibc
import Host
public import Memory
public import Region
import Synchronization

/// A processor outside the watched host that runs the mailbox, on a thread of its own.
///
/// It polls at full speed while requests come, and ever less often in silence: a requester who breaks the silence waits
/// up to a millisecond longer, and an idle device takes less than 5% of a core. Nobody can wake it: who writes the
/// region one-sidedly calls nobody.
///
/// Monitors run on a second thread, so that their runs keep nobody waiting but the next run, and detectors on a third.
public final class CPUDevice: Device, @unchecked Sendable {
  // Only the thread uses the mailbox from start to join, but for its kernel hint, which is atomic.
  private let mailbox: UnsafeMutablePointer<grass_mailbox>
  private var segments: UnsafeMutableBufferPointer<grass_mapped_segment>
  private var worker: CPUWorker?
  private let keeper: FindingKeeper
  private var detectors: CPUDetectors?
  private let period: Duration
  private let scratch: UnsafeMutableRawPointer
  private let keyring: Keyring?
  /// With keys: where answers are put together before they are sealed.
  private let answer: UnsafeMutableRawPointer?
  /// How sessions read the memory past this, of each slot; nil where they may not.
  private var windows: UnsafeMutableBufferPointer<grass_windows>?
  private let region: SharedRegion
  private let owner: AnyObject?
  private let isStopping: StopFlag
  private var thread: DedicatedThread?
  private var failed: DeviceError?

  private final class StopFlag: Sendable {
    let value = Atomic<Bool>(false)
  }

  /// Who holds it may step the mailbox: its own thread, or one that assists.
  private let turn = Turn()

  private final class Turn: Sendable {
    private let isTaken = Atomic<Bool>(false)
    /// How many requests those who assist have answered.
    let assisted = Atomic<UInt64>(0)

    func take() -> Bool { !isTaken.exchange(true, ordering: .acquiring) }
    func give() { isTaken.store(false, ordering: .releasing) }

    /// Waits: a step takes microseconds, and seldom milliseconds.
    func await() {
      while !take() { SystemCall.sleep(nanoseconds: 10_000) }
    }
  }

  /// Starts the mailbox program on a thread of its own.
  ///
  /// - Parameters:
  ///   - region: where it answers. Kept until it has stopped.
  ///   - watched: the watched memory, without overlap.
  ///   - owner: whatever must live for the segments' pointers to be valid.
  ///   - period: how often detectors look.
  ///   - keyring: whom it lets in, where the region is one with keys; made for this region.
  /// - Throws: ``DeviceError`` where the region lies in another device's memory or is broken, or no thread can be had.
  public init(
    region: SharedRegion, segments watched: [MappedSegment], owner: AnyObject?, period: Duration = .seconds(1),
    keyring: Keyring? = nil
  ) throws(DeviceError) {
    guard region.device == nil else { throw DeviceError(.regionElsewhere) }
    precondition(
      region.layout.hasKeys == (keyring != nil), "a region with keys and a device without them, or otherwise")
    self.keyring = keyring
    answer = keyring == nil ? nil : .allocate(byteCount: region.layout.responseSize, alignment: 64)
    self.region = region
    self.period = period
    self.owner = owner
    segments = Self.table(of: watched)
    scratch = .allocate(byteCount: region.layout.requestSize, alignment: 64)
    mailbox = .allocate(capacity: 1)
    mailbox.initialize(to: grass_mailbox())
    isStopping = StopFlag()
    var header = region.layout.header
    let started = grass_mailbox_start(
      mailbox, region.base, &header, segments.baseAddress, UInt64(segments.count), scratch,
      SystemCall.monotonicNanoseconds())
    // A stored field of a C struct always has an offset.
    keeper = FindingKeeper(
      region: region,
      summary: (UnsafeMutableRawPointer(mailbox) + (MemoryLayout<grass_mailbox>.offset(of: \.summary) ?? 0))
        .assumingMemoryBound(to: grass_summary.self),
      group: keyring.map { UnsafePointer($0.group) })
    guard started else { throw DeviceError(.badRegion) }
    if let keyring {
      grass_mailbox_set_keyring(mailbox, keyring.keyring, answer?.assumingMemoryBound(to: UInt8.self))
    }
    try startThread()
  }

  public var description: String { "this machine's processor" }

  private func startThread() throws(DeviceError) {
    isStopping.value.store(false, ordering: .releasing)
    let unowned = Unowned(mailbox: mailbox)
    do throws(SystemCallError) {
      thread = try DedicatedThread(name: "grass-mailbox") { [isStopping, worker, turn] in
        Self.poll(unowned.mailbox, worker: worker, turn: turn, until: isStopping)
      }
    } catch {
      throw DeviceError(.threadFailed(error.description))
    }
  }

  private func stopThread() {
    isStopping.value.store(true, ordering: .releasing)
    guard let thread else { return }
    self.thread = nil
    thread.join()
  }

  public func load(_ program: MonitorProgram, for kernel: KernelMapping) throws(DeviceError) {
    guard case .native(let code) = program.code else {
      throw DeviceError(.wrongTarget("it is a GPU's, this device is a processor"))
    }
    guard thread != nil else { return }
    let next = try CPUWorker(
      code, names: Array(program.answers.prefix(program.monitorCount)), kernel: kernel,
      segments: UnsafeBufferPointer(segments),
      outputSize: region.layout.responseSize)
    var failure: DeviceError?
    standingStill { remembered in
      next.attach(to: mailbox)
      worker = next
      do throws(DeviceError) {
        detectors = try CPUDetectors(
          code, program, kernel: kernel, segments: UnsafeBufferPointer(segments),
          keeper: keeper,
          period: period, remembered: remembered)
      } catch {
        failure = error
      }
      tell(detectors)
    }
    try startThread()
    if let failure { throw failure }
  }

  public func withdrawMonitors() {
    guard thread != nil, worker != nil else { return }
    // What was found of a kernel that is gone is no news of the next one.
    standingStill { _ in keeper.dropHanded() }
    resume()
  }

  public func setSegments(_ watched: [MappedSegment]) {
    guard thread != nil else { return }
    standingStill { _ in
      let old = segments
      segments = Self.table(of: watched)
      mailbox.pointee.segments = UnsafePointer(segments.baseAddress)
      mailbox.pointee.segment_count = UInt64(segments.count)
      mailbox.pointee.last_segment = 0
      old.deallocate()
    }
    resume()
  }

  /// Calls `body` while nobody steps the mailbox, which has no monitors then, with what the detectors remembered that it had.
  ///
  /// The thread has to be started again.
  private func standingStill(_ body: (CPUDetectors.Remembered?) -> Void) {
    detectors?.stop()
    let remembered = detectors?.remembered()
    detectors = nil
    tell(nil)
    stopThread()
    turn.await()
    // The run at work, if any, ends within its budget; its answer is not lost.
    worker?.finish { [mailbox] in grass_mailbox_step(mailbox, SystemCall.monotonicNanoseconds()) }
    mailbox.pointee.monitors = nil
    worker = nil
    body(remembered)
    turn.give()
  }

  /// Says in the answers to info what these detectors do.
  ///
  /// The mailbox's thread may read it meanwhile.
  private func tell(_ detectors: CPUDetectors?) {
    var features: UInt32 = 0
    if let detectors {
      features |= GRASS_FEATURE_FINDINGS.rawValue
      if detectors.keepsWords { features |= GRASS_FEATURE_WORDS.rawValue }
    }
    grass_mailbox_set_detector_features(mailbox, UInt64(features))
  }

  /// Starts the thread again, or says by ``failure()`` that it cannot be.
  private func resume() {
    do throws(DeviceError) {
      try startThread()
    } catch {
      failed = error
    }
  }

  /// `watched` as the mailbox takes it, in ascending order.
  private static func table(of watched: [MappedSegment]) -> UnsafeMutableBufferPointer<grass_mapped_segment> {
    let table = UnsafeMutableBufferPointer<grass_mapped_segment>.allocate(capacity: max(1, watched.count))
    let sorted = watched.sorted { $0.segment.start < $1.segment.start }
    _ = table.initialize(
      from: sorted.map(\.raw))
    return UnsafeMutableBufferPointer(rebasing: table[..<sorted.count])
  }

  public func failure() -> DeviceError? { failed }

  private struct Unowned: @unchecked Sendable {
    // The thread is joined before the memory goes.
    let mailbox: UnsafeMutablePointer<grass_mailbox>
  }

  deinit {
    stop()
    mailbox.deallocate()
    segments.deallocate()
    windows?.deallocate()
    scratch.deallocate()
    answer?.deallocate()
  }

  /// Stops the mailbox, waits for its thread and says so in the beacon.
  ///
  /// A second call does nothing.
  public func stop() {
    guard thread != nil else { return }
    stopThread()
    // For good: nobody assists a mailbox that has stopped.
    turn.await()
    worker?.stop()
    worker = nil
    detectors?.stop()
    detectors = nil
    grass_mailbox_stop(mailbox, SystemCall.monotonicNanoseconds())
  }

  public func assist() {
    guard turn.take() else { return }
    defer { turn.give() }
    let answered = grass_mailbox_step(mailbox, SystemCall.monotonicNanoseconds())
    if answered > 0 { turn.assisted.wrappingAdd(UInt64(answered), ordering: .relaxed) }
    _ = worker?.wake()
  }

  public var isKeyed: Bool { keyring != nil }

  public func release(_ slots: Range<Int>) {
    guard keyring != nil else { return }
    for slot in slots { grass_mailbox_release(mailbox, UInt32(slot)) }
    // The mailbox's thread may sleep for a while; a device that has stopped has no sessions.
    while thread != nil, slots.contains(where: { !grass_mailbox_has_released(mailbox, UInt32($0)) }) {
      assist()
      sched_yield()
    }
  }

  public func setKeys(_ lines: [grass_key_line]) {
    guard let keyring, thread != nil else { return }
    turn.await()
    keyring.replace(with: lines)
    turn.give()
  }

  public func newestFinding() -> UInt64? {
    guard keyring != nil else { return nil }
    let summary = UnsafeMutableRawPointer(mailbox) + (MemoryLayout<grass_mailbox>.offset(of: \.summary) ?? 0)
    return grass_load(summary + (MemoryLayout<grass_summary>.offset(of: \.newest_finding) ?? 0))
  }

  public func groupKeys() -> [UInt64: [UInt8]] { keyring?.groupKeys() ?? [:] }

  public var publicKey: [UInt8]? { keyring?.publicKey }

  public func takeKeyEvent() -> KeyEvent? { keyring?.takeEvent() }

  public func setHypervisor(_ state: HypervisorState) {
    keeper.setHypervisor(state)
    grass_mailbox_set_hypervisor(mailbox, state.raw)
  }

  public func openMemory() -> Bool {
    turn.await()
    defer { turn.give() }
    let table = UnsafeMutableBufferPointer<grass_windows>.allocate(capacity: region.layout.slotCount)
    table.initialize(repeating: grass_windows())
    windows = table
    grass_mailbox_set_windows(mailbox, table.baseAddress)
    return true
  }

  public func wantsWindows(_ slot: Int) -> Bool {
    guard let table = windows?.baseAddress else { return false }
    return grass_load(table + slot) != 0
  }

  public func setWindows(_ list: [grass_memory_window]?, for slot: Int) {
    guard let windows else { return }
    turn.await()
    defer { turn.give() }
    if list == nil { windows[slot].is_wanted = 0 }
    windows[slot].is_ready = list == nil ? 0 : 1
    let list = list ?? []
    let count = min(list.count, Int(GRASS_MAX_WINDOWS))
    windows[slot].count = UInt64(count)
    withUnsafeMutableBytes(of: &windows[slot].windows) { to in
      list.prefix(count).withUnsafeBytes { to.copyMemory(from: $0) }
    }
  }

  public var wantsPause: Bool { grass_mailbox_wants_pause(mailbox, SystemCall.monotonicNanoseconds()) }

  /// Says where the watched kernel's VMCOREINFO note lies, for the answers to info.
  public func setKernelHint(_ address: PhysicalAddress) {
    grass_mailbox_set_kernel_hint(mailbox, address.rawValue)
  }

  public func hand(_ finding: grass_finding_content) -> Bool {
    guard detectors != nil else { return false }
    var finding = finding
    return grass_inbox_put(keeper.inbox, &finding)
  }

  public func setSuspended(_ count: Int) {
    grass_store(
      UnsafeMutableRawPointer(keeper.inbox) + (MemoryLayout<grass_inbox>.offset(of: \.suspended) ?? 0),
      UInt64(max(0, count)))
  }

  /// How long silence lasts before the first sleep, in nanoseconds.
  private static let busyTime: UInt64 = 5_000_000
  private static let shortestSleep: UInt64 = 20_000
  private static let longestSleep: UInt64 = 1_000_000

  private static func poll(
    _ mailbox: UnsafeMutablePointer<grass_mailbox>, worker: CPUWorker?, turn: Turn, until stop: StopFlag
  ) {
    var lastRequest = SystemCall.monotonicNanoseconds()
    var round: UInt32 = 0
    var assisted: UInt64 = 0
    var wasAlone = true
    while !stop.value.load(ordering: .acquiring) {
      var now = SystemCall.monotonicNanoseconds()
      var answered: UInt32 = 0
      if turn.take() {
        // Later than what another has done in its turn.
        now = SystemCall.monotonicNanoseconds()
        answered = grass_mailbox_step(mailbox, now)
        if let worker, worker.wake() { lastRequest = now }
        turn.give()
      }
      if answered > 0 {
        // One request among those that others answer came this way by chance: they need the processor, not this thread.
        let others = turn.assisted.load(ordering: .relaxed)
        if wasAlone || others == assisted { lastRequest = now }
        wasAlone = others == assisted
        assisted = others
        continue
      }
      let silence = now &- lastRequest
      if silence < busyTime {
        // Every so often whoever else wants this processor gets it: where there are few, that is the requester.
        round &+= 1
        if round % 16 == 0 { sched_yield() } else { grass_pause() }
      } else {
        // A hundredth of the silence so far, so that a requester never waits much longer than it did before.
        SystemCall.sleep(nanoseconds: min(max(silence / 100, shortestSleep), longestSleep))
      }
    }
  }
}
