import FoundationEssentials
import Host
public import Logging
import Output
import Remote

/// Tells Alertmanagers what is wrong as long as it is, and web servers each change once.
///
/// Nobody is told of a host in maintenance, nor of what somebody has acknowledged.
public final class AlertSender: Sendable {
  private struct State {
    var managers: [Webhook] = []
    var hooks: [Webhook] = []
    /// What is told at the moment, by its labels: since when.
    var active: [String: (labels: [(String, String)], since: Double)] = [:]
    var url = ""
  }

  private let watch: FleetWatch
  private let state = Locked(State())
  private let log: Logger
  /// How often Alertmanagers are told again, in seconds: they take what they do not hear of for five minutes as over.
  private static let again = 60.0

  /// - Throws: ``SystemCallError`` where there can be no threads.
  public init(_ watch: FleetWatch, _ configuration: FleetConfiguration, log: Logger) throws {
    self.watch = watch
    self.log = log
    try reload(configuration)
  }

  /// Tells others from now on.
  public func reload(_ new: FleetConfiguration) throws {
    let log = log
    func make(_ address: String) throws -> Webhook? {
      try URL(string: address).map { url in try Webhook(url) { log.warning("\($0)") } }
    }
    let managers = try new.alertmanagers.compactMap { try make("\($0)/api/v2/alerts") }
    let hooks = try new.webhooks.compactMap { try make($0) }
    let old = state.withLock { state in
      let old = state.managers + state.hooks
      (state.managers, state.hooks, state.url) = (
        managers, hooks, new.url ?? "\(new.tls == nil ? "http" : "https")://\(new.listen)"
      )
      return old
    }
    for one in old { one.finish(within: 1) }
  }

  /// Tells until its task is cancelled or all events are over.
  public func run() async {
    guard let stream = watch.events.follow() else { return }
    await withDiscardingTaskGroup { group in
      group.addTask { [self] in
        for await event in stream { take(event) }
      }
      group.addTask { [self] in
        while !Task.isCancelled, !watch.events.isClosed {
          tell()
          for _ in 0..<Int(Self.again) where !watch.events.isClosed { try? await Task.sleep(for: .seconds(1)) }
        }
      }
    }
  }

  /// Ends, once what waits was told or five seconds are over.
  public func finish() {
    for one in state.withLock({ $0.managers + $0.hooks }) { one.finish(within: 5) }
  }

  private func take(_ event: FleetEvent) {
    // Nobody is called for an image.
    guard event.kind != .image else { return }
    for hook in state.withLock({ $0.hooks }) {
      hook.post(Array("{\"event\": \"\(event.kind.rawValue)\", \"data\": ".utf8) + event.json + Array("}".utf8))
    }
    if event.kind != .problem { tell() }
  }

  /// Tells Alertmanagers all that is wrong, and what is not any more.
  private func tell() {
    let managers = state.withLock { $0.managers }
    guard !managers.isEmpty else { return }
    let now = Moments.utc
    let spared = Set(((try? watch.store.maintenance(now: now)) ?? []).filter { $0.from <= now }.map(\.host))
    var alerts: [(labels: [(String, String)], summary: String, description: String, since: Double)] = []
    let reports = watch.reports().filter { !spared.contains($0.name) }
    let hosts = Dictionary(reports.map { ($0.name, $0) }) { first, _ in first }
    for report in reports where report.standing.state != .alive {
      let severity = report.standing.rank <= HostState.still.rank ? "critical" : "warning"
      alerts.append(
        (
          [
            ("alertname", "GrassHostState"), ("host", report.name), ("state", report.standing.state.rawValue),
            ("severity", severity),
          ]
            + report.labels.sorted { $0.key < $1.key }.map { ($0.key, $0.value) },
          "\(report.name) is \(report.standing.state.rawValue)", report.standing.cause, report.standing.since
        ))
    }
    for finding in (try? watch.store.findings(isOpen: true, now: now, limit: 2000)) ?? [] {
      guard finding.acknowledgement == nil, ["critical", "warning"].contains(finding.severity),
        let report = hosts[finding.host]
      else { continue }
      alerts.append(
        (
          [
            ("alertname", "GrassFinding"), ("host", finding.host), ("detector", finding.detector),
            ("kind", finding.kind),
            ("finding", finding.id), ("severity", finding.severity),
          ] + report.labels.sorted { $0.key < $1.key }.map { ($0.key, $0.value) },
          "\(finding.host): \(finding.detector)", finding.title, finding.first
        ))
    }
    let (url, over) = state.withLock { state -> (String, [(labels: [(String, String)], since: Double)]) in
      var active: [String: (labels: [(String, String)], since: Double)] = [:]
      for alert in alerts { active[Self.key(alert.labels)] = (alert.labels, alert.since) }
      let over = state.active.filter { active[$0.key] == nil }.map(\.value)
      state.active = active
      return (state.url, over)
    }
    var all = alerts.map { alert in
      JSON.object([
        ("labels", Self.object(alert.labels)),
        ("annotations", .object([("summary", .string(alert.summary)), ("description", .string(alert.description))])),
        ("startsAt", .string(Moments.text(min(alert.since, now)))),
        ("generatorURL", .string("\(url)/hosts/\(alert.labels.first { $0.0 == "host" }?.1 ?? "")")),
      ])
    }
    all += over.map { alert in
      .object([
        ("labels", Self.object(alert.labels)), ("startsAt", .string(Moments.text(min(alert.since, now)))),
        ("endsAt", .string(Moments.text(now))),
      ])
    }
    guard !all.isEmpty else { return }
    let bytes = FleetJSON.bytes(.array(all))
    for manager in managers { manager.post(bytes) }
  }

  private static func key(_ labels: [(String, String)]) -> String {
    labels.map { "\($0.0)=\($0.1)" }.joined(separator: "\n")
  }

  private static func object(_ labels: [(String, String)]) -> JSON { .object(labels.map { ($0.0, .string($0.1)) }) }
}
