import CRegion
import Glibc
import Host
import Region

@testable import Fleet

/// What a device writes without being asked, written by a thread of a test: beacon and lines a thousand times a second, and a log that
/// grows when the test says so.
final class StandInDevice: Sendable {
  let path: String
  private let region: SharedRegion
  private let newest = Locked<UInt64>(0)
  private let isEnding = Locked(false)
  private let thread = Locked<DedicatedThread?>(nil)

  /// A region at a path, of a few small slots, whose log has so many entries.
  init(path: String, findings: Int = 1024) throws {
    self.path = path
    region = try SharedRegion(
      path: path, layout: RegionLayout(slots: 4, requestSize: 4096, responseSize: 65536, findings: findings, words: 0))
    let made = try DedicatedThread(name: "stand-in") { [self] in run() }
    thread.withLock { $0 = made }
  }

  func stop() {
    isEnding.withLock { $0 = true }
    thread.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
  }

  /// How many changes its log has had.
  var count: UInt64 { newest.withLock { $0 } }

  /// Logs a change: a finding that is new with each number, or, where `isClosing`, the end of the one before.
  func log(isClosing: Bool = false, severity: grass_severity = GRASS_SEVERITY_NOTICE) {
    newest.withLock { newest in
      let number = newest + 1
      var content = grass_finding_content()
      content.identity = isClosing ? newest : number
      content.detector = GRASS_DETECTOR_HUNG_TASK.rawValue
      content.kind = UInt8(GRASS_FINDING_FAULT.rawValue)
      content.severity = UInt8(severity.rawValue)
      content.state = UInt8((isClosing ? GRASS_FINDING_CLOSED : GRASS_FINDING_CONFIRMED).rawValue)
      content.count = 1
      (content.first_device, content.last_device) = (number, number)
      // Now: what is old and over would be forgotten.
      let utc = UInt64(Moments.utc * 1e9)
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
      let header = region.layout.header
      let index = (number - 1) % UInt64(header.finding_count)
      (region.base + Int(header.findings_offset + index * UInt64(header.finding_size))).copyMemory(
        from: &finding, byteCount: MemoryLayout<grass_finding>.size)
      newest = number
    }
  }

  private func run() {
    var counter: UInt64 = 0
    while !isEnding.withLock({ $0 }) {
      counter += 1
      var line = grass_session_line()
      (line.counter, line.counter_end, line.clock) = (counter, counter, counter * 1_000_000)
      line.detector_tick = counter / 100 + 1
      line.newest_finding = count
      line.state = UInt8(GRASS_STATE_RUNNING.rawValue)
      let covered = UInt64(MemoryLayout<grass_session_line>.offset(of: \.check) ?? 0)
      var check: (UInt64, UInt64) = (0, 0)
      withUnsafeMutableBytes(of: &check) { check in
        withUnsafeBytes(of: line) {
          grass_check(check.baseAddress?.assumingMemoryBound(to: UInt64.self), counter, $0.baseAddress, covered)
        }
      }
      line.check = check
      for slot in 0..<region.layout.slotCount {
        (region.base + region.layout.lineOffset(slot: slot)).copyMemory(
          from: &line, byteCount: MemoryLayout<grass_session_line>.size)
      }
      usleep(1000)
    }
  }
}
