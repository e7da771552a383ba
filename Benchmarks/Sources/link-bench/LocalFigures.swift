import Bench
import Foundation
import Links

/// Figures of the links on one machine.
struct LocalFigures {
  private let report: Report
  private let heartbeats = 10_000
  private let limit = Duration.seconds(4)

  init(_ report: Report) { self.report = report }

  /// Figures that are compared are taken in turn, so that what else the machine does meets them alike.
  func sharedMemory(_ url: String) throws {
    report.progress("shared memory")
    let benchmark = try LinkBenchmark(LinkAddress(url), slots: 4)
    defer { benchmark.close() }
    let heartbeat = try figures(benchmark, .heartbeat, 0)[0]
    report.row(
      "heartbeat over shared memory, \(heartbeat.samples.count) times", text(heartbeat.samples), "under 2 µs")
    for byteCount in [256 << 10, 1 << 20, 4 << 20] {
      let result = try figures(benchmark, .result, byteCount)[0]
      let copy = Peers.copy(byteCount: byteCount, count: 2000)
      report.figure("memcpy of \(Plot.label(byteCount))", copy)
      report.row(
        "result of \(Plot.label(byteCount)) over shared memory",
        "\(digits(result.throughput, 0)) MB/s",
        "\(percent(copy.percentile(50) / result.samples.percentile(50))) of memcpy's \(digits(Double(byteCount) / copy.percentile(50), 0)) MB/s, at least 80%"
      )
    }
  }

  func tcp(_ url: String) throws {
    report.progress("TCP on loopback")
    let benchmark = try LinkBenchmark(LinkAddress(url), slots: 4)
    defer { benchmark.close() }
    let before = try Peers.tcpPingPong(count: heartbeats)
    let (own, paper) = try pair(benchmark, .heartbeat, 0)
    let after = try Peers.tcpPingPong(count: heartbeats)
    for one in [before, after] { report.figure("bare TCP ping-pong, 64 bytes", one) }
    let bare = min(before.percentile(50), after.percentile(50))
    report.row(
      "heartbeat over TCP on loopback, \(own.samples.count) times", text(own.samples),
      "\(digits(own.samples.percentile(50) / bare, 2)) times a bare ping-pong's \(time(bare)), at most 1.5")
    if let ping = Ping.measure(benchmark.address, count: heartbeats / 4) {
      report.figure(ping)
      report.row("ping 127.0.0.1", text(ping.samples), "peer")
    }
    var shares = ["heartbeat \(percent(own.samples.percentile(50) / paper.samples.percentile(50)))"]
    for byteCount in [1024, 64 << 10, 1 << 20] {
      for what in [Figure.What.request, .result] {
        let (own, paper) = try pair(benchmark, what, byteCount)
        shares.append(
          "\(what.rawValue) of \(Plot.label(byteCount)) \(percent(own.samples.percentile(50) / paper.samples.percentile(50)))"
        )
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

  private func text(_ samples: Samples) -> String {
    "median \(time(samples.percentile(50))), mean \(time(samples.mean)), deviation \(time(samples.standardDeviation)), 99% \(time(samples.percentile(99)))"
  }
}
