import ArgumentParser
import Detection
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
      grassd --detectors, or --check.
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

  @Option(help: "Seconds to wait for an answer of the host before giving up.")
  var timeout: Double = 5

  func validate() throws {
    if !(interval >= 0.001 && interval < 3600) { throw ValidationError("--interval takes seconds, from 0.001 on.") }
    if let check, !(check >= 1 && check < 86400) { throw ValidationError("--check takes seconds, from 1 on.") }
  }

  func run() throws {
    var read: UInt64 = 0
    var isFirst = true
    var isSaid = false
    var looks = Looks()
    while true {
      do {
        let session = try Session(to: try LinkAddress(host), timeout: .seconds(timeout))
        if isSaid { writeNote("connected to \(host) again") }
        isSaid = false
        let info = try session.info()
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
        if isFirst { throw ExitStatus.unreachable }
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
    looks.due = .now
    while true {
      let line = try session.line()
      if line.newestFinding < read {
        writeNote("the device began anew: its log has \(line.newestFinding) changes, and \(read) were read")
        read = 0
      }
      let news = try session.findings(after: read, upTo: line.newestFinding)
      if news.missed > 0 {
        writeNote("the log has lost \(news.missed) changes before they were read; what is still open follows")
        for record in try session.openFindings()
        where !news.findings.contains(where: { $0.identity == record.identity }) {
          say(record)
        }
      }
      for record in news.findings { say(record) }
      read = news.newest
      isFirst = false
      // What the device finds starts the deeper look at once.
      if let check, looks.due <= .now || !news.findings.isEmpty {
        try look(session, &looks)
        looks.due = .now + .seconds(check)
      }
      if once { return }
      // Silence of the device's detectors is news, too.
      if let before = ticks, before == line.detectorTick { quiet += interval } else { quiet = 0 }
      if quiet >= 10, quiet - interval < 10 { writeNote("the device's detectors have not looked for \(Int(quiet)) s") }
      ticks = line.detectorTick
      if line.state == .stopped {
        writeNote("the device was stopped")
        throw ExitStatus.unreachable
      }
      usleep(UInt32(interval * 1e6))
    }
  }

  /// What checks have found so far.
  private struct Looks {
    var due = ContinuousClock.now
    var open: [String: Finding] = [:]
  }

  /// Asks all detectors, and says what is new and what is no more.
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
    let report = Check().run(on: kernel) { usleep(UInt32($0 / .microseconds(1))) }
    for failure in report.failures { writeNote("\(failure.detector) could not look: \(failure.reason)") }
    for finding in report.findings where looks.open[finding.id]?.severity != finding.severity { say(finding) }
    let now = Set(report.findings.map(\.id))
    let blind = Set(report.failures.map(\.detector))
    for var gone in looks.open.values where !now.contains(gone.id) && !blind.contains(gone.detector) {
      gone.state = .closed
      say(gone)
    }
    looks.open = looks.open.filter { blind.contains($0.value.detector) }
    for finding in report.findings { looks.open[finding.id] = finding }
  }

  private func say(_ record: FindingRecord) { say(DeviceDetectors.finding(record)) }

  private func say(_ finding: Finding) {
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
    }
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
