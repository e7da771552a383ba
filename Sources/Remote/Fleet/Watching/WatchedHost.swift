import Detection
import Host
import Remote

/// A host of the fleet and what is known of it.
///
/// Its session is one thread's at a time: the stepping thread's, or a worker's that was handed the host.
final class WatchedHost: Sendable {
  /// What is at work with its session.
  enum Phase {
    /// There is no session.
    case apart
    /// Its next look is due at some time.
    case idle
    /// A look is under way, since, in nanoseconds of the monotonic clock.
    case looking(since: UInt64)
    /// A worker has it.
    case handed
  }

  struct Condition {
    var phase = Phase.apart
    var session: Session?
    var machine: HostStateMachine
    var heartbeats = HeartbeatHistory()
    var line: SessionLine?
    /// When its line last moved, in seconds of the monotonic clock.
    var moved: Double?
    var seen: Double?
    /// When its line was torn first without one that was whole since, in nanoseconds.
    var tornSince: UInt64?
    /// How long to wait before the next look at a read that is under way, in nanoseconds.
    var pause: UInt64 = 0
    /// When the next look is due, in nanoseconds.
    var due: UInt64 = 0
    /// How often connecting failed in a row.
    var failures = 0
    /// When a call that waits was made last, in nanoseconds: it keeps the device from forgetting this session.
    var asked: UInt64 = 0
    var epoch: Int64
    var taken: UInt64
    var mark: Int64
    var missed: UInt64 = 0
    /// By number and epoch, up to where events were published: the database may be behind.
    var published: (epoch: Int64, number: UInt64)
    /// What its device has found and is not over, by id.
    var open: [String: OpenFinding]
    /// What this service's own checks have found and is not over, by id, and how many of them have missed it since.
    var checked: [String: (open: OpenFinding, missed: Int)]
    /// When its memory is checked next, in nanoseconds; nil while it is, or where that was not planned yet.
    var checkDue: UInt64?
    var isChecked = false
    /// Whether its device found something while it was being checked.
    var isNewsWaiting = false
    /// When it was checked last, in nanoseconds and in seconds since 1970; how long that took, in seconds; and why not all of it could be.
    var lastCheck: (at: UInt64, utc: Double, duration: Double, problem: String?)?
    var checks: UInt64 = 0
    /// What its kernel is called, as it was read last.
    var kernel: KernelName?
    /// Whether its own agent answers Prometheus; nil where nobody knows.
    var isAgentUp: Bool?
    /// Ids of findings by their identities in the log, for what others follow from.
    var ids: [UInt64: String] = [:]
    /// When its kernel's last words are read once more, in nanoseconds, since their end comes a moment later; nil where they need not be.
    var wordsDue: UInt64?
    /// Whether it is watched no more.
    var isGone = false

    /// All that is found and not over: what both have found is the device's.
    var found: [OpenFinding] { Array(open.values) + checked.filter { open[$0.key] == nil }.values.map(\.open) }
  }

  let name: String
  let host: Locked<FleetConfiguration.Host>
  let condition: Locked<Condition>
  /// What checks found in its kernel's text, so that they look again only at what changed.
  let texts = SeenTexts()
  /// When this service began to know of it.
  let began: Double

  init(_ host: FleetConfiguration.Host, kept: KeptHost, at utc: Double) {
    name = host.name
    began = utc
    self.host = Locked(host)
    condition = Locked(
      Condition(
        machine: HostStateMachine(restored: kept.standing, found: kept.open + kept.checked), epoch: kept.epoch,
        taken: kept.taken, mark: kept.mark, published: (kept.epoch, kept.taken),
        open: Dictionary(kept.open.map { ($0.id, $0) }) { first, _ in first },
        checked: Dictionary(kept.checked.map { ($0.id, ($0, 0)) }) { first, _ in first }))
  }

  /// What is known of it now.
  func report(clock: Double) -> HostReport {
    let host = host.withLock { $0 }
    return condition.withLock { condition in
      HostReport(
        name: name, url: host.url, labels: host.labels,
        standing: condition.machine.standing
          ?? Standing(state: .unreachable, since: began, cause: "it was not asked yet"),
        heartbeatAge: condition.moved.map { clock - $0 }, heartbeats: condition.heartbeats,
        open: condition.found.sorted { ($1.severity, $0.first) < ($0.severity, $1.first) },
        worstSeverity: Int(condition.line?.worstSeverity ?? 0),
        suspended: condition.line?.suspended ?? 0, missed: condition.missed, seen: condition.seen,
        taken: condition.taken, checks: condition.checks, lastCheck: condition.lastCheck?.utc,
        checkDuration: condition.lastCheck?.duration, checkProblem: condition.lastCheck?.problem,
        kernel: condition.kernel,
        isAgentUp: condition.isAgentUp)
    }
  }
}
