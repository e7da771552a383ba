import Detection
import Foundation
import Scratch
import Testing

@testable import Fleet

/// What is given to operators, held against the programs that read it.
struct DeploymentTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../../deploy").standardizedFileURL

  /// Runs a program in the folder; fails with what it says where it does not end well.
  private func run(_ program: String, _ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    process.currentDirectoryURL = Self.folder
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(program) \(arguments): \(text)")
  }

  @Test func prometheusTakesItsConfigurationAndRules() throws {
    try run("promtool", ["check", "config", "prometheus/prometheus.yml"])
    try run("promtool", ["test", "rules", "prometheus/alerts.test.yml"])
  }

  @Test func alertmanagerTakesItsConfiguration() throws {
    try run("amtool", ["check-config", "alertmanager/alertmanager.yml"])
  }

  @Test func theExampleIsAConfiguration() throws {
    let (read, problems) = ConfigurationReader.read(contentsOf: Self.folder.appendingPathComponent("fleet.yaml").path)
    #expect(problems.isEmpty && read?.hosts.count == 2, "\(problems)")
  }

  /// Each metric that rules and dashboard go by is one that the service has.
  @Test func rulesAndDashboardKnowTheMetrics() throws {
    var report = HostReport(
      name: "a", url: "", labels: [:], standing: Standing(state: .panic, since: 1, cause: ""), heartbeatAge: 1,
      heartbeats: HeartbeatHistory(),
      open: [
        OpenFinding(
          id: "panic:1", detector: "panic", kind: .fault, severity: .critical, confidence: .proven, title: "", first: 1)
      ], worstSeverity: 4, suspended: 0, missed: 0, seen: 1, taken: 1)
    report.kernel = KernelName(release: "6.12.0", version: "#1 SMP \"x\"", buildID: "ab")
    report.isAgentUp = true
    let text = MetricsText.fleet(
      [report], version: "1", followers: 0, steps: (0, 0), failedWrites: 0, hasProblem: false, witnessWorks: true,
      images: .init())
    #expect(
      text.contains("grass_kernel_info{host=\"a\",release=\"6.12.0\",version=\"#1 SMP \\\"x\\\"\",build_id=\"ab\"} 1"))
    let scratch = try Scratch()
    let file = try scratch.write(text, to: "metrics")
    try run("sh", ["-c", "promtool check metrics < \(file)"])
    let known = Set(
      text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { $0.prefix { $0 != "{" && $0 != " " } })
    for file in ["prometheus/alerts.yml", "grafana/grass-fleet.json"] {
      let used = try String(contentsOf: Self.folder.appendingPathComponent(file), encoding: .utf8)
      for match in used.matches(of: /grass_[a-z_]+/) {
        #expect(known.contains(match.output), "\(file): \(match.output)")
      }
    }
    #expect(throws: Never.self) {
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: Self.folder.appendingPathComponent("grafana/grass-fleet.json")))
    }
  }

  /// Each path that the document names is answered, and each that is answered is named.
  @Test func theDocumentNamesEveryPathOfTheAPI() throws {
    let file = try #require(FleetFile.all.first { $0.name == "openapi.json" })
    let document = try #require(try JSONSerialization.jsonObject(with: Data(file.bytes)) as? [String: Any])
    let paths = try #require(document["paths"] as? [String: [String: Any]])
    let named = Set(paths.flatMap { path, methods in methods.keys.map { "\($0.uppercased()) \(path)" } })
    let source = try String(
      contentsOf: Self.folder.appendingPathComponent("../Sources/Remote/Fleet/HTTP/FleetServer.swift"), encoding: .utf8)
    let answered = Set(
      source.matches(of: /(api|router)\.(get|post)\("([^"]+)"\)/).compactMap { match -> String? in
        let (group, method, place) = (match.output.1, match.output.2.uppercased(), match.output.3)
        let path = place.split(separator: "/").map { $0.hasPrefix(":") ? "{\($0.dropFirst())}" : "\($0)" }
        if group == "api" { return "\(method) /api/v1/\(path.joined(separator: "/"))" }
        // Beside the API, what programs ask with a question.
        return place == "probe" ? "\(method) /probe" : nil
      }.filter { !$0.hasSuffix("openapi.json") })
    #expect(named == answered)
  }
}
