import Detection

/// Metrics in Prometheus' text format, by its conventions for names: base units, `_total`, `_info`.
///
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
struct MetricsText {
  private(set) var text = ""

  enum Kind: String { case gauge, counter, histogram, untyped }

  /// Begins a metric: its samples follow at once.
  mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
  }

  mutating func add(_ name: String, _ value: Double) { add(name, [], value) }

  mutating func add(_ name: String, _ labels: [(String, String)], _ value: Double) {
    text += name
    if !labels.isEmpty {
      text += "{"
      for (index, (label, value)) in labels.enumerated() {
        text += "\(index == 0 ? "" : ",")\(label)=\"\(Self.escaped(value))\""
      }
      text += "}"
    }
    text += " \(Self.number(value))\n"
  }

  /// A label's value: what could end it, or its line, is escaped.
  static func escaped(_ text: String) -> String {
    var escaped = ""
    // By scalars: what combines with a quote is another character, and the quote is still one.
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }

  static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == value.rounded(), abs(value) < 1e15 { return "\(Int64(value))" }
    return "\(value)"
  }
}

extension MetricsText {
  /// All that the service knows of its fleet and of itself.
  ///
  /// Cost: some 30 lines a host.
  static func fleet(
    _ reports: [HostReport], version: String, followers: Int, steps: (count: UInt64, late: Double),
    failedWrites: UInt64,
    hasProblem: Bool, logs: [(name: String, written: UInt64, lost: UInt64, works: Bool)] = [],
    witnessWorks: Bool? = nil, images: ImageTaker.Figures? = nil
  ) -> String {
    var metrics = MetricsText()
    func each(_ body: (HostReport, (String, String)) -> Void) {
      for report in reports { body(report, ("host", report.name)) }
    }

    metrics.begin("grass_fleet_info", .gauge, "The version of the service.")
    metrics.add("grass_fleet_info", [("version", version)], 1)
    metrics.begin("grass_fleet_hosts", .gauge, "How many hosts are watched.")
    metrics.add("grass_fleet_hosts", Double(reports.count))
    metrics.begin("grass_fleet_looks_total", .counter, "Looks at hosts' lines.")
    metrics.add("grass_fleet_looks_total", Double(steps.count))
    metrics.begin(
      "grass_fleet_look_delay_max_seconds", .gauge, "The longest that a look came too late since the service began.")
    metrics.add("grass_fleet_look_delay_max_seconds", steps.late)
    metrics.begin("grass_fleet_followers", .gauge, "How many follow the events.")
    metrics.add("grass_fleet_followers", Double(followers))
    metrics.begin("grass_fleet_store_up", .gauge, "Whether the database takes what is written.")
    metrics.add("grass_fleet_store_up", hasProblem ? 0 : 1)
    metrics.begin("grass_fleet_store_failures_total", .counter, "Writes to the database that failed.")
    metrics.add("grass_fleet_store_failures_total", Double(failedWrites))

    if !logs.isEmpty {
      metrics.begin("grass_log_up", .gauge, "Whether a log of findings and states takes what is written.")
      for log in logs { metrics.add("grass_log_up", [("log", log.name)], log.works ? 1 : 0) }
      metrics.begin("grass_log_lines_total", .counter, "Lines that were written to a log.")
      for log in logs { metrics.add("grass_log_lines_total", [("log", log.name)], Double(log.written)) }
      metrics.begin("grass_log_lost_lines_total", .counter, "Lines that were dropped since a log took none.")
      for log in logs { metrics.add("grass_log_lost_lines_total", [("log", log.name)], Double(log.lost)) }
    }

    if let witnessWorks {
      metrics.begin("grass_witness_up", .gauge, "Whether Prometheus tells of the hosts' own agents.")
      metrics.add("grass_witness_up", witnessWorks ? 1 : 0)
    }
    if let images {
      metrics.begin("grass_acquisitions_total", .counter, "Images of hosts' memory, by what became of them.")
      for state in ImageRequest.State.allCases where state.isOver {
        metrics.add("grass_acquisitions_total", [("result", state.rawValue)], Double(images.ended[state] ?? 0))
      }
      metrics.begin("grass_acquisitions_pending", .gauge, "Images that were asked for and are not over.")
      metrics.add("grass_acquisitions_pending", Double(images.waiting))
      metrics.begin("grass_acquisition_bytes_total", .counter, "Bytes of memory in images that are whole.")
      metrics.add("grass_acquisition_bytes_total", Double(images.bytes))
    }
    if let process = ProcessFigures() {
      metrics.begin("process_cpu_seconds_total", .counter, "Total user and system CPU time spent in seconds.")
      metrics.add("process_cpu_seconds_total", process.processorSeconds)
      metrics.begin("process_resident_memory_bytes", .gauge, "Resident memory size in bytes.")
      metrics.add("process_resident_memory_bytes", Double(process.resident))
      metrics.begin("process_virtual_memory_bytes", .gauge, "Virtual memory size in bytes.")
      metrics.add("process_virtual_memory_bytes", Double(process.virtual))
      metrics.begin("process_open_fds", .gauge, "Number of open file descriptors.")
      metrics.add("process_open_fds", Double(process.openFiles))
      metrics.begin("process_max_fds", .gauge, "Maximum number of open file descriptors.")
      metrics.add("process_max_fds", Double(process.mostFiles))
      metrics.begin("process_start_time_seconds", .gauge, "Start time of the process since unix epoch in seconds.")
      metrics.add("process_start_time_seconds", process.started)
    }

    metrics.begin("grass_host_info", .gauge, "The labels that the configuration gives a host.")
    each { report, host in
      metrics.add(
        "grass_host_info",
        [host, ("url", report.url)] + report.labels.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, 1)
    }
    metrics.begin("grass_kernel_info", .gauge, "The kernel of a host, as its memory was last read to have it.")
    each { report, host in
      if let kernel = report.kernel {
        metrics.add(
          "grass_kernel_info",
          [host, ("release", kernel.release), ("version", kernel.version), ("build_id", kernel.buildID)], 1)
      }
    }
    metrics.begin("grass_agent_up", .gauge, "Whether a host's own agent answers Prometheus, where that is known.")
    each { report, host in
      if let isUp = report.isAgentUp { metrics.add("grass_agent_up", [host], isUp ? 1 : 0) }
    }
    metrics.begin("grass_host_state", .gauge, "1 for the state that a host has, 0 for each that it has not.")
    each { report, host in
      for state in HostState.allCases {
        metrics.add("grass_host_state", [host, ("state", state.rawValue)], report.standing.state == state ? 1 : 0)
      }
    }
    metrics.begin("grass_host_state_timestamp_seconds", .gauge, "Since when a host has its state.")
    each { report, host in metrics.add("grass_host_state_timestamp_seconds", [host], report.standing.since) }
    metrics.begin(
      "grass_panic_timestamp_seconds", .gauge, "When a host's kernel panicked, where it has not booted anew since.")
    each { report, host in
      if let panic = report.open.first(where: { $0.detector == "panic" }) {
        metrics.add("grass_panic_timestamp_seconds", [host], panic.first)
      }
    }
    metrics.begin("grass_heartbeat_age_seconds", .gauge, "How long ago a host's device was last seen to go on.")
    each { report, host in
      if let age = report.heartbeatAge { metrics.add("grass_heartbeat_age_seconds", [host], age) }
    }
    metrics.begin("grass_heartbeat_seconds", .histogram, "How long a look at a host's line takes.")
    each { report, host in
      var sum: UInt64 = 0
      for (index, bound) in HeartbeatHistory.bounds.enumerated() {
        sum += report.heartbeats.buckets[index]
        metrics.add("grass_heartbeat_seconds_bucket", [host, ("le", Self.number(bound))], Double(sum))
      }
      metrics.add("grass_heartbeat_seconds_bucket", [host, ("le", "+Inf")], Double(report.heartbeats.count))
      metrics.add("grass_heartbeat_seconds_sum", [host], report.heartbeats.sum)
      metrics.add("grass_heartbeat_seconds_count", [host], Double(report.heartbeats.count))
    }
    metrics.begin("grass_findings", .gauge, "Findings of a host that are not over.")
    each { report, host in
      for kind in Finding.Kind.allCases {
        for severity in Finding.Severity.allCases {
          let count = report.open.count { $0.kind == kind && $0.severity == severity }
          // Of each kind one line at least, so that rates and absences can be told.
          if count > 0 || severity == .critical {
            metrics.add(
              "grass_findings", [host, ("kind", kind.rawValue), ("severity", severity.rawValue)], Double(count))
          }
        }
      }
    }
    metrics.begin("grass_finding_open", .gauge, "1 for each detector whose finding of a host is not over.")
    each { report, host in
      for detector in Set(report.open.map(\.detector)).sorted() {
        metrics.add("grass_finding_open", [host, ("detector", detector)], 1)
      }
    }
    metrics.begin("grass_finding_changes_total", .counter, "Changes of findings that were taken of a host's log.")
    each { report, host in metrics.add("grass_finding_changes_total", [host], Double(report.taken)) }
    metrics.begin(
      "grass_finding_changes_missed_total", .counter, "Changes that a host's log had lost before they were taken.")
    each { report, host in metrics.add("grass_finding_changes_missed_total", [host], Double(report.missed)) }
    metrics.begin("grass_checks_total", .counter, "Checks of a host with all detectors by the service itself.")
    each { report, host in metrics.add("grass_checks_total", [host], Double(report.checks)) }
    metrics.begin("grass_check_timestamp_seconds", .gauge, "When a host was checked last.")
    each { report, host in
      if let last = report.lastCheck { metrics.add("grass_check_timestamp_seconds", [host], last) }
    }
    metrics.begin("grass_check_duration_seconds", .gauge, "How long the last check of a host took.")
    each { report, host in
      if let duration = report.checkDuration { metrics.add("grass_check_duration_seconds", [host], duration) }
    }
    metrics.begin("grass_check_success", .gauge, "Whether all detectors could look in the last check of a host.")
    each { report, host in
      if report.lastCheck != nil { metrics.add("grass_check_success", [host], report.checkProblem == nil ? 1 : 0) }
    }
    metrics.begin("grass_suspended_detectors", .gauge, "Detectors of a host's device that do not look.")
    each { report, host in metrics.add("grass_suspended_detectors", [host], Double(report.suspended)) }
    return metrics.text
  }
}

extension MetricsText {
  /// What a scrape of one host says: its state, how old what its memory says is, and that.
  static func probe(_ report: HostReport, _ scrape: NodeReader.Scrape) -> String {
    var metrics = MetricsText()
    let host = ("host", report.name)
    metrics.begin("grass_host_state", .gauge, "1 for the state that a host has, 0 for each that it has not.")
    for state in HostState.allCases {
      metrics.add("grass_host_state", [host, ("state", state.rawValue)], report.standing.state == state ? 1 : 0)
    }
    if let age = scrape.age {
      metrics.begin(
        "grass_memory_change_age_seconds", .gauge,
        "How long ago a host's memory was last seen to change: what follows is as old.")
      metrics.add("grass_memory_change_age_seconds", [host], age)
    }
    metrics.begin("grass_probe_success", .gauge, "Whether a host's memory could be read.")
    metrics.add("grass_probe_success", [host], scrape.problem == nil ? 1 : 0)
    metrics.begin("grass_probe_duration_seconds", .gauge, "How long reading a host's memory took.")
    metrics.add("grass_probe_duration_seconds", [host], scrape.duration)
    if let problem = scrape.problem { metrics.comment("the memory cannot be read: \(problem)") }
    for failure in scrape.failures { metrics.comment("\(failure.collector): \(failure.reason)") }
    metrics.text += scrape.text
    return metrics.text
  }

  /// A line for people.
  mutating func comment(_ words: String) {
    let line = words.prefix(500).unicodeScalars.map { $0.properties.generalCategory == .control ? " " : String($0) }
    text += "# \(line.joined())\n"
  }
}
