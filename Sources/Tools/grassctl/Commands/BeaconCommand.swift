import ArgumentParser
import Glibc
import Output
import Remote
import Views

struct BeaconCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "beacon",
    abstract: "Shows the beacon: what the device says of itself without being asked.",
    discussion: """
      Reads the beacon twice, --interval apart, by one read of the region each; the device has no part in it, and nothing \
      is asked of the watched host. A device that runs renews its beacon many times a millisecond while it is busy, and \
      at least some hundred times a second. Exits with 0 where it was renewed in between, 2 where it was not, or where \
      the device has stopped. Whether the watched kernel lives, `grassctl life` tells.
      """)

  @Option(help: HostOptions.urlHelp)
  var host: String

  @Option(name: .shortAndLong, help: "Seconds between the two reads.")
  var interval: Double = 0.2

  @Option(help: "Seconds to wait for the beacon.")
  var timeout: Double = 5

  @OptionGroup var output: OutputOptions

  func validate() throws {
    if !(interval > 0 && interval < 3600) { throw ValidationError("--interval takes seconds, more than 0.") }
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  func run() throws {
    let session = try HostOptions.connect(host, timeout: timeout, slots: 1)
    let (first, before) = try reporting { (try session.beacon(), try session.line()) }
    usleep(UInt32(interval * 1e6))
    let (last, line) = try reporting { (try session.beacon(), try session.line()) }
    let renewed = last.counter &- first.counter
    // By the device's clock, between two lines: how long one tick takes from the next.
    let ticks = line.detectorTick &- before.detectorTick
    let tick = ticks > 0 ? Double(line.clock &- before.clock) / Double(ticks) : nil
    writeOutput(
      output.json
        ? JSON.lines([Self.json(of: last, line, tick: tick, renewed: renewed)])
        : text(of: last, line, tick: tick, renewed: renewed))
    if renewed == 0 || last.state != .running { throw ExitStatus.unreachable }
  }

  private static func name(of state: Beacon.State) -> String {
    switch state {
    case .running: "running"
    case .stopped: "stopped"
    case .unknown(let number): "unknown (\(number))"
    }
  }

  private static func json(of beacon: Beacon, _ line: SessionLine, tick: Double?, renewed: UInt64) -> JSON {
    .object([
      ("state", .string(name(of: beacon.state))), ("counter", .unsigned(beacon.counter)),
      ("renewed", .unsigned(renewed)), ("clock_nsec", .unsigned(beacon.clock)), ("served", .unsigned(beacon.served)),
      ("newest_finding", beacon.newestFinding == 0 ? .null : .unsigned(beacon.newestFinding)),
      ("detector_tick", .unsigned(line.detectorTick)), ("tick_nsec", tick.map { .number($0) } ?? .null),
      ("open_findings", .integer(line.open)), ("suspended_detectors", .integer(line.suspended)),
    ])
  }

  private func text(of beacon: Beacon, _ line: SessionLine, tick: Double?, renewed: UInt64) -> [UInt8] {
    let detectors =
      line.detectorTick == 0
      ? "none look"
      : "\(line.detectorTick) ticks"
        + (tick.map { ", one each \(Heartbeat.tenths($0 / 1e6)) ms" } ?? ", and none in between")
        + (line.suspended > 0 ? ", \(line.suspended) suspended" : "")
    let age =
      renewed > 0 ? "renewed \(renewed) times in \(Heartbeat.tenths(interval * 1000)) ms" : "not renewed any more"
    return Array(
      """
      State:          \(Self.name(of: beacon.state))
      Beacon:         \(beacon.counter), \(age)
      Device's clock: \(ElapsedTime.hundredths(beacon.clock)) s
      Answered:       \(beacon.served) requests
      Newest finding: \(beacon.newestFinding == 0 ? "none" : "\(beacon.newestFinding)"), \(line.open) open
      Detectors:      \(detectors)

      """.utf8)
  }
}
