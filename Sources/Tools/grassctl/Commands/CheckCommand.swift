import ArgumentParser
import Detection
import FoundationEssentials
import Glibc
import Output
import Records
import Remote

/// Asks all detectors about a host or an image.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Finds out what is wrong with the host, and says why.",
    discussion: """
      Asks every detector of faults and of attacks. What only lasts is looked at twice, --pause seconds apart; of an image, one \
      look is all there is. What follows from another finding stands below it. Exit status 5: there is a finding of warning or \
      critical. Of a host whose device has detectors, what these have found is told, too.
      """)

  @OptionGroup var source: SourceOptions

  @Flag(help: "Print a JSON array for programs, one finding a line.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Print a line of JSON for each finding, in the form of another program: ocsf or falco.", valueName: "form"),
    transform: { text in
      guard let format = FindingFormat(rawValue: text) else { throw ValidationError("there is no form \(text)") }
      return format
    })
  var format: FindingFormat?

  @Option(help: "Seconds between the two looks.")
  var pause: Double = 1

  @Option(
    help: ArgumentHelp(
      "Only findings of at least this severity: info, notice, warning or critical.", valueName: "severity"),
    transform: { text in
      guard let severity = Finding.Severity(rawValue: text) else {
        throw ValidationError("there is no severity \(text)")
      }
      return severity
    })
  var severity: Finding.Severity = .info

  @Option(
    parsing: .singleValue,
    help: ArgumentHelp("Ask only this detector; may be given more than once.", valueName: "detector"))
  var detector: [String] = []

  @Option(
    help: ArgumentHelp(
      "Compare the host with what was learned in this file; where it is not there, learn, print what, and make it.",
      valueName: "file"), completion: .file())
  var baseline: String?

  @Option(
    help: ArgumentHelp(
      "Leave out attacks and changes that this file allows: a JSON array of rules, each with a day on which it expires.",
      valueName: "file"), completion: .file())
  var allow: String?

  func validate() throws {
    if json, format != nil { throw ValidationError("--json and --format exclude each other.") }
    if !(pause >= 0 && pause < 3600) { throw ValidationError("--pause takes seconds, from 0 on.") }
    for name in detector where Detectors.detector(named: name) == nil {
      throw ValidationError("There is no detector \(name); grassctl detectors names them.")
    }
  }

  func run() throws {
    let kernel = try source.openKernel()
    var check = Check(pause: .seconds(pause))
    if !detector.isEmpty { check.detectors = Detectors.all.filter { detector.contains($0.name) } }
    if let allow {
      check.allowances = try Allowance.rules(file: allow)
      check.today = Allowance.today
      for rule in check.allowances where rule.expires < check.today {
        writeNote("a rule of \(allow) has expired on \(rule.expires)\(rule.reason.map { ": \($0)" } ?? "")")
      }
    }
    var words: [String: LastWords.Head] = [:]
    if let memory = kernel.memory as? RemoteMemory {
      let found = try reporting { try Self.deviceFindings(memory.session, kernel: kernel.release) }
      check.device = found.findings.filter { detector.isEmpty || detector.contains($0.detector) }
      words = found.words
    }
    let learns = baseline.map { !FileManager.default.fileExists(atPath: $0) } ?? false
    if let baseline, !learns { check.baseline = try Baseline(file: baseline) }
    let report = check.run(on: kernel) { usleep(UInt32($0 / .microseconds(1))) }
    let findings = report.findings.filter { $0.severity >= severity }.map { finding in
      var finding = finding
      if let head = words[finding.detector] { finding.evidence.append(LastWordsReport.evidence(head)) }
      return finding
    }
    if let format {
      for finding in findings {
        var line: [UInt8] = []
        JSON(format.value(finding)).write(to: &line)
        writeOutput(line + [UInt8(ascii: "\n")])
      }
    } else if json {
      writeOutput(JSON.lines(findings.map { JSON($0.value) }))
    } else {
      writeOutput(FindingText.list(findings, isColoured: Terminal.takesColour))
    }
    if !report.allowed.isEmpty {
      writeNote("\(report.allowed.count) more allowed, for example: \(report.allowed[0].title)")
    }
    hintAtModules(check.allowances, report.findings, Look(at: kernel))
    for failure in report.failures { writeNote("\(failure.detector) could not look: \(failure.reason)") }
    for part in report.partial { writeNote("\(part.detector) saw only a part: \(part.reason)") }
    if !report.unconfirmed.isEmpty {
      writeNote(
        "\(report.unconfirmed.count) more \(report.unconfirmed.count == 1 ? "thing was" : "things were") seen in one look "
          + "and not in the other, for example: \(report.unconfirmed[0].title)")
    }
    if !json, format == nil, findings.isEmpty {
      writeNote(
        "\(check.detectors.count - report.failures.count) of \(check.detectors.count) detectors looked and found nothing"
      )
    }
    if let baseline, learns {
      let (learned, failures) = try Baseline.learned(from: Look(at: kernel), check.detectors)
      try learned.write(to: baseline)
      for line in learned.lines { writeNote(line) }
      for failure in failures { writeNote("\(failure.detector) could not learn: \(failure.reason)") }
    }
    if report.findings.contains(where: { $0.severity >= .warning }) { throw ExitStatus.found }
    if !report.failures.isEmpty || !report.partial.isEmpty { throw ExitStatus.partial }
  }
}

extension CheckCommand {
  /// Says what a rule has to have that is about a module that was found: nobody could know the digest of its text otherwise.
  private func hintAtModules(_ rules: [Allowance], _ findings: [Finding], _ look: Look) {
    guard allow != nil else { return }
    for finding in findings where finding.kind != .fault {
      for case .module(let address, let name) in finding.subjects {
        guard let build = try? look.buildID(ofModule: address), let text = try? look.textDigest(ofModule: address)
        else {
          continue
        }
        writeNote(
          "a rule for module \(String(decoding: name, as: UTF8.self)) has moduleBuildID \(build) and moduleTextDigest \(text)"
        )
      }
    }
  }

  /// What the device has found by itself and not closed, and by the names of detectors the last words that it kept then.
  private static func deviceFindings(
    _ session: Session, kernel: String
  ) throws(SessionError) -> (findings: [Finding], words: [String: LastWords.Head]) {
    guard try session.info().features.contains(.findings) else { return ([], [:]) }
    let records = try session.openFindings()
    let findings = records.map { DeviceDetectors.finding($0, kernel: kernel) }
    var words: [String: LastWords.Head] = [:]
    let heads = records.contains(where: LastWordsReport.areKept) ? try session.lastWords() : []
    for (record, finding) in zip(records, findings) where LastWordsReport.areKept(of: record) {
      words[finding.detector] = LastWordsReport.head(of: record, among: heads)
    }
    return (findings, words)
  }
}

/// Findings as people read them.
enum FindingText {
  static func list(_ findings: [Finding], isColoured: Bool) -> String {
    var text = ""
    for finding in findings {
      let indent = finding.causes.isEmpty ? "" : "    "
      let severity = finding.severity.rawValue.uppercased()
      let colour =
        switch finding.severity {
        case .critical: "\u{1b}[1;31m"
        case .warning: "\u{1b}[33m"
        default: ""
        }
      let label = isColoured && !colour.isEmpty ? "\(colour)\(severity)\u{1b}[0m" : severity
      text += "\(indent)\(label) \(finding.kind.rawValue), \(finding.confidence.rawValue): \(finding.title)\n"
      for evidence in finding.evidence { text += "\(indent)    \(evidence.text)\n" }
      if !finding.techniques.isEmpty { text += "\(indent)    ATT&CK: \(finding.techniques.joined(separator: ", "))\n" }
      if finding.causes.isEmpty { text += "\(indent)    next: \(finding.remedy)\n" }
      text += "\(indent)    id: \(finding.id)\n"
    }
    return text
  }
}
