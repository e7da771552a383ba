/// Makes a host's state of what is seen of it: values in, values out.
///
/// The link decides first, then whether the device speaks, then what it found. What only time tells, the next look does.
public struct HostStateMachine: Sendable {
  /// When something was seen: by a clock that never steps, and by the wall's, both in seconds.
  public struct Moment: Hashable, Sendable {
    public var clock: Double
    public var utc: Double

    public init(clock: Double, utc: Double) {
      self.clock = clock
      self.utc = utc
    }
  }

  /// What a session's line said.
  public struct Look: Hashable, Sendable {
    /// Grows as long as the device runs.
    public var counter: UInt64
    /// Looks of its detectors that have ended; 0 where it has none.
    public var ticks: UInt64
    public var isStopped: Bool

    public init(counter: UInt64, ticks: UInt64, isStopped: Bool) {
      self.counter = counter
      self.ticks = ticks
      self.isStopped = isStopped
    }
  }

  public enum Event: Hashable, Sendable {
    /// The line was read.
    case looked(Look)
    /// There is no way to the device any more, or still none: why.
    case lost(String)
    /// What is found and not over.
    case found([OpenFinding])
    /// Whether its own agent answers Prometheus; nil where nobody knows.
    case agent(isUp: Bool?)
  }

  /// How long a line may stand still, in seconds: a device writes it a thousand times a second.
  static let patience = 0.75
  /// How long detectors may not look, in seconds.
  static let detectorPatience = 10.0

  /// The state now; nil before anything was seen.
  public private(set) var standing: Standing?
  /// Why there is no way to it; nil while there is.
  private var lost: String?
  /// Whether anything was seen since this service began.
  private var isFresh = true
  private var counter: (value: UInt64, since: Double)?
  private var ticks: (value: UInt64, since: Double)?
  private var silence: String?
  private var found: [OpenFinding] = []
  /// Whether its own agent answers, and since when in seconds since 1970; nil where nobody knows.
  private var agent: (isUp: Bool, since: Double)?
  /// Whether its device has detectors at all.
  private var hasDetectors = true

  /// - Parameters:
  ///   - standing: what it was when this service ended last, which goes on where the first look shows the same.
  ///   - found: what was found by then and not over.
  public init(restored standing: Standing? = nil, found: [OpenFinding] = []) {
    self.standing = standing
    self.found = found
  }

  /// Takes what was seen.
  ///
  /// - Returns: the new standing where it is another state or has another cause; nil where nothing has changed.
  public mutating func take(_ event: Event, at now: Moment) -> Standing? {
    switch event {
    case .lost(let why):
      isFresh = false
      lost = why
      (counter, ticks, silence) = (nil, nil, nil)
    case .looked(let look):
      isFresh = false
      lost = nil
      see(look, now)
    case .found(let findings):
      found = findings
      // Findings say nothing of a host whose device nobody has heard.
      if isFresh { return nil }
    case .agent(let isUp):
      guard agent?.isUp != isUp else { return nil }
      agent = isUp.map { ($0, now.utc) }
      if isFresh { return nil }
    }
    return settle(now)
  }

  private mutating func see(_ look: Look, _ now: Moment) {
    if counter?.value != look.counter { counter = (look.counter, now.clock) }
    if ticks?.value != look.ticks { ticks = (look.ticks, now.clock) }
    hasDetectors = look.ticks > 0
    let isStill = now.clock - (counter?.since ?? now.clock) >= Self.patience
    let areBlind = look.ticks > 0 && now.clock - (ticks?.since ?? now.clock) >= Self.detectorPatience
    if look.isStopped {
      silence = "the device was stopped; see who ended its grassd"
    } else if isStill {
      silence = silence ?? "the device has said nothing for \(Self.patience) s; see whether its grassd still runs"
    } else if areBlind {
      silence = silence ?? "the device's detectors have not looked for \(Int(Self.detectorPatience)) s"
    } else {
      silence = nil
    }
  }

  /// The state that all of this makes.
  private mutating func settle(_ now: Moment) -> Standing? {
    var next: Standing
    if let blind = lost ?? silence {
      // Two witnesses: one says nothing, and the other that the host lives.
      if agent?.isUp == true {
        next = Standing(state: .unseen, since: now.utc, cause: "its own agent answers, but \(blind)")
      } else {
        next = Standing(state: lost != nil ? .unreachable : .silent, since: now.utc, cause: blind)
      }
    } else if let (state, finding) = worst {
      // What was there before anybody looked began then; a device's clock is not believed further than that.
      let isBelievable = finding.first > 0 && finding.first <= now.utc
      next = Standing(state: state, since: isBelievable ? finding.first : now.utc, cause: finding.title)
    } else if let agent, !agent.isUp {
      next = Standing(
        state: .agentDead, since: now.utc,
        cause:
          "its kernel goes on, but its own agent does not answer Prometheus: see whether the agent runs, or the network"
      )
    } else {
      next = Standing(
        state: .alive, since: now.utc,
        cause: hasDetectors
          ? "the device looks, and finds nothing that would stop it"
          : "the device answers, and looks for nothing: start grassd with --detectors")
    }
    if next.state.isBlind {
      next.before = standing.flatMap { old in
        old.state.isBlind
          ? old.before : .init(state: old.state, since: old.since, cause: old.cause)
      }
    }
    if let old = standing, old.state == next.state {
      // Since when it is so, only another state changes.
      next.since = old.since
      // Why there is no way to it may change from try to try; the first reason tells most.
      if next.state == .unreachable || next.state == .unseen { next.cause = old.cause }
      if next == old { return nil }
    }
    standing = next
    return next
  }

  /// Of all that is found, what makes the state that has to be looked at soonest; of several, the oldest.
  private var worst: (HostState, OpenFinding)? {
    found.compactMap { finding in finding.state.map { ($0, finding) } }.min {
      ($0.0.rank, $0.1.first, $0.1.id) < ($1.0.rank, $1.1.first, $1.1.id)
    }
  }
}
