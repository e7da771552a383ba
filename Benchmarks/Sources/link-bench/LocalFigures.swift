import Foundation
import LinkBench
import Links
import Measuring

/// Figures of the links on one machine.
struct LocalFigures {
  private let report: Report
  private let rounds = 5
  private let heartbeats = 2000
  private let limit = Duration.seconds(2)

  init(_ report: Report) { self.report = report }

  /// What is compared is taken in turn, and the best round of each counts: other work of the machine only adds.
  func sharedMemory(_ url: String) throws {
    report.progress("shared memory")
    let benchmark = try LinkBenchmark(LinkAddress(url), slots: 4)
    defer { benchmark.close() }
    let heartbeat = best(try (0..<rounds).map { _ in try figures(benchmark, .heartbeat, 0)[0] }.map(\.samples))
    report.row(
      "heartbeat over shared memory, best of \(rounds) × \(heartbeat.count)", text(heartbeat), "under 2 µs")
    for byteCount in [256 << 10, 1 << 20, 4 << 20] {
      var copies: [Samples] = []
      var results: [Samples] = []
      for _ in 0..<rounds {
        copies.append(Peers.copy(byteCount: byteCount, count: 500))
        results.append(try figures(benchmark, .result, byteCount)[0].samples)
      }
      for copy in copies { report.figure("memcpy of \(Plot.label(byteCount))", copy) }
      let (copy, result) = (best(copies).percentile(50), best(results).percentile(50))
      report.row(
        "result of \(Plot.label(byteCount)) over shared memory", "\(digits(Double(byteCount) / result, 0)) MB/s",
        "\(percent(copy / result)) of memcpy's \(digits(Double(byteCount) / copy, 0)) MB/s, at least 80%")
      try Ratios.note("result of \(Plot.label(byteCount)) over shared memory", peer: "memcpy", result / copy)
    }
  }

  func tcp(_ url: String) throws {
    report.progress("TCP on loopback")
    let benchmark = try LinkBenchmark(LinkAddress(url), slots: 4)
    defer { benchmark.close() }
    var bare: [Samples] = []
    var owns: [Samples] = []
    var papers: [Samples] = []
    for _ in 0..<rounds {
      bare.append(try TCPPingPong.run(count: heartbeats, polls: true))
      let (own, paper) = try pair(benchmark, .heartbeat, 0)
      owns.append(own.samples)
      papers.append(paper.samples)
    }
    for one in bare { report.figure("bare TCP ping-pong, 64 bytes", one) }
    let (own, paper, pingPong) = (best(owns), best(papers), best(bare))
    report.row(
      "heartbeat over TCP on loopback, best of \(rounds) × \(own.count)", text(own),
      "\(digits(own.percentile(50) / pingPong.percentile(50), 2)) times a bare ping-pong's \(time(pingPong.percentile(50))), at most 1.5"
    )
    try Ratios.note(
      "heartbeat over TCP", peer: "bare ping-pong that polls", own.percentile(50) / pingPong.percentile(50))
    if let ping = Ping.measure(benchmark.address, count: heartbeats) {
      report.figure(ping)
      report.row("ping 127.0.0.1", text(ping.samples), "peer")
    }
    var shares = ["heartbeat \(percent(own.percentile(50) / paper.percentile(50)))"]
    try Ratios.note("heartbeat over TCP", peer: "paper's sequence", own.percentile(50) / paper.percentile(50))
    for byteCount in [1024, 64 << 10, 1 << 20] {
      for what in [Figure.What.request, .result] {
        let (own, paper) = try pair(benchmark, what, byteCount)
        let share = own.samples.percentile(50) / paper.samples.percentile(50)
        shares.append("\(what.rawValue) of \(Plot.label(byteCount)) \(percent(share))")
        try Ratios.note("\(what.rawValue) of \(Plot.label(byteCount)) over TCP", peer: "paper's sequence", share)
      }
    }
    report.row("our sequence over TCP, as a share of the paper's", shares.joined(separator: ", "), "at most 50%")
  }

  private func figures(_ benchmark: LinkBenchmark, _ what: Figure.What, _ byteCount: Int) throws -> [Figure] {
    let figures = try benchmark.measure(
      what, byteCount: byteCount, sequences: [.own, .paper], count: heartbeats, limit: limit)
    for one in figures { report.figure(one) }
    return figures
  }

  private func pair(
    _ benchmark: LinkBenchmark, _ what: Figure.What, _ byteCount: Int
  ) throws -> (Figure, Figure) {
    let both = try figures(benchmark, what, byteCount)
    return (both[0], both[1])
  }

  private func best(_ rounds: [Samples]) -> Samples {
    rounds.min { $0.percentile(50) < $1.percentile(50) } ?? Samples(microseconds: [])
  }

  private func text(_ samples: Samples) -> String {
    "median \(time(samples.percentile(50))), mean \(time(samples.mean)), deviation \(time(samples.standardDeviation)), 99% \(time(samples.percentile(99)))"
  }
}
