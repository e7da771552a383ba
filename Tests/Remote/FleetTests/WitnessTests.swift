import Foundation
import Glibc
import Host
import Logging
import Scratch
import Testing

@testable import Fleet

/// The second witness: what a Prometheus knows of the hosts' own agents.
struct WitnessTests {
  private func agents(_ text: String, label: String = "instance") throws -> [String: Bool] {
    try AgentWitness.agents(in: Array(text.utf8), label: label)
  }

  @Test func anAnswerTellsOfEachHost() throws {
    let answer = """
      {"status": "success", "data": {"resultType": "vector", "result": [
        {"metric": {"__name__": "up", "instance": "a:9100", "host": "x"}, "value": [1.5, "1"]},
        {"metric": {"__name__": "up", "instance": "b", "host": "y"}, "value": [1.5, "0"]},
        {"metric": {"__name__": "up", "instance": "b:9256", "host": "y"}, "value": [1.5, "1"]},
        {"metric": {"__name__": "up", "instance": "[::1]:9100", "host": "z"}, "value": [1.5, "0"]},
        {"metric": {"__name__": "up", "job": "node"}, "value": [1.5, "1"]},
        {"metric": {"instance": "c"}, "value": [1.5, "NaN"]}
      ]}}
      """
    #expect(try agents(answer) == ["a": true, "b": true, "[::1]": false, "c": false])
    #expect(try agents(answer, label: "host") == ["x": true, "y": true, "z": false])
  }

  /// What is no answer is none, and the reason is said in words.
  @Test(arguments: [
    ("", "otherwise"), ("{}", "otherwise"), ("[1]", "otherwise"), ("<html>", "otherwise"),
    (
      "{\"status\": \"error\", \"errorType\": \"bad_data\", \"error\": \"parse error\\nat char 3\"}",
      "parse error at char 3"
    ),
    ("{\"status\": \"success\", \"data\": {\"resultType\": \"scalar\", \"result\": []}}", "gives a scalar"),
    (
      "{\"status\": \"success\", \"data\": {\"resultType\": \"vector\", \"result\": [{\"metric\": {}, \"value\": [{}]}]}}",
      "otherwise"
    ),
  ]) func whatIsNoAnswerIsNone(_ text: String, _ words: String) {
    let failure = #expect(throws: AgentWitness.Failure.self) { try agents(text) }
    #expect(failure?.description.contains(words) == true, "\(failure?.description ?? "")")
  }

  /// A real Prometheus scrapes an agent of each of two hosts, of which one is dead; then the other's device goes, then its agent, and at
  /// last Prometheus itself.
  @Test func aRealPrometheusTellsADeadAgentFromADeadHost() async throws {
    let scratch = try Scratch()
    let (first, second) = (
      try StandInDevice(path: scratch.file("a")), try StandInDevice(path: scratch.file("b"))
    )
    defer { for one in [first, second] { one.stop() } }
    let (agentPort, web) = (RunningProgram.freePort(), RunningProgram.freePort())
    let agent = try RunningProgram(
      "/usr/bin/python3",
      [
        "-c",
        """
        import http.server, sys
        class Agent(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200); self.send_header("Content-Type", "text/plain; version=0.0.4"); self.end_headers()
                self.wfile.write(b"x 1\\n")
            def log_message(self, *words): pass
        http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Agent).serve_forever()
        """, "\(agentPort)",
      ], log: scratch.file("agent.log"))
    try scratch.write(
      """
      global: {scrape_interval: 2s, scrape_timeout: 2s}
      scrape_configs:
        - job_name: node
          static_configs:
            - {targets: ["127.0.0.1:\(agentPort)"], labels: {host: a}}
            - {targets: ["127.0.0.1:1"], labels: {host: b}}
      """, to: "prometheus.yml")
    let prometheus = try RunningProgram(
      "/usr/bin/prometheus",
      [
        "--config.file=\(scratch.file("prometheus.yml"))", "--storage.tsdb.path=\(scratch.file("tsdb"))",
        "--web.listen-address=127.0.0.1:\(web)",
      ], log: scratch.file("prometheus.log"))
    defer { for one in [agent, prometheus] { one.stop() } }
    var configuration = FleetConfiguration()
    configuration.keys = scratch.path
    configuration.detectorsEvery = 0
    configuration.timeout = 1
    configuration.witness = .init(
      prometheus: "http://127.0.0.1:\(web)", query: "up{job=\"node\"}", label: "host", period: 1)
    configuration.hosts = [("a", first), ("b", second)].map {
      .init(name: $0.0, url: "shm://\($0.1.path)", labels: [:], period: 0.1)
    }
    let watch = try FleetWatch(
      configuration, store: FleetStore(path: scratch.file("fleet.db")),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try watch.start()
    defer { watch.stop() }
    func states(_ a: HostState, _ b: HostState, when isSo: () -> Bool = { true }) async throws -> Bool {
      for _ in 0..<1200 {
        if watch.report("a")?.standing.state == a, watch.report("b")?.standing.state == b, isSo() { return true }
        try await Task.sleep(for: .milliseconds(50))
      }
      return false
    }
    func told() -> String {
      "\(watch.reports().map { ($0.standing, $0.isAgentUp) }) \(String(describing: watch.witnessWorks)); \(prometheus.said.suffix(2000))"
    }
    // Prometheus looks at one agent before it looks at the other.
    #expect(
      try await states(.alive, .agentDead) {
        watch.report("a")?.isAgentUp == true && watch.report("b")?.isAgentUp == false && watch.witnessWorks == true
      }, "\(told())")
    // A device that says nothing any more, of a host whose agent answers.
    first.stop()
    #expect(try await states(.unseen, .agentDead), "\(told())")
    agent.stop()
    #expect(try await states(.silent, .agentDead), "\(told())")
    // Who knows nothing says nothing.
    prometheus.stop()
    #expect(
      try await states(.silent, .alive) { watch.witnessWorks == false && watch.report("b")?.isAgentUp == nil },
      "\(told())")
    let metrics = MetricsText.fleet(
      watch.reports(), version: "1", followers: 0, steps: (0, 0), failedWrites: 0, hasProblem: false,
      witnessWorks: watch.witnessWorks)
    #expect(metrics.contains("\ngrass_witness_up 0\n") && !metrics.contains("\ngrass_agent_up{"))
  }
}
