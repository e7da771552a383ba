import ArgumentParser
import Detection
import Glibc
import Output

/// Asks all detectors about a host or an image.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Finds out what is wrong with the host, and says why.",
    discussion: """
      Asks every detector of faults and of attacks. What only lasts is looked at twice, --pause seconds apart; of an image, one \
      look is all there is. What follows from another finding stands below it. Exit status 5: there is a finding of warning or \
      critical.
      """)

  @OptionGroup var source: SourceOptions

  @Flag(help: "Print a JSON array for programs, one finding a line.")
  var json = false

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

  func validate() throws {
    if !(pause >= 0 && pause < 3600) { throw ValidationError("--pause takes seconds, from 0 on.") }
    for name in detector where Detectors.detector(named: name) == nil {
      throw ValidationError("There is no detector \(name); grassctl detectors names them.")
    }
  }

  func run() throws {
    let kernel = try source.openKernel()
    var check = Check(pause: .seconds(pause))
    if !detector.isEmpty { check.detectors = Detectors.all.filter { detector.contains($0.name) } }
    let report = check.run(on: kernel) { usleep(UInt32($0 / .microseconds(1))) }
    let findings = report.findings.filter { $0.severity >= severity }
    if json {
      writeOutput(JSON.lines(findings.map { JSON($0.value) }))
    } else {
      writeOutput(FindingText.list(findings, isColoured: Terminal.takesColour))
    }
    for failure in report.failures { writeNote("\(failure.detector) could not look: \(failure.reason)") }
    for part in report.partial { writeNote("\(part.detector) saw only a part: \(part.reason)") }
    if !report.unconfirmed.isEmpty {
      writeNote(
        "\(report.unconfirmed.count) more \(report.unconfirmed.count == 1 ? "thing was" : "things were") seen in one look "
          + "and not in the other, for example: \(report.unconfirmed[0].title)")
    }
    if !json, findings.isEmpty {
      writeNote(
        "\(check.detectors.count - report.failures.count) of \(check.detectors.count) detectors looked and found nothing"
      )
    }
    if report.findings.contains(where: { $0.severity >= .warning }) { throw ExitStatus.found }
    if !report.failures.isEmpty || !report.partial.isEmpty { throw ExitStatus.partial }
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
