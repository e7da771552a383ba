/// What node_exporter says of a host, under its own names, made of the same texts that it reads: those of /proc.
///
/// What a real node_exporter makes of the same texts is what this makes of them, but for devices that it leaves out by default, which are
/// left out here, too. Source: node_exporter 1.5, collector/*_linux.go.
struct NodeMetrics {
  private struct Family {
    var name: String
    var kind: MetricsText.Kind
    var help: String
    var samples: [(labels: [(String, String)], value: Double)] = []
  }

  private var families: [Family] = []
  private var places: [String: Int] = [:]

  /// Adds a sample; those of one name come together, in the order of the first.
  mutating func add(
    _ name: String, _ kind: MetricsText.Kind, _ help: String, _ labels: [(String, String)], _ value: Double
  ) {
    let place = places[name] ?? families.count
    if place == families.count {
      places[name] = place
      families.append(Family(name: name, kind: kind, help: help))
    }
    families[place].samples.append((labels, value))
  }

  mutating func add(_ name: String, _ kind: MetricsText.Kind, _ help: String, _ value: Double) {
    add(name, kind, help, [], value)
  }

  /// Writes all of it.
  func write(to text: inout MetricsText) {
    for family in families {
      text.begin(family.name, family.kind, family.help)
      for sample in family.samples { text.add(family.name, sample.labels, sample.value) }
    }
  }

  /// A text that does not say what it should.
  struct Malformed: Error, CustomStringConvertible {
    let description: String
    init(_ file: String) { description = "the text of /proc/\(file) is not what it should be" }
  }

  /// The text of a file below /proc, by its path from there.
  typealias Files = (String) throws -> String

  /// A part of what node_exporter collects, by its name for it.
  struct Collector: Sendable {
    let name: String
    let collect: @Sendable (inout NodeMetrics, Files) throws -> Void
  }

  /// In the order in which a host is asked: what fails last is least missed.
  static let collectors: [Collector] = [
    Collector(name: "stat", collect: statistics), Collector(name: "meminfo", collect: memory),
    Collector(name: "loadavg", collect: load), Collector(name: "netdev", collect: interfaces),
    Collector(name: "diskstats", collect: disks), Collector(name: "filefd", collect: descriptors),
    Collector(name: "vmstat", collect: virtualMemory), Collector(name: "pressure", collect: pressure),
    Collector(name: "schedstat", collect: scheduler), Collector(name: "softnet", collect: packets),
    Collector(name: "sockstat", collect: sockets), Collector(name: "netstat", collect: protocols),
    Collector(name: "entropy", collect: entropy),
  ]

  private static func lines(_ text: String) -> [[Substring]] {
    text.split(separator: "\n").map { $0.split(separator: " ") }
  }

  private static func number(_ text: Substring?, _ file: String) throws -> Double {
    guard let text, let value = Double(text) else { throw Malformed(file) }
    return value
  }

  // MARK: CPUs and the kernel

  /// The times of the CPUs, too, which node_exporter has as the collector `cpu`.
  private static func statistics(_ metrics: inout NodeMetrics, _ files: Files) throws {
    let modes = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"]
    let single: [String: (String, MetricsText.Kind, String)] = [
      "intr": ("node_intr_total", .counter, "Total number of interrupts serviced."),
      "ctxt": ("node_context_switches_total", .counter, "Total number of context switches."),
      "processes": ("node_forks_total", .counter, "Total number of forks."),
      "btime": ("node_boot_time_seconds", .gauge, "Node boot time, in unixtime."),
      "procs_running": ("node_procs_running", .gauge, "Number of processes in runnable state."),
      "procs_blocked": (
        "node_procs_blocked", .gauge, "Number of processes blocked waiting for I/O to complete."
      ),
    ]
    for words in lines(try files("stat")) {
      guard let first = words.first else { continue }
      if let (name, kind, help) = single[String(first)] {
        metrics.add(name, kind, help, try number(words[safe: 1], "stat"))
      } else if first.hasPrefix("cpu"), first != "cpu" {
        let cpu = ("cpu", String(first.dropFirst(3)))
        // In hundredths of a second.
        for (index, mode) in modes.enumerated() {
          metrics.add(
            "node_cpu_seconds_total", .counter, "Seconds the CPUs spent in each mode.", [cpu, ("mode", mode)],
            try number(words[safe: index + 1], "stat") / 100)
        }
        for (index, mode) in ["user", "nice"].enumerated() {
          metrics.add(
            "node_cpu_guest_seconds_total", .counter, "Seconds the CPUs spent in guests (VMs) for each mode.",
            [cpu, ("mode", mode)], try number(words[safe: index + 9], "stat") / 100)
        }
      }
    }
  }

  private static func load(_ metrics: inout NodeMetrics, _ files: Files) throws {
    let words = lines(try files("loadavg")).first ?? []
    for (index, minutes) in [1, 5, 15].enumerated() {
      metrics.add("node_load\(minutes)", .gauge, "\(minutes)m load average.", try number(words[safe: index], "loadavg"))
    }
  }

  /// In nanoseconds, of version 15 and later ones.
  private static func scheduler(_ metrics: inout NodeMetrics, _ files: Files) throws {
    let fields: [(String, String, Double)] = [
      ("running_seconds_total", "Number of seconds CPU spent running a process.", 1e9),
      ("waiting_seconds_total", "Number of seconds spent by processing waiting for this CPU.", 1e9),
      ("timeslices_total", "Number of timeslices executed by CPU.", 1),
    ]
    for words in lines(try files("schedstat")) where words.first?.hasPrefix("cpu") == true {
      for (index, (name, help, unit)) in fields.enumerated() {
        metrics.add(
          "node_schedstat_\(name)", .counter, help, [("cpu", String(words[0].dropFirst(3)))],
          try number(words[safe: index + 7], "schedstat") / unit)
      }
    }
  }

  private static func pressure(_ metrics: inout NodeMetrics, _ files: Files) throws {
    func add(_ resource: String, _ line: String, _ name: String, _ help: String) throws {
      let file = "pressure/\(resource)"
      guard let words = lines(try files(file)).first(where: { $0.first == line[...] }),
        let total = words.last, total.hasPrefix("total=")
      else { throw Malformed(file) }
      metrics.add("node_pressure_\(name)", .counter, help, try number(total.dropFirst(6), file) / 1e6)
    }
    try add(
      "cpu", "some", "cpu_waiting_seconds_total", "Total time in seconds that processes have waited for CPU time")
    try add(
      "io", "some", "io_waiting_seconds_total",
      "Total time in seconds that processes have waited due to IO congestion")
    try add(
      "io", "full", "io_stalled_seconds_total",
      "Total time in seconds no process could make progress due to IO congestion")
    try add(
      "memory", "some", "memory_waiting_seconds_total", "Total time in seconds that processes have waited for memory")
    try add(
      "memory", "full", "memory_stalled_seconds_total",
      "Total time in seconds no process could make progress due to memory congestion")
  }

  private static func descriptors(_ metrics: inout NodeMetrics, _ files: Files) throws {
    let words = try files("sys/fs/file-nr").split { " \t\n".contains($0) }
    for (index, name) in [(0, "allocated"), (2, "maximum")] {
      metrics.add(
        "node_filefd_\(name)", .gauge, "File descriptor statistics: \(name).",
        try number(words[safe: index], "sys/fs/file-nr"))
    }
  }

  private static func entropy(_ metrics: inout NodeMetrics, _ files: Files) throws {
    for (file, name, help) in [
      ("entropy_avail", "available_bits", "Bits of available entropy."),
      ("poolsize", "pool_size_bits", "Bits of entropy pool."),
    ] {
      let path = "sys/kernel/random/\(file)"
      let text = try files(path).split(separator: "\n").first
      metrics.add("node_entropy_\(name)", .gauge, help, try number(text, path))
    }
  }

  // MARK: Memory

  private static func memory(_ metrics: inout NodeMetrics, _ files: Files) throws {
    for words in lines(try files("meminfo")) {
      guard let first = words.first, first.hasSuffix(":"), words.count <= 3 else { throw Malformed("meminfo") }
      // Active(anon): is Active_anon.
      var name = first.dropLast().replacing("(", with: "_").replacing(")", with: "")
      var value = try number(words[safe: 1], "meminfo")
      if words.count == 3 {
        name += "_bytes"
        value *= 1024
      }
      metrics.add("node_memory_\(name)", .gauge, "Memory information field \(name).", value)
    }
  }

  private static func virtualMemory(_ metrics: inout NodeMetrics, _ files: Files) throws {
    for words in lines(try files("vmstat")) {
      guard let name = words.first else { continue }
      // ^(oom_kill|pgpg|pswp|pg.*fault).*
      guard
        name.hasPrefix("oom_kill") || name.hasPrefix("pgpg") || name.hasPrefix("pswp")
          || name.hasPrefix("pg") && name.dropFirst(2).contains("fault")
      else { continue }
      metrics.add(
        "node_vmstat_\(name)", .untyped, "/proc/vmstat information field \(name).",
        try number(words[safe: 1], "vmstat"))
    }
  }

  // MARK: Disks

  private static func disks(_ metrics: inout NodeMetrics, _ files: Files) throws {
    let fields: [(String, MetricsText.Kind, String, Double)] = [
      ("reads_completed_total", .counter, "The total number of reads completed successfully.", 1),
      ("reads_merged_total", .counter, "The total number of reads merged.", 1),
      ("read_bytes_total", .counter, "The total number of bytes read successfully.", 512),
      ("read_time_seconds_total", .counter, "The total number of seconds spent by all reads.", 0.001),
      ("writes_completed_total", .counter, "The total number of writes completed successfully.", 1),
      ("writes_merged_total", .counter, "The number of writes merged.", 1),
      ("written_bytes_total", .counter, "The total number of bytes written successfully.", 512),
      ("write_time_seconds_total", .counter, "This is the total number of seconds spent by all writes.", 0.001),
      ("io_now", .gauge, "The number of I/Os currently in progress.", 1),
      ("io_time_seconds_total", .counter, "Total seconds spent doing I/Os.", 0.001),
      ("io_time_weighted_seconds_total", .counter, "The weighted # of seconds spent doing I/Os.", 0.001),
      ("discards_completed_total", .counter, "The total number of discards completed successfully.", 1),
      ("discards_merged_total", .counter, "The total number of discards merged.", 1),
      ("discarded_sectors_total", .counter, "The total number of sectors discarded successfully.", 1),
      (
        "discard_time_seconds_total", .counter, "This is the total number of seconds spent by all discards.", 0.001
      ),
      ("flush_requests_total", .counter, "The total number of flush requests completed successfully", 1),
      (
        "flush_requests_time_seconds_total", .counter,
        "This is the total number of seconds spent by all flush requests.", 0.001
      ),
    ]
    for words in lines(try files("diskstats")) {
      guard words.count >= 14 else { throw Malformed("diskstats") }
      let device = String(words[2])
      guard !isLeftOut(device) else { continue }
      for (index, (name, kind, help, unit)) in fields.enumerated() {
        // Older kernels have fewer.
        guard let word = words[safe: index + 3] else { break }
        metrics.add("node_disk_\(name)", kind, help, [("device", device)], try number(word, "diskstats") * unit)
      }
    }
  }

  /// What node_exporter leaves out by default: parts, and devices that are made of memory or files.
  ///
  /// `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`
  private static func isLeftOut(_ device: String) -> Bool {
    let kind = device.prefix { !$0.isNumber }
    let isNumbered = kind.count < device.count && device.dropFirst(kind.count).allSatisfy(\.isNumber)
    if isNumbered, ["ram", "zram", "loop", "fd"].contains(kind) { return true }
    if isNumbered, let letter = kind.last, letter.isASCII, letter.isLowercase,
      ["hd", "sd", "vd", "xvd"].contains(kind.dropLast())
    {
      return true
    }
    guard device.hasPrefix("nvme") else { return false }
    let parts = device.dropFirst(4).split(separator: "p", omittingEmptySubsequences: false)
    return parts.count == 2 && !parts[1].isEmpty && parts[1].allSatisfy(\.isNumber)
  }

  // MARK: Networks

  private static func interfaces(_ metrics: inout NodeMetrics, _ files: Files) throws {
    let received = ["bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast"]
    let sent = ["bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed"]
    let names = received.map { "receive_\($0)" } + sent.map { "transmit_\($0)" }
    for line in try files("net/dev").split(separator: "\n").dropFirst(2) {
      // A name may have colons itself.
      guard let colon = line.lastIndex(of: ":") else { throw Malformed("net/dev") }
      let device = line[..<colon].drop { $0 == " " }
      let words = line[line.index(after: colon)...].split(separator: " ")
      for (index, name) in names.enumerated() {
        metrics.add(
          "node_network_\(name)_total", .counter, "Network device statistic \(name).", [("device", String(device))],
          try number(words[safe: index], "net/dev"))
      }
    }
  }

  private static func packets(_ metrics: inout NodeMetrics, _ files: Files) throws {
    let fields = [
      ("processed", "Number of processed packets"), ("dropped", "Number of dropped packets"),
      ("times_squeezed", "Number of times processing packets ran out of quota"),
    ]
    for (cpu, words) in lines(try files("net/softnet_stat")).enumerated() {
      for (index, (name, help)) in fields.enumerated() {
        guard let word = words[safe: index], let value = UInt32(word, radix: 16) else {
          throw Malformed("net/softnet_stat")
        }
        metrics.add("node_softnet_\(name)_total", .counter, help, [("cpu", "\(cpu)")], Double(value))
      }
    }
  }

  private static func sockets(_ metrics: inout NodeMetrics, _ files: Files) throws {
    func add(_ file: String) throws {
      for words in lines(try files(file)) {
        guard let first = words.first, first.hasSuffix(":") else { throw Malformed(file) }
        let name = first.dropLast()
        for index in stride(from: 1, to: words.count - 1, by: 2) {
          let (field, value) = (words[index], try number(words[index + 1], file))
          let help =
            name == "sockets" && field == "used"
            ? "Number of IPv4 sockets in use." : "Number of \(name) sockets in state \(field)."
          metrics.add("node_sockstat_\(name)_\(field)", .gauge, help, value)
          // Pages.
          if field == "mem", name == "TCP" || name == "UDP" {
            metrics.add(
              "node_sockstat_\(name)_mem_bytes", .gauge, "Number of \(name) sockets in state mem_bytes.", value * 4096)
          }
        }
      }
    }
    try add("net/sockstat")
    // A kernel may be without IPv6.
    try? add("net/sockstat6")
  }

  private static func protocols(_ metrics: inout NodeMetrics, _ files: Files) throws {
    var metrics_ = metrics
    func add(_ name: Substring, _ field: Substring, _ value: Double) {
      guard isWanted(name, field) else { return }
      metrics_.add("node_netstat_\(name)_\(field)", .untyped, "Statistic \(name)\(field).", value)
    }
    for file in ["net/netstat", "net/snmp"] {
      let lines = lines(try files(file))
      // Names, and in the next line their values.
      for index in stride(from: 0, to: lines.count - 1, by: 2) {
        let (names, values) = (lines[index], lines[index + 1])
        guard names.count == values.count, let first = names.first, first == values.first, first.hasSuffix(":") else {
          throw Malformed(file)
        }
        for (name, value) in zip(names, values).dropFirst() { add(first.dropLast(), name, try number(value, file)) }
      }
    }
    if let text = try? files("net/snmp6") {
      for words in text.split(separator: "\n").map({ $0.split { " \t".contains($0) } }) where words.count == 2 {
        // Ip6InReceives: the protocol ends with its 6.
        guard let six = words[0].firstIndex(of: "6") else { continue }
        let end = words[0].index(after: six)
        add(words[0][..<end], words[0][end...], try number(words[1], "net/snmp6"))
      }
    }
    metrics = metrics_
  }

  /// Which of them node_exporter has by default.
  private static func isWanted(_ name: Substring, _ field: Substring) -> Bool {
    if field == "InErrors" || field == "InErrs" { return true }
    return switch name {
    case "Ip": field == "Forwarding"
    case "Ip6", "IpExt": field == "InOctets" || field == "OutOctets"
    case "Icmp", "Icmp6": field == "InMsgs" || field == "OutMsgs"
    case "TcpExt":
      field.hasPrefix("Listen") || field.hasPrefix("Syncookies") || field == "TCPSynRetrans" || field == "TCPTimeouts"
    case "Tcp":
      ["ActiveOpens", "InSegs", "OutSegs", "OutRsts", "PassiveOpens", "RetransSegs", "CurrEstab"].contains(field)
    case "Udp", "Udp6": ["InDatagrams", "OutDatagrams", "NoPorts", "RcvbufErrors", "SndbufErrors"].contains(field)
    default: false
    }
  }
}

extension Array {
  fileprivate subscript(safe index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}
