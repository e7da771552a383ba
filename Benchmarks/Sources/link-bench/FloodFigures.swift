import Foundation
import LinkBench
import Links
import Measuring
import Remote

/// What 64 honest clients notice of a thousand connections that mean no good, and what those cost grassd.
struct FloodFigures {
  private let report: Report
  private let bin: URL
  private let daemon: Daemon
  private let clients = 64
  private let connections = 1000
  private let rounds = 5
  /// Each client asks so often, and waits so long in between: a fleet of watchers, and no race for the processor.
  private let heartbeats = 50
  private let pause: TimeInterval = 0.02

  init(_ report: Report, bin: URL, daemon: Daemon) {
    self.report = report
    self.bin = bin
    self.daemon = daemon
  }

  /// What the clients of one round found.
  private struct Outcome {
    var heartbeats: [Double] = []
    var connects: [Double] = []
    var failures: [String] = []
  }

  private final class Outcomes: @unchecked Sendable {
    // Used only under the lock.
    private let lock = NSLock()
    private var all = Outcome()

    func add(_ one: Outcome) {
      lock.withLock {
        all.heartbeats += one.heartbeats
        all.connects += one.connects
        all.failures += one.failures
      }
    }
    var outcome: Outcome { lock.withLock { all } }
  }

  /// Rounds without a flood and with one, in turn.
  func tcp(_ url: String) throws {
    report.progress("\(clients) clients over TCP, without and with \(connections) connections that mean no good")
    let address = try LinkAddress(url)
    var (quiet, flooded) = (Outcome(), Outcome())
    var (medians, most) = ([Double](), (threads: 0, descriptors: 0, kibibytes: 0))
    for _ in 0..<rounds {
      let before = round(address)
      let flood = try Flood(bin: bin, url: url, connections: connections)
      let during = round(address) { most = Self.larger(most, daemon.usage) }
      flood.stop()
      medians.append(Samples(microseconds: during.heartbeats).median / Samples(microseconds: before.heartbeats).median)
      quiet = Self.sum(quiet, before)
      flooded = Self.sum(flooded, during)
    }
    for text in Set(quiet.failures + flooded.failures) { report.progress(text) }
    let ratio = medians.sorted()[rounds / 2]
    let (own, other) = (Samples(microseconds: quiet.heartbeats), Samples(microseconds: flooded.heartbeats))
    report.figure("heartbeat of \(clients) clients over TCP, without a flood", own)
    report.figure("heartbeat of \(clients) clients over TCP, in a flood of \(connections)", other)
    let (came, late) = (Samples(microseconds: quiet.connects), Samples(microseconds: flooded.connects))
    report.figure("connecting over TCP, without a flood", came)
    report.figure("connecting over TCP, in a flood of \(connections)", late)
    report.row(
      "heartbeat of \(clients) clients over TCP beside \(connections) connections that are silent, half open, send garbage or read slowly",
      "median \(time(other.median)), without them \(time(own.median)); \(flooded.failures.count) of \(clients * rounds) refused; connecting \(time(late.median)), without them \(time(came.median))",
      "\(digits(ratio, 2)) times (\(medians.map { digits($0, 2) }.joined(separator: ", "))), at most 2; none refused")
    report.row(
      "grassd meanwhile, at most",
      "\(most.threads) threads, \(most.descriptors) descriptors, \(most.kibibytes >> 10) MiB",
      "a thread for each of 96 slots, and some")
    try Ratios.note("heartbeat over TCP in a flood", peer: "without the flood", ratio)
  }

  private static func sum(_ one: Outcome, _ other: Outcome) -> Outcome {
    Outcome(
      heartbeats: one.heartbeats + other.heartbeats, connects: one.connects + other.connects,
      failures: one.failures + other.failures)
  }

  private static func larger(
    _ one: (threads: Int, descriptors: Int, kibibytes: Int), _ other: (threads: Int, descriptors: Int, kibibytes: Int)
  ) -> (threads: Int, descriptors: Int, kibibytes: Int) {
    (
      max(one.threads, other.threads), max(one.descriptors, other.descriptors), max(one.kibibytes, other.kibibytes)
    )
  }

  /// All clients at once; `watch` is called meanwhile, again and again.
  private func round(_ address: LinkAddress, watch: () -> Void = {}) -> Outcome {
    let (outcomes, group, heartbeats, pause) = (Outcomes(), DispatchGroup(), heartbeats, pause)
    for _ in 0..<clients {
      group.enter()
      Thread {
        outcomes.add(Self.client(address, heartbeats, pause))
        group.leave()
      }.start()
    }
    while group.wait(timeout: .now() + 0.05) == .timedOut { watch() }
    return outcomes.outcome
  }

  private static func client(_ address: LinkAddress, _ heartbeats: Int, _ pause: TimeInterval) -> Outcome {
    var outcome = Outcome()
    do {
      let clock = ContinuousClock()
      let start = clock.now
      let session = try Session(to: address, slots: 4)
      outcome.connects.append(microseconds(clock.now - start))
      for _ in 0..<heartbeats {
        outcome.heartbeats.append(microseconds(try clock.measure { _ = try session.heartbeat() }))
        Thread.sleep(forTimeInterval: pause)
      }
      session.close()
    } catch {
      outcome.failures.append("\(error)")
    }
    return outcome
  }
}

/// `linkcheck flood` as a process.
private final class Flood {
  private let process = Process()

  init(bin: URL, url: String, connections: Int) throws {
    process.executableURL = bin.appendingPathComponent("linkcheck")
    process.arguments = ["flood", url, "--connections", "\(connections)"]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    guard !output.fileHandleForReading.availableData.isEmpty else { throw BenchmarkError("the flood ended") }
  }

  func stop() {
    process.terminate()
    process.waitUntilExit()
  }
}
