import CMailbox
import CRegion
import Foundation
import Links
import Memory
import Region

func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func utcSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Has this process open as many files as it may: a descriptor for each region, and some for each session.
func raiseFileLimit() {
  var limit = rlimit()
  getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  limit.rlim_cur = limit.rlim_max
  setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}

/// The bytes of a file, mapped; without one, a MiB of nothing.
func mapped(_ path: String?) -> UnsafeRawBufferPointer {
  guard let path, !path.isEmpty else {
    let nothing = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    nothing.initializeMemory(as: UInt8.self, repeating: 0)
    return UnsafeRawBufferPointer(nothing)
  }
  let file = open(path, O_RDONLY | O_CLOEXEC)
  var status = stat()
  guard file >= 0, fstat(file, &status) == 0,
    let base = mmap(nil, Int(status.st_size), PROT_READ, MAP_SHARED, file, 0), base != MAP_FAILED
  else { fatalError("\(path) cannot be mapped") }
  close(file)
  return UnsafeRawBufferPointer(start: base, count: Int(status.st_size))
}

/// As many devices as there are regions, all over one image, stepped in turn by one thread.
final class SteppedDevices: @unchecked Sendable {
  // Made before the thread begins, and the thread's alone from then on, but for `orders`.
  let regions: [SharedRegion]
  private let layout: RegionLayout
  private let mailboxes: UnsafeMutablePointer<grass_mailbox>
  private let segments: UnsafeMutablePointer<grass_mapped_segment>
  private let scratch: UnsafeMutableRawPointer
  private let isEnded = DispatchSemaphore(value: 0)
  /// What each device's log has had.
  private var logged: [UInt64]
  private let lock = NSLock()
  private var orders = Orders()

  /// What others want of the thread.
  private struct Orders {
    var isEnding = false
    /// Devices that nobody steps any more, and those whose regions are written over with noise.
    var hanging: Set<Int> = []
    var babbling: Set<Int> = []
    /// Findings to be logged: of which device, and whether it ends what the one before began.
    var findings: [(device: Int, isClosing: Bool)] = []
  }

  /// Between two rounds over all devices; those that are asked something are stepped all the time.
  private static let pause: UInt64 = 4_000_000
  private static let busyFor: UInt64 = 20_000_000

  init(
    _ count: Int, in folder: URL, over image: UnsafeRawBufferPointer, hint: PhysicalAddress?, layout: RegionLayout
  ) throws {
    self.layout = layout
    regions = try (0..<count).map { try SharedRegion(path: folder.path + "/\($0)", layout: layout) }
    logged = Array(repeating: 0, count: count)
    mailboxes = .allocate(capacity: count)
    mailboxes.initialize(repeating: grass_mailbox(), count: count)
    segments = .allocate(capacity: 1)
    segments.initialize(
      to: grass_mapped_segment(
        segment: grass_segment(start: 0, count: UInt64(image.count)),
        bytes: image.baseAddress?.assumingMemoryBound(to: UInt8.self), lost: nil))
    scratch = .allocate(byteCount: layout.requestSize, alignment: 64)
    for (index, region) in regions.enumerated() {
      var header = layout.header
      guard
        grass_mailbox_start(mailboxes + index, region.base, &header, segments, 1, scratch, monotonicNanoseconds())
      else { fatalError("region \(index) is broken") }
      if let hint { grass_mailbox_set_kernel_hint(mailboxes + index, hint.rawValue) }
      mailboxes[index].summary.tick = 1
    }
    Thread.detachNewThread { [self] in run() }
  }

  func end() {
    lock.withLock { orders.isEnding = true }
    isEnded.wait()
  }

  /// Has some devices hang, and some write nonsense, from now on.
  func spoil(hanging: Set<Int>, babbling: Set<Int>) {
    lock.withLock { (orders.hanging, orders.babbling) = (hanging, babbling) }
  }

  /// Has a device find that a task hangs, or that it does no more.
  func log(_ device: Int, isClosing: Bool) {
    lock.withLock { orders.findings.append((device, isClosing)) }
  }

  private func run() {
    var busyUntil = [UInt64](repeating: 0, count: regions.count)
    var busy: [Int] = []
    var nextRound: UInt64 = 0
    while true {
      let now = monotonicNanoseconds()
      let orders = lock.withLock { () -> Orders in
        defer { self.orders.findings = [] }
        return self.orders
      }
      if orders.isEnding { break }
      for finding in orders.findings { write(finding.device, isClosing: finding.isClosing) }
      if now >= nextRound {
        busy = []
        for index in regions.indices where !orders.hanging.contains(index) {
          // Its detectors look ten times a second.
          mailboxes[index].summary.tick = now / 100_000_000
          if grass_mailbox_step(mailboxes + index, now) > 0 { busyUntil[index] = now + Self.busyFor }
          if busyUntil[index] > now { busy.append(index) }
        }
        for index in orders.babbling { babble(regions[index]) }
        nextRound = monotonicNanoseconds() + Self.pause
      } else {
        for index in busy where grass_mailbox_step(mailboxes + index, now) > 0 { busyUntil[index] = now + Self.busyFor }
      }
      // With few processors, who asked needs one to go on.
      if busy.isEmpty { usleep(1000) } else { sched_yield() }
    }
    isEnded.signal()
  }

  private func babble(_ region: SharedRegion) {
    for slot in 0..<layout.slotCount {
      for word in 0..<8 {
        (region.base + layout.lineOffset(slot: slot)).storeBytes(
          of: UInt64.random(in: 0...UInt64.max), toByteOffset: word * 8, as: UInt64.self)
      }
    }
  }

  private func write(_ device: Int, isClosing: Bool) {
    let number = logged[device] + 1
    var content = grass_finding_content()
    content.identity = isClosing ? logged[device] : number
    content.detector = GRASS_DETECTOR_HUNG_TASK.rawValue
    content.kind = UInt8(GRASS_FINDING_FAULT.rawValue)
    content.severity = UInt8(GRASS_SEVERITY_WARNING.rawValue)
    content.state = UInt8((isClosing ? GRASS_FINDING_CLOSED : GRASS_FINDING_CONFIRMED).rawValue)
    content.count = 1
    let utc = UInt64(utcSeconds() * 1e9)
    (content.first_device, content.last_device) = (number, number)
    (content.first_utc, content.last_utc) = (utc, utc)
    content.subjects.0.kind = GRASS_SUBJECT_CPU.rawValue
    content.subjects.0.values.0 = content.identity
    var finding = grass_finding()
    finding.record.sequence = number
    finding.record.length = UInt64(MemoryLayout<grass_finding_content>.size)
    withUnsafeMutableBytes(of: &finding.record.check) { check in
      withUnsafeBytes(of: content) {
        grass_check(
          check.baseAddress?.assumingMemoryBound(to: UInt64.self), number, $0.baseAddress, finding.record.length)
      }
    }
    finding.content = content
    finding.number_end = number
    let header = layout.header
    let place = header.findings_offset + (number - 1) % UInt64(header.finding_count) * UInt64(header.finding_size)
    (regions[device].base + Int(place)).copyMemory(from: &finding, byteCount: MemoryLayout<grass_finding>.size)
    logged[device] = number
    mailboxes[device].summary.newest_finding = number
    mailboxes[device].summary.worst = isClosing ? 0 : UInt64(GRASS_SEVERITY_WARNING.rawValue)
    mailboxes[device].summary.open = isClosing ? 0 : 1
  }
}

/// A line of standard output, at once, whatever that is.
func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
