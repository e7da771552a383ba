import ArgumentParser
import Glibc
import Output
import Remote

struct Heartbeat: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "heartbeat", abstract: "Asks whether the monitor lives, again and again, as ping does.",
    discussion: """
      Each heartbeat is a request that the monitor's device answers; nothing on the watched host takes part. Times are in \
      microseconds. With --interval 0 only the summary is printed. Exits with 0 if all were answered, 1 if some, 2 if none.
      """)

  @Option(help: HostOptions.urlHelp)
  var host: String

  @Option(name: .shortAndLong, help: "How many heartbeats.")
  var count = 5

  @Option(name: .shortAndLong, help: "Seconds between two heartbeats.")
  var interval: Double = 1

  @Option(help: "Seconds to wait for an answer before a heartbeat counts as lost.")
  var timeout: Double = 1

  @OptionGroup var output: OutputOptions

  func validate() throws {
    if count < 1 { throw ValidationError("--count takes a number from 1 on.") }
    if !(interval >= 0 && interval < 86400) { throw ValidationError("--interval takes seconds, from 0 on.") }
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  func run() throws {
    let session = try HostOptions.connect(host, timeout: timeout, slots: 1)
    var statistics = Statistics()
    var sent = 0
    var failure: SessionError?
    let clock = ContinuousClock()
    let begin = clock.now
    for sequence in 1...count {
      let start = clock.now
      sent += 1
      do throws(SessionError) {
        try session.heartbeat()
        let microseconds = Self.microseconds(clock.now - start)
        statistics.add(microseconds)
        if interval > 0, !output.json {
          writeOutput("heartbeat from \(host): seq=\(sequence) time=\(Self.tenths(microseconds)) us\n")
        }
      } catch {
        writeNote("seq=\(sequence): \(error)")
        failure = error
        // Without its link the session is over; a monitor that does not answer may yet do so.
        if case .link = error.reason { break }
      }
      if sequence < count, interval > 0 { usleep(UInt32(min(interval, 3600) * 1_000_000)) }
    }
    let elapsed = Self.microseconds(clock.now - begin) / 1000
    if output.json {
      writeOutput(JSON.lines([json(of: statistics, sent: sent)]))
    } else {
      let lost = Double(sent - statistics.count) / Double(sent) * 100
      writeOutput(
        "--- \(host) heartbeat statistics ---\n\(sent) sent, \(statistics.count) answered, \(Self.tenths(lost))% lost, time \(Int(elapsed)) ms\n"
      )
      if statistics.count > 0 {
        writeOutput(
          "min/avg/max/stddev = \(statistics.text) us\n"
        )
      }
    }
    if failure != nil { throw statistics.count == 0 ? ExitStatus.unreachable : ExitStatus.partial }
  }

  private func json(of statistics: Statistics, sent: Int) -> JSON {
    .object([
      ("host", .string(host)), ("sent", .integer(sent)), ("answered", .integer(statistics.count)),
      ("min_us", .number(statistics.minimum)), ("avg_us", .number(statistics.mean)),
      ("max_us", .number(statistics.maximum)), ("stddev_us", .number(statistics.standardDeviation)),
    ])
  }

  static func microseconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) * 1e6 + Double(duration.components.attoseconds) / 1e12
  }

  static func tenths(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
  }
}

/// Minimum, mean, maximum and standard deviation of what was added, in one pass.
struct Statistics {
  private(set) var count = 0
  private(set) var minimum = Double.nan
  private(set) var maximum = Double.nan
  private(set) var mean = Double.nan
  private var squares = 0.0

  /// Welford's method: stable however many values there are.
  mutating func add(_ value: Double) {
    count += 1
    guard count > 1 else {
      (minimum, maximum, mean) = (value, value, value)
      return
    }
    minimum = min(minimum, value)
    maximum = max(maximum, value)
    let difference = value - mean
    mean += difference / Double(count)
    squares += difference * (value - mean)
  }

  /// Minimum, mean, maximum and standard deviation as ping prints them.
  var text: String {
    [minimum, mean, maximum, standardDeviation].map(Heartbeat.tenths).joined(separator: "/")
  }

  var standardDeviation: Double { count == 0 ? .nan : (squares / Double(count)).squareRoot() }
}
