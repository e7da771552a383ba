import CRegion
import Detection
package import Devices
import Glibc
import Host
import Records
package import Region

/// Has the host looked at by all detectors of a check, again and again, and hands what they find to the device.
///
/// Who looks is a process of its own (``Looker``), which is asked here and never waited for: a step takes what it has said and is
/// over. A detector at which that process ends, or does not come back, is named and not asked any more; so is one that could not
/// look three times. What was found is over when two looks have not found it again, and those that might have were not blind.
package final class Lookout {
  private let program: [String]
  private let region: SharedRegion
  private let device: any Device
  private let period: Duration
  private let report: (ServerEvent) -> Void

  private var isWanted = false
  private var isBlind = false
  private var process: LookProcess?
  private var isLooking = false
  /// Whether a look is under way.
  package var isBusy: Bool { isLooking }
  /// When the next look is due, and when that at work has taken too long.
  private var due = ContinuousClock.now
  private var deadline = ContinuousClock.now
  /// The detector that is being asked.
  private var asked = ""
  /// Of the look at work.
  private var found: [UInt64: (content: grass_finding_content, title: String)] = [:]
  private var blind: Set<String> = []
  /// Detectors that are not asked, and how often in a row others could not look.
  private(set) package var suspended: Set<String> = []
  private var strikes: [String: Int] = [:]
  /// What is not over.
  private var open: [UInt64: Open] = [:]
  /// What the device has not taken yet.
  private var outgoing: [grass_finding_content] = []
  /// The number of the newest finding in the log, and what the device itself had open then, worth a look of its own.
  private var newest: UInt64 = 0
  private var alarms: Set<Alarm> = []
  /// What was said already, lest it be said after every look.
  private var said: Set<String> = []

  private struct Open {
    var content: grass_finding_content
    var title: String
    var missed = 0
    /// Whether the device was told.
    var isHanded = false
  }

  private struct Alarm: Hashable {
    let identity: UInt64
    let severity: UInt8
  }

  /// How long one detector may take, whatever the machine does beside.
  private static let patience = Duration.seconds(120)
  /// How long after the end of a look the next one may begin at the earliest.
  private static let rest = Duration.seconds(2)
  /// How soon a look follows that has not found what was open, or during which the process ended.
  private static let soon = Duration.seconds(5)
  private static let mostStrikes = 3
  /// Findings that wait for the device; more are said again after the next look.
  private static let mostOutgoing = 256

  /// `program` is who looks, its path first; `period` is from one look to the next.
  package init(
    _ program: [String], region: SharedRegion, device: any Device, period: Duration,
    report: @escaping (ServerEvent) -> Void
  ) {
    self.program = program
    self.region = region
    self.device = device
    self.period = period
    self.report = report
  }

  /// Begins, with a kernel that was just found: nothing is open of it.
  package func begin(at now: ContinuousClock.Instant = .now) {
    end()
    isWanted = true
    due = now
  }

  /// Ends, since the kernel is gone.
  ///
  /// What was found of it is over with its boot, as the device sees for itself.
  package func end() {
    isWanted = false
    isBlind = false
    process = nil
    isLooking = false
    open = [:]
    outgoing = []
    alarms = []
    said = []
    suspended = []
    strikes = [:]
    device.setSuspended(0)
  }

  /// The memory is gone: nobody can look, and that is what there is to say.
  package func loseMemory() {
    end()
    isWanted = true
    isBlind = true
    var moment = timespec()
    clock_gettime(CLOCK_REALTIME, &moment)
    outgoing = [LoggedFinding.content(LostMemory.finding(at: .init(guest: nil, utc: Double(moment.tv_sec))))]
  }

  /// Asks detectors again that were suspended.
  package func reload() {
    guard isWanted, !isBlind else { return }
    begin()
  }

  /// Does what is due; to be called every so often.
  package func step(at now: ContinuousClock.Instant = .now) {
    guard isWanted else { return }
    hand()
    guard !isBlind else { return }
    watchDevice(at: now)
    guard let process else { return start(at: now) }
    do throws(LookFrameError) {
      for frame in try process.frames() { take(frame, at: now) }
    } catch {
      return lose("says what is no answer", at: now)
    }
    switch process.end() {
    case .signal(let number): lose("was ended by signal \(number)", at: now)
    case .exited(let status):
      self.process = nil
      isLooking = false
      due = now + max(period, Self.soon)
      say(.warning, "who looks at the host has ended", ["status": "\(status)"], once: true)
    case nil:
      if isLooking, now >= deadline {
        lose("did not come back within \(Self.patience)", at: now)
      } else if !isLooking, now >= due {
        look(at: now)
      }
    }
  }

  // MARK: The process

  private func start(at now: ContinuousClock.Instant) {
    guard now >= due else { return }
    do throws(SystemCallError) {
      process = try LookProcess(program)
      look(at: now)
    } catch {
      due = now + max(period, Self.soon)
      say(.error, "nobody looks at the host", ["reason": "\(error)"], once: true)
    }
  }

  private func look(at now: ContinuousClock.Instant) {
    found = [:]
    blind = []
    asked = ""
    isLooking = true
    deadline = now + Self.patience
    process?.say(.init(.look, Looker.Request.encoded(suspended: suspended, records: records().map(\.bytes))))
  }

  /// The process is gone in the middle of a look, or is sent away.
  private func lose(_ how: String, at now: ContinuousClock.Instant) {
    process = nil
    if isLooking, !asked.isEmpty { suspend(asked, how) }
    isLooking = false
    due = now + Self.soon
  }

  private func suspend(_ detector: String, _ how: String) {
    guard suspended.insert(detector).inserted else { return }
    device.setSuspended(suspended.count)
    report(
      .init(
        weight: .error, text: "a detector is not asked any more",
        details: [("detector", detector), ("reason", how)]))
    var moment = timespec()
    clock_gettime(CLOCK_REALTIME, &moment)
    let now = Finding.Moment(guest: nil, utc: Double(moment.tv_sec))
    let content = LoggedFinding.content(SuspendedDetector.finding(about: detector, how, at: now))
    open[content.identity] = Open(content: content, title: "", isHanded: true)
    outgoing.append(content)
  }

  private func take(_ frame: LookFrame, at now: ContinuousClock.Instant) {
    /// A detector's name, and what is said of it.
    func parts() -> (name: String, reason: String) {
      let parts = frame.text.split(separator: ":", maxSplits: 1)
      return (String(parts.first ?? ""), String(parts.dropFirst().first ?? "").trimmingPrefix { $0 == " " }.description)
    }
    switch frame.kind {
    case .asks:
      asked = frame.text
      deadline = now + Self.patience
    case .finding:
      let size = MemoryLayout<grass_finding_content>.size
      guard frame.bytes.count >= size else { return }
      let content = frame.bytes.withUnsafeBytes { $0.loadUnaligned(as: grass_finding_content.self) }
      guard content.identity != 0, found.count < Int(region.layout.header.open_count) else { return }
      found[content.identity] = (content, String(decoding: frame.bytes[size...], as: UTF8.self))
    case .lacks:
      blind.insert(parts().name)
      say(
        .notice, "a detector cannot look on this kernel", ["detector": parts().name, "reason": parts().reason],
        once: true)
    case .failed:
      let (name, reason) = parts()
      blind.insert(name)
      strikes[name, default: 0] += 1
      say(.warning, "a detector could not look", ["detector": name, "reason": reason], once: true)
      if strikes[name, default: 0] >= Self.mostStrikes {
        suspend(name, "it could not look \(Self.mostStrikes) times: \(reason)")
      }
    case .partial: blind.insert(parts().name)
    case .note: say(.warning, frame.text, [:], once: true)
    case .end: endLook(at: now)
    case .look: break
    }
  }

  private func endLook(at now: ContinuousClock.Instant) {
    isLooking = false
    asked = ""
    for name in strikes.keys where !blind.contains(name) { strikes[name] = nil }
    var misses = false
    // What others follow from comes before them, so that who reads the log knows it by then.
    let ordered = found.sorted { ($0.value.content.causes.0, $0.key) < ($1.value.content.causes.0, $1.key) }
    for (identity, (content, title)) in ordered {
      let isLink = content.detector != GRASS_DETECTOR_NAMED.rawValue
      guard var known = open[identity] else {
        // What the device looks for by itself it says by itself, unless it has not by the next look.
        let waits = !isLink && DeviceDetectors.areAskedByDevices(content.detectorName)
        open[identity] = Open(content: content, title: title, isHanded: !waits)
        if waits { misses = true } else { change(content, title, isLink) }
        continue
      }
      let isChange = !known.isHanded || known.content.isOther(than: content)
      known.content = content
      known.title = title
      known.missed = 0
      if isChange {
        change(content, title, isLink)
      } else if outgoing.count < Self.mostOutgoing / 4, !isLink {
        // For the table of open findings, which says when it was seen last.
        outgoing.append(content)
      }
      known.isHanded = true
      open[identity] = known
    }
    for (identity, var known) in open where found[identity] == nil {
      let name = known.content.detectorName
      guard known.content.detector == GRASS_DETECTOR_NAMED.rawValue else {
        open[identity] = nil
        continue
      }
      if blind.contains(name) || suspended.contains(name) || name == SuspendedDetector.name { continue }
      known.missed += 1
      open[identity] = known
      misses = true
      guard known.missed >= 2 else { continue }
      open[identity] = nil
      guard known.isHanded else { continue }
      known.content.state = UInt8(GRASS_FINDING_CLOSED.rawValue)
      outgoing.append(known.content)
      report(.init(weight: .notice, text: "closed: \(known.title)", details: [("detector", name)]))
    }
    // What begins or ends is looked at sooner.
    due = now + (misses ? min(period, Self.soon) : period)
    hand()
  }

  private func change(_ content: grass_finding_content, _ title: String, _ isLink: Bool) {
    if outgoing.count < Self.mostOutgoing { outgoing.append(content) }
    guard !isLink else { return }
    let weight: ServerEvent.Weight =
      content.severity >= UInt8(GRASS_SEVERITY_CRITICAL.rawValue)
      ? .error : content.severity == UInt8(GRASS_SEVERITY_WARNING.rawValue) ? .warning : .notice
    report(.init(weight: weight, text: "found: \(title)", details: [("detector", content.detectorName)]))
  }

  private func say(_ weight: ServerEvent.Weight, _ text: String, _ details: [String: String], once: Bool) {
    let details = details.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
    guard !once || said.insert("\(text) \(details.first?.value ?? "")").inserted else { return }
    report(.init(weight: weight, text: text, details: details))
  }

  // MARK: The device

  /// Hands over as much as there is room for.
  private func hand() {
    while let first = outgoing.first, device.hand(first) { outgoing.removeFirst() }
  }

  /// Looks closer at once at what the device has found.
  private func watchDevice(at now: ContinuousClock.Instant) {
    let offset = region.layout.beaconOffset + (MemoryLayout<grass_beacon>.offset(of: \.newest_finding) ?? 0)
    // A region in a device's memory that cannot be copied any more is the device's failure, which is looked for elsewhere.
    guard let number = device.newestFinding() ?? (try? region.word(at: offset)), number != newest else { return }
    newest = number
    let now = now + (isLooking ? Self.rest : .zero)
    let seen = Set(
      records().filter { $0.record.detector != GRASS_DETECTOR_NAMED.rawValue }.map {
        Alarm(identity: $0.record.identity, severity: $0.record.severity)
      })
    if !seen.isSubset(of: alarms) { due = min(due, now) }
    alarms = seen
  }

  /// The open findings, as the region has them.
  private func records() -> [(record: FindingRecord, bytes: [UInt8])] {
    let header = region.layout.header
    var bytes = [UInt8](repeating: 0, count: Int(header.open_count) * Int(header.open_size))
    let isRead = bytes.withUnsafeMutableBytes { buffer in
      do throws(RegionError) {
        try region.load(into: buffer, at: Int(header.open_offset))
        return true
      } catch {
        return false
      }
    }
    guard isRead else { return [] }
    let group = region.layout.hasKeys ? GroupKeys(device.groupKeys()) : nil
    return (0..<Int(header.open_count)).compactMap { index in
      let start = index * Int(header.open_size)
      var entry = Array(bytes[start..<start + FindingRecord.size])
      if let group { _ = entry.withUnsafeMutableBytes { group.openFinding($0, kind: GRASS_GROUP_OPEN) } }
      return entry.withUnsafeBytes { FindingRecord($0) }.map { ($0, entry) }
    }
  }
}

extension grass_finding_content {
  /// The name of its detector, where it has one.
  fileprivate var detectorName: String {
    withUnsafeBytes(of: name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  /// Whether what the log says of it differs.
  fileprivate func isOther(than later: grass_finding_content) -> Bool {
    severity != later.severity || confidence != later.confidence || state != later.state || causes != later.causes
  }
}
