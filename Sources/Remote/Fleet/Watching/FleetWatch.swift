import Detection
import Dispatch
import Host
import Hosts
import KernelViews
import LinuxKernel
public import Logging
import Output
import Records
public import Remote

/// Watches a fleet: a standing session to each host, its line read at its period, its log taken when the line says that it has grown.
///
/// One thread steps the lines of all hosts and waits for none of them. Whatever waits is done aside, by a few threads: connecting for
/// the first time, connecting again, and taking logs have their own, so that hosts which hang hold up each other and nobody else.
public final class FleetWatch: Sendable {
  public let store: FleetStore
  public let events: EventHub
  /// What is written to files and to syslog.
  public let logs: EventLogs
  /// Images of hosts' memory.
  public let images: ImageTaker
  private let connection: Locked<HostConnection>
  private let witness = Locked<(settings: FleetConfiguration.Witness, asker: AgentWitness)?>(nil)
  let configuration: Locked<FleetConfiguration>
  /// Symbols and types of builds that are known, which all hosts share.
  let builds = BuildFolder.standard()
  private let hosts: Locked<[String: WatchedHost]>
  private let log: Logger

  private let connecting: WorkPool
  private let reconnecting: WorkPool
  private let fetching: WorkPool
  /// Writes states, one after the other.
  private let recording: WorkPool
  /// Checks hosts' memories; those whose last check was slow or failed have their own threads.
  let checking: WorkPool
  let rechecking: WorkPool

  private let handed = Locked<[(host: WatchedHost, due: UInt64)]>([])
  private let wake = DispatchSemaphore(value: 0)
  private let isEnding = Locked(false)
  private let stepper = Locked<DedicatedThread?>(nil)
  private let stepped = Locked<(count: UInt64, late: Double)>((0, 0))
  private let storeProblem = Locked<String?>(nil)
  private let refused = Locked<UInt64>(0)

  /// How long a line may stay torn before a call that waits sees to it.
  private static let tornPatience: UInt64 = 500_000_000
  /// After how long a session that was only read is asked something.
  private static let longestQuiet: UInt64 = 240_000_000_000
  /// How long taking a log may take before the host counts as lost, in seconds.
  private static let fetchTimeout = 0.5
  /// The longest pause between two tries to connect, in seconds.
  private static let longestPause = 10.0
  /// How many changes of a log are kept by one transaction.
  private static let mostAtOnce: UInt64 = 256
  /// After how long last words are read once more, in nanoseconds.
  private static let wordsTime: UInt64 = 5_000_000_000

  /// - Throws: ``HostsError`` where the service has no folder for its keys, ``SystemCallError`` where there can be no threads.
  public init(_ configuration: FleetConfiguration, store: FleetStore, log: Logger) throws {
    self.store = store
    self.log = log
    events = EventHub()
    logs = try EventLogs(configuration, events: events, log: log)
    self.configuration = Locked(configuration)
    let connection = Locked(try HostConnection(keys: configuration.keys, timeout: configuration.timeout))
    let hosts = Locked<[String: WatchedHost]>([:])
    (self.connection, self.hosts) = (connection, hosts)
    images = try ImageTaker(configuration.images, store: store, events: events, builds: builds, log: log) { name in
      try Self.session(name, slots: 8, hosts, connection)
    }
    connecting = try WorkPool(name: "connect", threads: 8)
    reconnecting = try WorkPool(name: "reconnect", threads: 8)
    fetching = try WorkPool(name: "fetch", threads: 16)
    recording = try WorkPool(name: "record", threads: 1)
    // A check waits for its host most of the time.
    checking = try WorkPool(name: "check", threads: 6)
    rechecking = try WorkPool(name: "recheck", threads: 2)
    events.tap { [logs] in logs.take($0) }
  }

  // MARK: From outside

  /// Begins to watch.
  ///
  /// - Throws: ``StoreError`` where what is kept of hosts cannot be read, ``SystemCallError`` where there can be no thread.
  public func start() throws {
    let configuration = configuration.withLock { $0 }
    images.start()
    try watch(configuration.hosts)
    try ask(configuration.witness)
    let thread = try DedicatedThread(name: "step") { [self] in run() }
    stepper.withLock { $0 = thread }
  }

  /// Ends all sessions and threads.
  ///
  /// Waits for what is at work, a few seconds at most.
  public func stop() {
    isEnding.withLock { $0 = true }
    wake.signal()
    stepper.withLock { thread in
      defer { thread = nil }
      return thread
    }?.join()
    witness.withLock { witness in
      defer { witness = nil }
      return witness
    }?.asker.finish()
    connecting.finish()
    reconnecting.finish()
    images.finish()
    fetching.finish()
    checking.finish()
    rechecking.finish()
    recording.finish()
    for host in hosts.withLock({ Array($0.values) }) { host.condition.withLock { $0.session?.close() } }
    events.close()
    logs.finish()
  }

  /// Goes on by another configuration: hosts that are new are watched, those that are gone are not any more, the others do not notice.
  ///
  /// - Throws: ``StoreError``, ``HostsError``: then all stays as it was.
  public func reload(_ new: FleetConfiguration) throws {
    let next = try HostConnection(keys: new.keys, timeout: new.timeout)
    connection.withLock { $0 = next }
    try logs.reload(new)
    configuration.withLock { $0 = new }
    let names = Set(new.hosts.map(\.name))
    let urls = Dictionary(new.hosts.map { ($0.name, $0.url) }) { first, _ in first }
    let gone = hosts.withLock { hosts in
      let gone = hosts.values.filter { host in
        !names.contains(host.name) || urls[host.name] != host.host.withLock { $0.url }
      }
      for host in gone { hosts[host.name] = nil }
      return gone
    }
    for host in gone { host.condition.withLock { $0.isGone = true } }
    try watch(new.hosts)
    images.reload(new.images)
    try ask(new.witness)
    events.publish(FleetEvent(.fleet, host: "", json: Array("{\"hosts\": \(new.hosts.count)}".utf8)))
  }

  /// Forgets what the configuration does not keep for longer.
  public func forget() {
    let days = configuration.withLock { $0.retention }
    recording.add { [self] in
      do throws(StoreError) {
        try store.forget(olderThan: days, now: Moments.utc)
        stored()
      } catch {
        failed(error)
      }
    }
  }

  /// What is known of all hosts, those first that somebody has to look at soonest.
  public func reports() -> [HostReport] {
    let clock = Double(Moments.nanoseconds) / 1e9
    return hosts.withLock { Array($0.values) }.map { $0.report(clock: clock) }.sorted {
      ($0.standing.rank, -$0.worstSeverity, $0.name) < ($1.standing.rank, -$1.worstSeverity, $1.name)
    }
  }

  /// What is known of a host; nil where it is none of the fleet.
  public func report(_ name: String) -> HostReport? {
    hosts.withLock { $0[name] }?.report(clock: Double(Moments.nanoseconds) / 1e9)
  }

  /// A session with a host of the fleet that is the caller's own.
  ///
  /// - Throws: why there is none.
  public func session(_ name: String, slots: Int) throws -> Session? {
    try Self.session(name, slots: slots, hosts, connection)
  }

  private static func session(
    _ name: String, slots: Int, _ hosts: Locked<[String: WatchedHost]>, _ connection: Locked<HostConnection>
  ) throws -> Session? {
    guard let host = hosts.withLock({ $0[name] }) else { return nil }
    return try connection.withLock { $0 }.session(host.host.withLock { $0.url }, slots: slots)
  }

  /// Keeps what a host's kernel was read to be called.
  func name(_ host: String, _ kernel: KernelName) {
    hosts.withLock { $0[host] }?.condition.withLock { $0.kernel = kernel }
  }

  /// The fault that the service has itself, for operators; nil where it has none.
  public var problem: String? { storeProblem.withLock { $0 } ?? logs.problem }

  /// Whether the database takes what is written.
  public var storeWorks: Bool { storeProblem.withLock { $0 } == nil }

  /// Looks at lines so far, and the longest that one came too late, in seconds.
  public var steps: (count: UInt64, late: Double) { stepped.withLock { $0 } }

  /// Writes to the database that failed.
  public var failedWrites: UInt64 { refused.withLock { $0 } }

  private func watch(_ wanted: [FleetConfiguration.Host]) throws(StoreError) {
    let utc = Moments.utc
    for one in wanted {
      if let known = hosts.withLock({ $0[one.name] }) {
        known.host.withLock { $0 = one }
        continue
      }
      let host = WatchedHost(one, kept: try store.host(one.name), at: utc)
      hosts.withLock { $0[one.name] = host }
      hand(host, due: Moments.nanoseconds)
    }
  }

  // MARK: The second witness

  /// Asks another Prometheus from now on, or none.
  private func ask(_ settings: FleetConfiguration.Witness?) throws(SystemCallError) {
    guard witness.withLock({ $0?.settings }) != settings else { return }
    witness.withLock { witness in
      defer { witness = nil }
      return witness
    }?.asker.finish()
    guard let settings else { return take(agents: nil) }
    let asker = try AgentWitness(settings, log: log) { [weak self] in self?.take(agents: $0) }
    witness.withLock { $0 = (settings, asker) }
  }

  /// Takes which hosts' own agents are up; nil where nobody knows.
  private func take(agents: [String: Bool]?) {
    for host in hosts.withLock({ Array($0.values) }) {
      host.condition.withLock { condition in
        condition.isAgentUp = agents?[host.name]
        settle(.agent(isUp: condition.isAgentUp), host, &condition, Moments.now)
      }
    }
  }

  /// Whether the second witness answers; nil where there is none.
  public var witnessWorks: Bool? { witness.withLock { $0?.asker }.map { $0.failure == nil } }

  // MARK: Stepping

  /// Gives a host to the stepping thread.
  private func hand(_ host: WatchedHost, due: UInt64) {
    handed.withLock { $0.append((host, due)) }
    wake.signal()
  }

  private func run() {
    var queue = DueQueue<WatchedHost>()
    while !isEnding.withLock({ $0 }) {
      let new = handed.withLock { handed -> [(host: WatchedHost, due: UInt64)] in
        defer { handed = [] }
        return handed
      }
      for (host, due) in new { queue.push(host, due: due) }
      let now = Moments.nanoseconds
      while let host = queue.pop(dueBy: now) {
        if let next = step(host) { queue.push(host, due: next) }
      }
      let then = Moments.nanoseconds
      let next = min(queue.first ?? UInt64.max, then + 50_000_000)
      if next > then { _ = wake.wait(timeout: .now() + .nanoseconds(Int(next - then))) }
    }
  }

  /// Does what is due of a host.
  ///
  /// - Returns: when it is due again; nil where somebody else has it now.
  private func step(_ host: WatchedHost) -> UInt64? {
    let period = UInt64(host.host.withLock { $0.period } * 1e9)
    let timeout = UInt64(configuration.withLock { $0.timeout } * 1e9)
    return host.condition.withLock { condition -> UInt64? in
      if condition.isGone {
        condition.session?.close()
        condition.session = nil
        return nil
      }
      guard let session = condition.session else {
        condition.phase = .handed
        (condition.failures == 0 ? connecting : reconnecting).add { [self] in connect(host) }
        return nil
      }
      let now = Moments.nanoseconds
      do throws(SessionError) {
        switch condition.phase {
        case .apart, .handed, .idle:
          if now >= condition.due {
            let late = Double(now - condition.due) / 1e9
            stepped.withLock { $0 = ($0.count + 1, max($0.late, condition.due == 0 ? 0 : late)) }
          }
          try session.postLine()
          condition.phase = .looking(since: now)
          condition.pause = 100_000
          condition.due = max(condition.due + period, now)
        case .looking: break
        }
        guard case .looking(let since) = condition.phase else { return nil }
        switch try session.pollLine() {
        case .line(let line):
          let then = Moments.nanoseconds
          condition.phase = .idle
          condition.tornSince = nil
          condition.heartbeats.add(seconds: Double(then - since) / 1e9)
          see(line, host, &condition)
          planCheck(host, &condition, now: then)
          // What has to wait for the device is not done here.
          if line.newestFinding != condition.taken || then - condition.asked > Self.longestQuiet
            || condition.wordsDue.map({ then >= $0 }) == true
          {
            condition.phase = .handed
            fetching.add { [self] in fetch(host) }
            return nil
          }
          return condition.due
        case .pending:
          if now - since > timeout { throw SessionError(session.host, .noAnswer) }
          condition.pause = min(condition.pause * 2, 20_000_000)
        case .torn, .none:
          let torn = condition.tornSince ?? now
          condition.tornSince = torn
          if now - torn > Self.tornPatience {
            condition.phase = .handed
            fetching.add { [self] in fetch(host) }
            return nil
          }
          try session.postLine()
        }
        return now + condition.pause
      } catch {
        return lose(error.description, host, &condition)
      }
    }
  }

  /// Takes what a line says.
  private func see(_ line: SessionLine, _ host: WatchedHost, _ condition: inout WatchedHost.Condition) {
    let now = Moments.now
    if condition.line?.counter != line.counter { condition.moved = now.clock }
    condition.line = line
    condition.seen = now.utc
    settle(
      .looked(.init(counter: line.counter, ticks: line.detectorTick, isStopped: line.state == .stopped)), host,
      &condition, now)
  }

  /// Ends a session that is of no use any more.
  ///
  /// - Returns: when to connect again.
  private func lose(_ why: String, _ host: WatchedHost, _ condition: inout WatchedHost.Condition) -> UInt64 {
    condition.session?.close()
    condition.session = nil
    condition.phase = .apart
    condition.tornSince = nil
    condition.heartbeats.addMissed()
    settle(.lost(Self.oneLine(why)), host, &condition, Moments.now)
    let pause = min(Self.longestPause, 0.25 * Double(1 << min(condition.failures, 10)))
    condition.failures += 1
    return Moments.nanoseconds + UInt64(pause * Double.random(in: 0.75...1.25) * 1e9)
  }

  /// Has the host's state made anew, and says and keeps it where it is another.
  func settle(
    _ event: HostStateMachine.Event, _ host: WatchedHost, _ condition: inout WatchedHost.Condition,
    _ now: HostStateMachine.Moment
  ) {
    let before = condition.machine.standing
    guard let standing = condition.machine.take(event, at: now) else { return }
    let labels = host.host.withLock { $0.labels }
    events.publish(
      FleetEvent(
        .state, host: host.name, json: FleetJSON.bytes(FleetJSON.state(host.name, labels, standing, at: now.utc)),
        subject: .state(standing, labels: labels)))
    log.info("\(host.name) is \(standing.state.rawValue)", metadata: ["cause": "\(standing.cause)"])
    // A cause that reads otherwise is no change of state.
    guard before?.state != standing.state || before?.cause != standing.cause else { return }
    if before?.state != standing.state { images.see(host.name, standing) }
    recording.add { [self] in
      do throws(StoreError) {
        try store.keep(standing, of: host.name, at: now.utc)
        stored()
      } catch {
        failed(error)
      }
    }
  }

  // MARK: Aside

  private func connect(_ host: WatchedHost) {
    let url = host.host.withLock { $0.url }
    do {
      let session = try connection.withLock { $0 }.session(url, slots: 1)
      // Findings first: what is long found is not to look as if it had come to pass now.
      let line = try session.line(within: .seconds(configuration.withLock { $0.timeout }))
      if try takeLog(host, session, line, isNew: true) { while try takeLog(host, session, line, isNew: false) {} }
      host.condition.withLock { condition in
        condition.session = session
        condition.phase = .idle
        condition.failures = 0
        condition.asked = Moments.nanoseconds
        see(line, host, &condition)
        let period = host.host.withLock { $0.period } * 1e9
        // Hosts that were connected together are not looked at together.
        condition.due = Moments.nanoseconds + UInt64(Double.random(in: 0...1) * period)
      }
      hand(host, due: host.condition.withLock { $0.due })
    } catch {
      hand(host, due: host.condition.withLock { lose("\(error)", host, &$0) })
    }
  }

  private func fetch(_ host: WatchedHost) {
    guard let session = host.condition.withLock({ $0.session }) else { return hand(host, due: Moments.nanoseconds) }
    do throws(SessionError) {
      // Also what keeps a session with keys, and makes another where the device has forgotten it.
      let line = try session.line(within: .seconds(max(Self.fetchTimeout, 0.75)))
      while try takeLog(host, session, line, isNew: false) {}
      let areWordsDue = host.condition.withLock { condition in
        guard let due = condition.wordsDue, due <= Moments.nanoseconds else { return false }
        condition.wordsDue = nil
        return true
      }
      if areWordsDue, let head = try session.lastWords().first { keepWords(head, host, session) }
      host.condition.withLock { condition in
        condition.phase = .idle
        condition.tornSince = nil
        condition.asked = Moments.nanoseconds
        see(line, host, &condition)
        condition.due = max(condition.due, Moments.nanoseconds)
      }
      hand(host, due: host.condition.withLock { $0.due })
    } catch {
      hand(host, due: host.condition.withLock { lose(error.description, host, &$0) })
    }
  }

  /// Takes what a host's log has behind what was taken, and keeps it.
  ///
  /// - Parameters:
  ///   - host: whose.
  ///   - session: a session with it.
  ///   - line: what its line said now.
  ///   - isNew: whether the session is new, so that its device may be another than the one before.
  ///   - isGlance: whether it is only looked at, behind what was looked at before: nothing can be kept at the moment.
  /// - Returns: whether there is more to be taken at once.
  /// - Throws: ``SessionError`` where the link ends.
  private func takeLog(
    _ host: WatchedHost, _ session: Session, _ line: SessionLine, isNew: Bool, isGlance: Bool = false
  ) throws(SessionError) -> Bool {
    var (epoch, taken, mark) = host.condition.withLock { ($0.epoch, $0.taken, $0.mark) }
    let time = Duration.seconds(Self.fetchTimeout)
    if isGlance {
      (epoch, taken) = host.condition.withLock { $0.published }
    } else if line.newestFinding < taken {
      (epoch, taken, mark) = (epoch + 1, 0, 0)
    } else if isNew, taken > 0, mark != 0 {
      // A log of another device may have grown past it meanwhile: its entry of that number is another.
      let last = try session.findings(after: taken - 1, upTo: taken, within: time).findings.first
      if let last, FindingChange.mark(last) != mark { (epoch, taken, mark) = (epoch + 1, 0, 0) }
    }
    let isAnother = !isGlance && epoch != host.condition.withLock { $0.epoch }
    guard line.newestFinding > taken || isAnother else { return false }
    // So many at once, so that who is killed again and again gets on all the same.
    let end = min(line.newestFinding, taken + Self.mostAtOnce)
    let news = try session.findings(after: taken, upTo: end, within: time)
    var records = news.findings
    if news.missed > 0 {
      let numbers = Set(records.map(\.identity))
      records = try session.openFindings(within: time).filter { !numbers.contains($0.identity) } + records
      records.sort { $0.number < $1.number }
    }
    let heads = records.contains(where: LastWordsReport.areKept) && session.keepsWords ? try session.lastWords() : []
    var ids = isAnother ? [:] : host.condition.withLock { $0.ids }
    for record in records { ids[record.identity] = DeviceDetectors.finding(record).id }
    let now = Moments.utc
    var findings: [UInt64: Finding] = [:]
    let changes = records.map { record in
      var finding = DeviceDetectors.finding(record, others: ids)
      // No device's clock makes a finding of the future.
      finding.first.utc = min(finding.first.utc, now)
      finding.last.utc = min(finding.last.utc, now)
      if let head = LastWordsReport.head(of: record, among: heads) {
        finding.evidence.append(LastWordsReport.evidence(head))
      }
      findings[record.number] = finding
      return FindingChange(record, finding, json: FleetJSON.bytes(JSON(finding.value)))
    }
    let newest = records.last.map { FindingChange.mark($0) }
    var isKept = !isGlance
    if !isGlance {
      do throws(StoreError) {
        _ = try store.keep(changes, of: host.name, epoch: epoch, taken: end, mark: newest, at: now)
        stored()
      } catch {
        failed(error)
        isKept = false
      }
    }
    let published = host.condition.withLock { condition -> [FindingChange] in
      let fresh = changes.filter { condition.published.epoch != epoch || $0.number > condition.published.number }
      let isOther = condition.published.epoch != epoch
      condition.published = (epoch, isOther ? end : max(end, condition.published.number))
      if isOther {
        condition.open = [:]
        // Another device, or another boot: what was found by looking closer may be over.
        hastenCheck(&condition)
      }
      // What was looked at before it could be kept is not looked at again.
      for change in fresh {
        condition.open[change.id] = change.isOpen ? change.open : nil
        // What the device has found it also ends.
        condition.checked[change.id] = nil
      }
      condition.ids = ids.count > 4096 ? [:] : ids
      if isKept {
        if condition.taken != end { condition.missed += news.missed }
        (condition.epoch, condition.taken) = (epoch, end)
        if let newest { condition.mark = newest }
      }
      if fresh.contains(where: { $0.isOpen && $0.open.severity >= .warning }) { hastenCheck(&condition) }
      settle(.found(condition.found), host, &condition, Moments.now)
      return fresh
    }
    for change in published {
      if change.isOpen { images.see(host.name, change.open) }
      events.publish(
        FleetEvent(
          .finding, host: host.name, json: FleetJSON.event(host.name, change),
          subject: findings[change.number].map { .finding($0) } ?? .other))
    }
    for head in heads.prefix(1) {
      keepWords(head, host, session)
      host.condition.withLock { $0.wordsDue = Moments.nanoseconds + Self.wordsTime }
    }
    if isGlance { return end < line.newestFinding }
    // What cannot be kept is known all the same, however much it is.
    if !isKept { while try takeLog(host, session, line, isNew: false, isGlance: true) {} }
    return isKept && end < line.newestFinding
  }

  /// Keeps a kernel's last words as they are now: later its log's end may be there, too.
  private func keepWords(_ head: LastWords.Head, _ host: WatchedHost, _ session: Session) {
    guard let words = try? session.lastWords(number: head.number) else { return }
    let report = LastWordsReport(words, live: nil, known: builds)
    let text = String(report.text(tail: 40).prefix(256 * 1024))
    do throws(StoreError) {
      try store.keepWords(
        text, line: LastWordsReport.line(head), of: host.name, boot: FleetJSON.hexadecimal(head.boot),
        taken: min(Double(head.taken.utc) / 1e9, Moments.utc))
    } catch {
      failed(error)
    }
  }

  // MARK: The database's faults

  func failed(_ error: StoreError) {
    refused.withLock { $0 += 1 }
    let isNew = storeProblem.withLock { problem in
      defer { problem = error.description }
      return problem == nil
    }
    guard isNew else { return }
    log.error("\(error)")
    events.publish(
      FleetEvent(.problem, host: "", json: FleetJSON.bytes(.object([("problem", .string(error.description))]))))
  }

  func stored() {
    let wasBad = storeProblem.withLock { problem in
      defer { problem = nil }
      return problem != nil
    }
    guard wasBad else { return }
    log.notice("\(store.path) is written again")
    // What was not kept meanwhile: where each host stands now.
    for host in hosts.withLock({ Array($0.values) }) {
      let standing = host.condition.withLock { $0.machine.standing }
      guard let standing else { continue }
      recording.add { [store] in try? store.keep(standing, of: host.name, at: standing.since) }
    }
    events.publish(FleetEvent(.problem, host: "", json: FleetJSON.bytes(.object([("problem", .null)]))))
  }

  /// An error's text as a cause: one line, and not too much.
  static func oneLine(_ text: String) -> String {
    let line = text.split(whereSeparator: \.isNewline).joined(separator: " ")
    return String(line.prefix(300))
  }
}
