import Detection
import Host
import Logging
import Output

/// Writes every finding and change of state to files and to syslog, as the configuration says.
public final class EventLogs: Sendable {
  private struct One {
    let log: FleetConfiguration.Log
    let queue: LogQueue
  }

  private let logs = Locked<[One]>([])
  private let events: EventHub
  private let log: Logger

  /// - Throws: ``SystemCallError`` where there can be no threads.
  init(_ configuration: FleetConfiguration, events: EventHub, log: Logger) throws {
    self.events = events
    self.log = log
    try reload(configuration)
  }

  /// Goes by another configuration: logs that stay are opened anew, since who turns logs around sends SIGHUP.
  func reload(_ new: FleetConfiguration) throws {
    var made: [One] = []
    let old = logs.withLock { $0 }
    for wanted in new.logs {
      if let kept = old.first(where: { $0.log == wanted }) {
        kept.queue.reopen()
        made.append(kept)
        continue
      }
      let writer: any LogWriter =
        switch wanted.target {
        case .file(let path): FileLog(path: path)
        case .syslog(let address): SyslogLog(address, facility: wanted.facility)
        }
      let (log, events) = (log, events)
      let queue = try LogQueue(writer) { problem, words in
        if problem == nil { log.notice("\(words)") } else { log.error("\(words)") }
        events.publish(
          FleetEvent(
            .problem, host: "", json: FleetJSON.bytes(.object([("problem", problem.map { .string($0) } ?? .null)]))))
      }
      made.append(One(log: wanted, queue: queue))
    }
    logs.withLock { [made] in $0 = made }
    for gone in old where !new.logs.contains(gone.log) { gone.queue.finish() }
  }

  /// Writes an event down, some time later.
  func take(_ event: FleetEvent) {
    let logs = logs.withLock { $0 }
    // What is wrong with a log is not for logs.
    guard !logs.isEmpty, event.kind != .problem, event.kind != .fleet, event.kind != .image else { return }
    let now = Moments.utc
    for one in logs {
      guard let bytes = one.log.form.line(event, at: now) else { continue }
      one.queue.add(LogLine(bytes: bytes, utc: now, severity: event.severity, kind: event.kind.rawValue))
    }
  }

  /// The fault that one of them has; nil where none has.
  public var problem: String? { logs.withLock { $0 }.lazy.compactMap(\.queue.figures.problem).first }

  /// Of each, its name, the lines that were written and lost, and whether it works.
  var figures: [(name: String, written: UInt64, lost: UInt64, works: Bool)] {
    logs.withLock { $0 }.map { one in
      let figures = one.queue.figures
      return (one.queue.name, figures.written, figures.lost, figures.problem == nil)
    }
  }

  func finish() {
    for one in logs.withLock({ $0 }) { one.queue.finish() }
  }
}

extension FleetEvent {
  /// As RFC 5424 counts it.
  fileprivate var severity: Int {
    let severity: Finding.Severity =
      switch subject {
      case .finding(let finding): finding.state == .closed ? .info : finding.severity
      case .kept(let finding, _, let isClosed): isClosed ? .info : finding.severity
      case .state(let standing, _): standing.state.severity
      case .other: .notice
      }
    return switch severity {
    case .critical: 2
    case .warning: 4
    case .notice: 5
    case .info: 6
    }
  }
}
