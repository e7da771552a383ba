import ArgumentParser
import Detection
import KernelViews
import Output

/// Lists what is looked for.
struct DetectorsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "detectors", abstract: "Lists what check and a device's detectors look for.",
    discussion: "With --markdown, all that is known of each: what docs/detectors.md is made of.")

  @Flag(help: "Print a JSON array for programs.")
  var json = false

  @Flag(help: "Print the pages of the documentation.")
  var markdown = false

  func run() {
    if markdown { return writeOutput(DetectorPages.text) }
    if json {
      return writeOutput(
        JSON.lines(
          Detectors.all.map { detector in
            JSON(
              ViewValue.object([
                .init("name", detector.name), .init("kind", detector.kind.rawValue), .init("summary", detector.summary),
                .init("rule", detector.rule), .init("looks_like", detector.looksLike),
                .init("remedy", detector.remedy), .init("attack", detector.techniques),
                .init("baseline", detector.baseline.rawValue), .init("asked", DetectorPages.place(of: detector)),
              ]))
          }))
    }
    var table = Table([("DETECTOR", .left), ("KIND", .left), ("ASKED", .left), ("FINDS", .left)])
    for detector in Detectors.all {
      table.add([detector.name, detector.kind.rawValue, DetectorPages.place(of: detector), detector.summary])
    }
    writeOutput(table.text())
  }
}
