import ArgumentParser
import Detection
import FoundationEssentials
import Glibc
import KernelViews
import Links
import Output
import Records
import Remote

/// Follows what a device finds out.
struct WatchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "watch", abstract: "Follows what the device finds out about the host, as it happens.",
    discussion: """
      First what is open and what the device's log still has, in order; then each change as it comes. One read of 64 bytes \
      every --interval tells whether there is news. When the link ends, that is said, and it is made again. Needs \
      grassd --detectors, or --check. Of what grassd itself found by its detectors of a check, the log has ids, subjects and \
      values; --check has the whole sentence and all evidence.
      """)

  @Option(help: "The host's URL, as printed by grassd.")
  var host: String

  @Flag(help: "Print each change as JSON, one a line.")
  var json = false

  @Option(name: .shortAndLong, help: "Seconds between two looks at whether there is news.")
  var interval: Double = 0.5

  @Flag(help: "Print what the log has, and end.")
  var once = false

  @Option(
    help: ArgumentHelp(
      "Ask all detectors of check, too, every so many seconds, and when the device found something.",
      valueName: "seconds"))
  var check: Double?

  @Option(
    help: ArgumentHelp(
      "Run this by the shell for each finding of warning or more; it is given as JSON on standard input.",
      valueName: "command"))
  var exec: String?

  @Option(
    help: ArgumentHelp(
      "POST the JSON of each change to this address. What is not taken is tried again; what waits too long is dropped, and said to be.",
      valueName: "url"))
  var webhook: String?

  @Option(
    help: ArgumentHelp(
      """
      Take an image of the host's memory for the first such finding of a boot, before anybody reboots it: names of detectors, or \
      hang for those by which CPUs stand still; needs --dump-to.
      """, valueName: "panic,hang,…"))
  var dumpOn: DumpReasons?

  @Option(help: ArgumentHelp("Where images go: DETECTOR-TIME.kdump in this folder.", valueName: "folder"))
  var dumpTo: String?

  @Option(help: "What such an image has: crash the kernel's own data, evidence everything.")
  var dumpProfile = DumpProfile.crash

  @Option(help: "Seconds to wait for an answer of the host before giving up.")
  var timeout: Double = 5

  func validate() throws {
    if (dumpOn == nil) != (dumpTo == nil) {
      throw ValidationError(
        "--dump-on says for which findings an image is taken, and --dump-to where it goes: give both.")
    }
    if let dumpTo, access(dumpTo, W_OK | X_OK) != 0 {
      throw ValidationError("--dump-to \(dumpTo): \(String(cString: strerror(errno)))")
    }
    if !(interval >= 0.001 && interval < 3600) { throw ValidationError("--interval takes seconds, from 0.001 on.") }
    if let check, !(check >= 1 && check < 86400) { throw ValidationError("--check takes seconds, from 1 on.") }
    if let webhook, !Webhook.takes(webhook) { throw ValidationError("--webhook takes an address, http://HOST/PATH.") }
  }

  func run() throws {
    let hook = try webhook.flatMap { URL(string: $0) }.map { url in try Webhook(url) { writeNote($0) } }
    defer { hook?.finish(within: 10) }
    var read: UInt64 = 0
    var isFirst = true
    var isSaid = false
    let taker = dumpOn.map { reasons in
      ImageTaker(
        host, on: reasons, to: dumpTo ?? ".", options: ["--profile", dumpProfile.rawValue, "--format", "kdump"])
    }
    defer { taker?.finish() }
    var looks = Looks(hook: hook, taker: taker)
    while true {
      do {
        let session = try HostOptions.session(host, timeout: timeout, slots: 1)
        // Only a device that answers is there again.
        let info = try session.info()
        if isSaid { writeNote("connected to \(host) again") }
        isSaid = false
        answer(&looks)
        guard check != nil || info.features.contains(.findings) else {
          writeNote("\(host): the device looks for nothing; start grassd with --detectors")
          throw ExitStatus.unreadable
        }
        try follow(session, &read, &isFirst, &looks)
        return
      } catch let error as ExitCode {
        throw error
      } catch {
        if !isSaid { writeNote("\(error)") }
        if isFirst, !(error is Silence) { throw ExitStatus.unreachable }
        miss("\(error)", &looks)
        isSaid = true
        usleep(UInt32(min(interval, 1) * 1e6))
      }
    }
  }

  /// Prints news until the link ends.
  private func follow(
    _ session: Session, _ read: inout UInt64, _ isFirst: inout Bool, _ looks: inout Looks
  ) throws {
    var ticks: UInt64?
    var quiet = 0.0
    var counter: (value: UInt64, since: ContinuousClock.Instant)?
    looks.due = .now
    while true {
      let line = try session.line(within: .seconds(min(timeout, Self.patience)))
      // Memory that is shared can be read also where nobody writes it any more.
      let now = ContinuousClock.now
      if counter?.value != line.counter { counter = (line.counter, now) }
      if let since = counter?.since, now - since >= .seconds(Self.patience) {
        throw Silence(host: host, time: now - since)
      }
      if line.newestFinding < read {
        writeNote("the device began anew: its log has \(line.newestFinding) changes, and \(read) were read")
        read = 0
      }
      let news = try session.findings(after: read, upTo: line.newestFinding)
      if news.missed > 0 {
        writeNote("the log has lost \(news.missed) changes before they were read; what is still open follows")
        for record in try session.openFindings()
        where !news.findings.contains(where: { $0.identity == record.identity }) {
          try say(record, session, &looks)
        }
      }
      // What one follows from may come behind it.
      for record in news.findings { looks.ids[record.identity] = DeviceDetectors.finding(record).id }
      for record in news.findings { try say(record, session, &looks) }
      read = news.newest
      if isFirst, !once {
        writeNote(
          "watching \(host): \(line.open == 0 ? "nothing is" : line.open == 1 ? "1 finding is" : "\(line.open) findings are") open"
        )
      }
      isFirst = false
      // What the device finds starts the deeper look at once.
      if let check, looks.due <= .now || !news.findings.isEmpty {
        try look(session, &looks)
        looks.due = .now + .seconds(check)
      }
      if once { return }
      // Silence of the device's detectors is news, too.
      if let before = ticks, before == line.detectorTick {
        quiet += interval
      } else {
        quiet = 0
        if ticks != nil { answer(&looks) }
      }
      if quiet >= 10, quiet - interval < 10 { miss("its detectors have not looked for \(Int(quiet)) s", &looks) }
      ticks = line.detectorTick
      if line.state == .stopped {
        writeNote("the device was stopped")
        miss("it was stopped", &looks)
        throw ExitStatus.unreachable
      }
      usleep(UInt32(interval * 1e6))
    }
  }

  /// How long a look at the line may take, and how long the line may stand still, in seconds: a device writes it a thousand
  /// times a second.
  private static let patience = 0.75

  /// A device that does not write its line any more.
  private struct Silence: Error, CustomStringConvertible {
    let host: String
    let time: Duration

    var description: String {
      "\(host): the device has said nothing for \(Int(time / .milliseconds(1))) ms; see whether its grassd still runs"
    }
  }

  /// What was found so far.
  private struct Looks {
    var due = ContinuousClock.now
    /// What checks have found and is not over, and how many looks have missed it since.
    var open: [String: (finding: Finding, missed: Int)] = [:]
    /// The ids of the log's findings by their identities, for what others follow from.
    var ids: [UInt64: String] = [:]
    /// What was said last of those that the log has.
    var logged: [String: Finding] = [:]
    /// That the device is silent, as long as it is.
    var silence: Finding?
    let hook: Webhook?
    let taker: ImageTaker?

    init(hook: Webhook?, taker: ImageTaker?) { (self.hook, self.taker) = (hook, taker) }
  }

  /// Asks all detectors, joins what they find to what the device has found, and says what is new and what is no more.
  private func look(_ session: Session, _ looks: inout Looks) throws {
    let memory = try RemoteMemory(session: session)
    let kernel: Kernel
    do throws(KernelError) {
      kernel = try Kernel(memory: memory, hint: memory.kernelHint, known: .standard())
    } catch {
      // A host that boots has none yet.
      if error.isOfSource { throw error }
      writeNote("\(error)")
      return
    }
    var check = Check()
    if try session.info().features.contains(.findings) {
      check.device = try session.openFindings().map {
        DeviceDetectors.finding($0, kernel: kernel.release, others: looks.ids)
      }
    }
    let report = check.run(on: kernel) { usleep(UInt32($0 / .microseconds(1))) }
    for failure in report.failures { writeNote("\(failure.detector) could not look: \(failure.reason)") }
    let inLog = Set(check.device.map(\.id))
    for finding in report.findings {
      let before = looks.open[finding.id]?.finding ?? looks.logged[finding.id]
      // What the log has said is said again where a closer look has more to say.
      if before?.severity != finding.severity || before?.causes != finding.causes
        || (looks.open[finding.id] == nil && before?.title != finding.title)
      {
        say(finding, looks)
      }
    }
    let now = Set(report.findings.map(\.id))
    let blind = Set(report.failures.map(\.detector) + report.partial.map(\.detector))
    for (id, gone) in looks.open where !now.contains(id) && !blind.contains(gone.finding.detector) {
      looks.open[id]?.missed += 1
      guard gone.missed > 0 else { continue }
      looks.open[id] = nil
      // The log says by itself when what it has is over.
      guard looks.logged[id] == nil else { continue }
      var finding = gone.finding
      finding.state = .closed
      say(finding, looks)
    }
    for finding in report.findings {
      // What only the device has found is the log's.
      if inLog.contains(finding.id), !report.asked.contains(finding.id) {
        looks.logged[finding.id] = finding
      } else {
        looks.open[finding.id] = (finding, 0)
      }
    }
  }

  private static var utc: Double {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
  }

  /// Silence is a finding, once.
  private func miss(_ how: String, _ looks: inout Looks) {
    guard looks.silence == nil else { return }
    let silence = SilentDevice.finding(of: host, how, first: Self.utc, at: Self.utc)
    looks.silence = silence
    say(silence, looks)
  }

  /// The device answers: where it was silent, that is over.
  private func answer(_ looks: inout Looks) {
    guard var silence = looks.silence else { return }
    looks.silence = nil
    silence.state = .closed
    silence.last.utc = Self.utc
    say(silence, looks)
  }

  /// Says what the log has of a finding, and which last words the device has kept of it, which takes it a moment longer.
  private func say(_ record: FindingRecord, _ session: Session, _ looks: inout Looks) throws(SessionError) {
    var finding = DeviceDetectors.finding(record, others: looks.ids)
    if LastWordsReport.areKept(of: record), finding.state != .closed, session.keepsWords {
      for _ in 0..<10 {
        if let head = LastWordsReport.head(of: record, among: try session.lastWords()) {
          finding.evidence.append(LastWordsReport.evidence(head))
          break
        }
        usleep(20_000)
      }
    }
    looks.ids[record.identity] = finding.id
    looks.logged[finding.id] = finding.state == .closed ? nil : finding
    say(finding, looks)
  }

  private func say(_ finding: Finding, _ looks: Looks) {
    var bytes: [UInt8] = []
    JSON(finding.value).write(to: &bytes)
    if json {
      writeOutput(bytes + [UInt8(ascii: "\n")])
    } else {
      let when = finding.last.guest.map { "[\(Self.padded($0))] " } ?? ""
      let state = finding.state == .closed ? "closed: " : finding.causes.isEmpty ? "" : "(follows) "
      writeOutput(
        "\(when)\(finding.severity.rawValue.uppercased()) \(finding.kind.rawValue), \(finding.confidence.rawValue): "
          + "\(state)\(finding.title)\n")
      for words in finding.evidence where words.what.hasPrefix("last words") {
        writeOutput("    \(words.text)\n")
      }
    }
    looks.taker?.see(finding)
    looks.hook?.post(bytes)
    if let exec, finding.severity >= .warning, finding.state != .closed, let pipe = popen(exec, "w") {
      fwrite(bytes, 1, bytes.count, pipe)
      pclose(pipe)
    }
  }

  /// Seconds as dmesg writes them.
  private static func padded(_ nanoseconds: UInt64) -> String {
    let whole = String(nanoseconds / 1_000_000_000)
    let fraction = String(nanoseconds / 1000 % 1_000_000)
    return String(repeating: " ", count: max(0, 5 - whole.count)) + whole + "."
      + String(repeating: "0", count: 6 - fraction.count) + fraction
  }
}
