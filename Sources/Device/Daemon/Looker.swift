import CRegion
import Detection
import Glibc
import Host
public import LinuxKernel
import Memory
import Records

/// Asks the detectors of a check about a host, in a process of its own, as often as the daemon says.
///
/// A process of its own, since these detectors read what an intruder may have made to hurt: whatever becomes of it, the daemon, its
/// device and its sessions go on, and know which detector was being asked. It runs at a lower priority than all others.
public struct Looker {
  private let memory: String
  private let known: BuildFolder?
  private let rules: String?
  private let baseline: String?
  private let input: Int32
  private let output: Int32

  /// Takes what the daemon says from `input`, and answers at `output`.
  ///
  /// `rules` is a file of what is allowed, read anew for each look; `baseline` one of what was learned of the host, which is made where it
  /// is not there. Without one, what the host is like is learned in the first look after it has booted, and holds as long as this process.
  public init(
    memory: String, known: BuildFolder?, rules: String? = nil, baseline: String? = nil, input: Int32 = 0,
    output: Int32 = 1
  ) {
    self.memory = memory
    self.known = known
    self.rules = rules
    self.baseline = baseline
    self.input = input
    self.output = output
  }

  /// Behind all that has something to do, and not so far that it never comes to an end on a busy machine.
  private static let niceness: Int32 = 5
  /// What it may take for itself, beside the memory that it maps.
  private static let mostMemory: UInt64 = 4 << 30

  /// How long after its boot a host is taken to be as it is: what starts with it is there by then.
  private static let settled: UInt64 = 60_000_000_000

  /// Answers until nobody asks any more.
  ///
  /// - Throws: where there is no kernel in the memory, or a file is none of those.
  public func run() throws {
    setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, Self.niceness)
    var limit = rlimit(rlim_cur: rlim_t(Self.mostMemory), rlim_max: rlim_t(Self.mostMemory))
    setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit)
    let kernel = try Kernel.open(try MemoryImage.open(memory), known: known)
    for note in kernel.notes { say(.init(.note, note)) }
    if let rules { _ = try Allowance.rules(file: rules) }
    var learned = try baseline.flatMap { access($0, F_OK) == 0 ? try Baseline(file: $0) : nil }
    var buffer: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 65536)
    while true {
      while let frame = try LookFrame.next(in: &buffer) {
        guard frame.kind == .look else { throw LookFrameError() }
        look(kernel, try Request(frame.bytes), learned)
        if learned == nil { learned = learn(kernel) }
      }
      let count = SystemCall.retrying { read(input, &piece, piece.count) }
      guard count > 0 else { return }
      buffer += piece[..<count]
    }
  }

  /// What the daemon asks for.
  struct Request: Equatable {
    /// Detectors that are not to be asked.
    var suspended: Set<String> = []
    /// The device's open findings, as its table has them.
    var records: [FindingRecord] = []
    static let nameSize = 32

    init(suspended: Set<String> = [], records: [FindingRecord] = []) {
      self.suspended = suspended
      self.records = records
    }

    init(_ bytes: [UInt8]) throws(LookFrameError) {
      var rest = bytes[...]
      func word() throws(LookFrameError) -> Int {
        guard rest.count >= 4 else { throw LookFrameError() }
        defer { rest = rest.dropFirst(4) }
        return rest.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
      }
      let names = try word()
      guard names <= rest.count / Self.nameSize else { throw LookFrameError() }
      for _ in 0..<names {
        suspended.insert(String(decoding: rest.prefix(Self.nameSize).prefix { $0 != 0 }, as: UTF8.self))
        rest = rest.dropFirst(Self.nameSize)
      }
      let count = try word()
      guard rest.count == count * FindingRecord.size else { throw LookFrameError() }
      for _ in 0..<count {
        let record = Array(rest.prefix(FindingRecord.size)).withUnsafeBytes { FindingRecord($0) }
        // One that is torn is there in the next look.
        if let record { records.append(record) }
        rest = rest.dropFirst(FindingRecord.size)
      }
    }

    /// As bytes, with the records as the region has them.
    static func encoded(suspended: Set<String>, records: [[UInt8]]) -> [UInt8] {
      func word(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
      return word(suspended.count)
        + suspended.sorted().flatMap { name in
          Array(name.utf8.prefix(nameSize)) + [UInt8](repeating: 0, count: max(0, nameSize - name.utf8.count))
        } + word(records.count) + records.flatMap { $0 }
    }
  }

  /// Where nobody reads any more, there is nothing left to do.
  private func say(_ frame: LookFrame) { if !frame.write(to: output) { exit(0) } }

  /// What the host is like; nil where it has not booted for long enough.
  ///
  /// One that cannot be kept in the file serves this process all the same, and it is said.
  private func learn(_ kernel: Kernel) -> Baseline? {
    let look = Look(at: kernel)
    guard let now = look.moment.guest, now >= Self.settled else { return nil }
    let learned: Baseline
    do {
      learned = try Baseline.learned(from: look).baseline
    } catch {
      // It is learned after the next look, then.
      say(.init(.note, "the host cannot be learned yet: \(error)"))
      return nil
    }
    do throws(DetectionFileError) {
      if let baseline { try learned.write(to: baseline) }
    } catch {
      say(.init(.note, "\(error)"))
    }
    let facts = learned.facts.values.reduce(0) { $0 + $1.count }
    say(.init(.note, "learned \(facts) facts of the host"))
    return learned
  }

  private func look(_ kernel: Kernel, _ request: Request, _ baseline: Baseline?) {
    var check = Check(pause: .seconds(1), alwaysLooksTwice: true, baseline: baseline)
    if let rules {
      do {
        check.allowances = try Allowance.rules(file: rules)
        check.today = Allowance.today
      } catch {
        say(.init(.note, "nothing is allowed in this look: \(error)"))
      }
    }
    check.detectors = Detectors.all.filter { !request.suspended.contains($0.name) }
    check.asks = { [output] detector in if !LookFrame(.asks, detector.name).write(to: output) { exit(0) } }
    let device = request.records.filter { $0.detector != GRASS_DETECTOR_NAMED.rawValue }.map {
      (record: $0, finding: DeviceDetectors.finding($0, kernel: kernel.release))
    }
    check.device = device.map(\.finding)
    let report = check.run(on: kernel) { time in
      SystemCall.sleep(nanoseconds: UInt64(max(0, time / .nanoseconds(1))))
    }
    for (name, reason) in report.failures {
      let isLack = report.lacks.contains(name)
      say(.init(isLack ? .lacks : .failed, "\(name): \(reason)"))
    }
    for (name, reason) in report.partial { say(.init(.partial, "\(name): \(reason)")) }
    let identities = Dictionary(device.map { ($0.finding.id, $0.record.identity) }) { first, _ in first }
    // What stands still after a panic does so because of it, and is no news.
    let panics = Set(report.findings.filter { $0.detector == Panic.name }.map(\.id))
    for finding in report.findings where panics.isDisjoint(with: finding.causes) {
      let twins = device.filter { $0.finding.detector == finding.detector }
      if twins.isEmpty {
        say(finding, LoggedFinding.content(finding, identities: identities))
      } else if !finding.causes.isEmpty {
        // The device has it in the log; what it follows from is what a closer look adds.
        for twin in twins {
          var content = LoggedFinding.content(finding, identities: identities)
          content.identity = twin.record.identity
          content.detector = twin.record.detector
          say(finding, content)
        }
      }
    }
    say(.init(.end))
  }

  private func say(_ finding: Finding, _ content: grass_finding_content) {
    var content = content
    say(.init(.finding, withUnsafeBytes(of: &content) { Array($0) } + Array(finding.title.utf8)))
  }
}
