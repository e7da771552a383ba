import Foundation
import Lab
import LinkBench
import Links
import Measuring

/// Figures of RDMA, in the laboratory: a card guest, its own remote host, asks itself over a software device that loops
/// back, so that both ends have the same two cores as those of perftest.
///
/// The watched guest stands still meanwhile.
struct VerbsFigures {
  private let report: Report
  private let lab: CardLab
  private var port = 18_600

  init(_ report: Report, bin: URL) throws {
    self.report = report
    report.progress("verbs: booting the laboratory")
    lab = try CardLab(
      programs: bin, watching: GuestOptions(memory: 256, sleepers: nil), hasRemote: false,
      tools: ["ib_write_lat", "ib_read_lat", "ib_read_bw", "ping"].map { "/usr/bin/\($0)" },
      slots: longSlots.joined(separator: " "))
    try lab.watched?.pause()
  }

  func shutDown() { lab.shutDown() }

  mutating func run() throws {
    report.progress("verbs: heartbeat, beside perftest")
    var least = [Double.infinity, .infinity]
    var own: [Row] = []
    for _ in 0..<5 {
      least = zip(least, try latencies()).map { min($0, $1) }
      own += try figures("heartbeat", count: 2000, limit: 8)
    }
    // The best round of each counts: other work of the machine only adds.
    own.sort { $0.median < $1.median }
    guard let heartbeat = own.first(where: { $0.sequence == "own" }) else { return }
    report.row(
      "heartbeat over verbs (software device), best of 5 × \(heartbeat.count)",
      "median \(time(heartbeat.median)), mean \(time(heartbeat.mean)), deviation \(time(heartbeat.deviation)), 99% \(time(heartbeat.percentile99))",
      "\(digits(heartbeat.median / least.reduce(0, +), 2)) times ib_write_lat + ib_read_lat (\(time(least[0])) + \(time(least[1]))), at most 1.3"
    )
    try Ratios.note("heartbeat over verbs", peer: "ib_write_lat + ib_read_lat", heartbeat.median / least.reduce(0, +))
    if let ping = own.first(where: { $0.what == "ping" }) {
      report.row(
        "ping in the same guest",
        "median \(time(ping.median)), mean \(time(ping.mean)), deviation \(time(ping.deviation))",
        "peer")
    }
    var shares = try share(own, "heartbeat", 0)
    for what in ["request", "result"] {
      report.progress("verbs: \(what)s")
      let all = try figures("\(what) --sizes 1K 64K 1M", count: 500, limit: 4)
      for byteCount in [1024, 64 << 10, 1 << 20] { shares += try share(all, what, byteCount) }
    }
    report.row("our sequence over verbs, as a share of the paper's", shares.joined(separator: ", "), "at most 50%")
    report.progress("verbs: throughput, beside perftest")
    for byteCount in [256 << 10, 1 << 20, 4 << 20] {
      let rounds = max(8, (8 << 20) / byteCount)
      var bare = 0.0
      var best = 0.0
      for _ in 0..<3 {
        // perftest says MiB where it says MB.
        bare = max(bare, try perftest("ib_read_bw", "-s \(byteCount) -n \(rounds)", column: 3) * 1.048576)
        let all = try figures("result --sequence own --sizes \(byteCount)", count: rounds, limit: 8)
        best = max(best, all.first?.throughput ?? 0)
      }
      report.row(
        "result of \(Plot.label(byteCount)) over verbs", "\(digits(best, 1)) MB/s",
        "\(percent(best / bare)) of ib_read_bw's \(digits(bare, 1)) MB/s, at least 90%")
      try Ratios.note("result of \(Plot.label(byteCount)) over verbs", peer: "ib_read_bw", bare / best)
    }
  }

  private struct Row {
    var what: String
    var sequence: String?
    var byteCount: Int
    var count: Int
    var median, mean, deviation, percentile99, throughput: Double
  }

  /// What `grassctl bench` measures in the card.
  private func figures(_ arguments: String, count: Int, limit: Int) throws -> [Row] {
    let output = try lab.card.run(
      "grassctl bench \(arguments) --host \(lab.url) --count \(count) --limit \(limit) --json - 2> /tmp/notes || cat /tmp/notes",
      timeout: .seconds(500))
    report.note("grassctl bench \(arguments):\n\(output.text)")
    guard let rows = try? JSONSerialization.jsonObject(with: Data(output.bytes)) as? [[String: Any]] else {
      throw BenchmarkError("grassctl bench \(arguments) in the card: \(output.text)")
    }
    return rows.map { row in
      func number(_ name: String) -> Double { (row[name] as? NSNumber)?.doubleValue ?? .nan }
      return Row(
        what: row["what"] as? String ?? "", sequence: row["sequence"] as? String,
        byteCount: (row["bytes"] as? NSNumber)?.intValue ?? 0, count: (row["count"] as? NSNumber)?.intValue ?? 0,
        median: number("p50_us"), mean: number("mean_us"), deviation: number("stddev_us"),
        percentile99: number("p99_us"), throughput: number("mb_per_s"))
    }
  }

  private func share(_ rows: [Row], _ what: String, _ byteCount: Int) throws -> [String] {
    let both = rows.filter { $0.what == what && $0.byteCount == byteCount }
    guard let own = both.first(where: { $0.sequence == "own" }),
      let paper = both.first(where: { $0.sequence == "paper" })
    else { return [] }
    let name = byteCount > 0 ? "\(what) of \(Plot.label(byteCount))" : what
    try Ratios.note("\(name) over verbs", peer: "paper's sequence", own.median / paper.median)
    return ["\(name) \(percent(own.median / paper.median))"]
  }

  /// What perftest calls typical, of a write one way and of a read, in microseconds.
  private mutating func latencies() throws -> [Double] {
    [
      try perftest("ib_write_lat", "-s 64 -n 1000", column: 4), try perftest("ib_read_lat", "-s 64 -n 1000", column: 4),
    ]
  }

  /// A number of perftest's line of results, by its column.
  private mutating func perftest(_ name: String, _ arguments: String, column: Int) throws -> Double {
    port += 1
    let command = "\(name) -d rxe0 -x 1 -p \(port) \(arguments)"
    let output = try lab.card.run(
      "\(command) > /tmp/perftest 2>&1 & sleep 1; \(command) 10.71.0.1 2>&1; wait", timeout: .seconds(300))
    report.note("\(command):\n\(output.text.filter { $0 != "\0" })")
    let line = output.text.split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace) }.last {
      $0.count > column && Int($0[0]) != nil && Double($0[column]) != nil
    }
    guard let line, let value = Double(line[column]), value.isFinite else {
      // It gives up where it cannot tell how fast the processor's clock runs: another round may.
      report.progress("\(name) gave no figure")
      return column == 3 ? 0 : .infinity
    }
    return value
  }
}
