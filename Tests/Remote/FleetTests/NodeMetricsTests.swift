import Foundation
import Glibc
import Scratch
import Testing

@testable import Fleet

/// What is made of /proc's texts, held against what a real node_exporter makes of the same.
struct NodeMetricsTests {
  /// What this machine may not have, or not of every kind.
  private static let texts: [String: String] = [
    "diskstats": """
     259       0 nvme0n1 100 5 4096 30 200 6 8192 40 2 50 90 7 8 16 9 10 11
     259       1 nvme0n1p1 90 5 4000 30 200 6 8192 40 0 50 90 7 8 16 9 10 11
       8       0 sda 1 2 3 4 5 6 7 8 9 10 11
       8       1 sda1 1 2 3 4 5 6 7 8 9 10 11
     253       0 dm-0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
     252       0 nullb0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17
       7       0 loop0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17
       1       0 ram0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17
      11       0 sr0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17

    """,
    "schedstat": """
    version 15
    timestamp 4295000000
    cpu0 0 0 0 0 0 0 5000000000 1500000000 777
    domain0 3 1 2 3
    cpu1 0 0 0 0 0 0 6000000000 2500000000 888

    """,
    "pressure/cpu": """
    some avg10=0.10 avg60=0.20 avg300=0.30 total=1234567
    full avg10=0.00 avg60=0.00 avg300=0.00 total=0

    """,
    "pressure/io": """
    some avg10=0.10 avg60=0.20 avg300=0.30 total=2234567
    full avg10=0.00 avg60=0.00 avg300=0.00 total=1000001

    """,
    "pressure/memory": """
    some avg10=0.10 avg60=0.20 avg300=0.30 total=3
    full avg10=0.00 avg60=0.00 avg300=0.00 total=2

    """,
    // Without lo, which node_exporter has by netlink, as by default, and not by the file.
    "net/dev": """
    Inter-|   Receive                                                |  Transmit
     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
      eth0: 18446744073709551615 20 1 2 3 4 5 6 3000 30 7 8 9 10 11 12
    eth0.7:12 20 1 2 3 4 5 6 3000 30 7 8 9 10 11 12

    """,
  ]

  private static let own = [
    "stat", "meminfo", "loadavg", "vmstat", "net/softnet_stat", "net/sockstat", "net/sockstat6", "net/netstat",
    "net/snmp", "net/snmp6", "sys/fs/file-nr", "sys/kernel/random/entropy_avail", "sys/kernel/random/poolsize",
  ]

  /// A folder like /proc, with those texts and this machine's own of now.
  private func folder(in scratch: borrowing Scratch) throws -> String {
    let root = scratch.file("proc")
    for file in Self.own + Self.texts.keys {
      let text = try Self.texts[file] ?? String(contentsOfFile: "/proc/\(file)", encoding: .utf8)
      let path = URL(fileURLWithPath: "\(root)/\(file)")
      try FileManager.default.createDirectory(
        at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
      try text.write(to: path, atomically: true, encoding: .utf8)
    }
    return root
  }

  /// Lines of an exposition by what stands before their values; values as numbers, since programs write them in different ways.
  private func samples(_ text: String, only names: Set<String>? = nil) throws -> [String: Double] {
    var samples: [String: Double] = [:]
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      let end = try #require(line.lastIndex(of: " "))
      let name = String(line.prefix { $0 != "{" && $0 != " " })
      guard names?.contains(name) ?? true else { continue }
      let key = String(line[..<end])
      #expect(samples[key] == nil, "\(key) is there twice")
      let value: Double = try #require(Double(line[line.index(after: end)...]), "\(line)")
      samples[key] = value
    }
    return samples
  }

  @Test func theyAreWhatNodeExporterMakesOfTheSameTexts() throws {
    let scratch = try Scratch()
    let root = try folder(in: scratch)
    var metrics = NodeMetrics()
    for collector in NodeMetrics.collectors {
      try collector.collect(&metrics) { try String(contentsOfFile: "\(root)/\($0)", encoding: .utf8) }
    }
    var text = MetricsText()
    metrics.write(to: &text)

    let output = try exporter(root)
    let ours = try samples(text.text)
    let names = Set(ours.keys.map { String($0.prefix { $0 != "{" && $0 != " " }) })
    let theirs = try samples(output, only: names)
    #expect(Set(ours.keys).symmetricDifference(theirs.keys).isEmpty)
    for (key, value) in ours {
      let other = theirs[key] ?? .nan
      // Hundredths and thousandths are rounded in different places.
      #expect(abs(value - other) <= abs(other) * 1e-12, "\(key): \(value), and node_exporter says \(other)")
    }
    #expect(names.count > 150 && names.contains("node_memory_MemTotal_bytes") && names.contains("node_disk_io_now"))
    // Help and types, too: a server that scrapes both takes them for the same metrics.
    let heads = Set(output.split(separator: "\n").filter { $0.hasPrefix("# ") })
    for line in text.text.split(separator: "\n") where line.hasPrefix("# ") {
      let isTheirs = heads.contains(line)
      #expect(isTheirs, "\(line)")
    }
    // Nothing of what these collectors have by default is missing, but what is not a file's of /proc.
    let all = Set(try samples(output).keys.map { String($0.prefix { $0 != "{" && $0 != " " }) })
    let left = all.subtracting(names).filter { $0.hasPrefix("node_") }
    #expect(left.isSubset(of: ["node_disk_info", "node_exporter_build_info"]), "\(left)")
  }

  /// What a real node_exporter says of a folder like /proc.
  private func exporter(_ root: String) throws -> String {
    let collectors = NodeMetrics.collectors.map(\.name) + ["cpu"]
    // It chooses no port by itself; the next is tried where one is taken.
    for _ in 0..<5 {
      let port = Int.random(in: 20000..<32000)
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments =
        [
          "prometheus-node-exporter", "--path.procfs=\(root)",
          "--web.listen-address=127.0.0.1:\(port)", "--web.disable-exporter-metrics", "--collector.disable-defaults",
          "--no-collector.netdev.netlink",
        ] + collectors.map { "--collector.\($0)" }
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      defer {
        process.terminate()
        process.waitUntilExit()
      }
      for _ in 0..<200 where process.isRunning {
        usleep(50_000)
        let asking = Process()
        asking.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        asking.arguments = ["curl", "-sf", "--max-time", "10", "http://127.0.0.1:\(port)/metrics"]
        let output = Pipe()
        asking.standardOutput = output
        try asking.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        asking.waitUntilExit()
        if asking.terminationStatus == 0, process.isRunning {
          return text.split(separator: "\n").filter { !$0.contains("node_scrape_collector") }.joined(separator: "\n")
        }
      }
    }
    Issue.record("no node_exporter: is scripts/setup done?")
    return ""
  }

  @Test func textsThatSaySomethingElseAreRefused() {
    let files = [
      "stat": "cpu0 1 x\n", "meminfo": "MemTotal 3 kB\n", "loadavg": "", "net/dev": "a\nb\nlo 1 2\n",
      "diskstats": "8 0 sda 1\n", "sys/fs/file-nr": "1", "vmstat": "pgfault\n", "pressure/cpu": "some total=x\n",
      "schedstat": "cpu0 1\n", "net/softnet_stat": "zz\n", "net/sockstat": "TCP inuse\n", "net/netstat": "A: x\nB: 1\n",
      "sys/kernel/random/entropy_avail": "",
    ]
    for collector in NodeMetrics.collectors {
      #expect(throws: (any Error).self, "\(collector.name)") {
        var metrics = NodeMetrics()
        try collector.collect(&metrics) { files[$0] ?? "" }
      }
    }
  }

  @Test func aHostThatCannotBeReadHasItsStateOnly() {
    let report = HostReport(
      name: "a", url: "", labels: [:], standing: Standing(state: .unreachable, since: 1, cause: ""), heartbeatAge: nil,
      heartbeats: HeartbeatHistory(), open: [], worstSeverity: 0, suspended: 0, missed: 0, seen: nil, taken: 0)
    let text = MetricsText.probe(report, .init(problem: "no\nway \u{202e}"))
    #expect(text.contains("grass_host_state{host=\"a\",state=\"unreachable\"} 1\n"))
    #expect(text.contains("# the memory cannot be read: no way"))
    #expect(!text.contains("node_") && !text.contains("\n way"))
  }
}
