import ArgumentParser
import Output
import Records
import Remote

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Runs a monitor on the device and prints its records.",
    discussion: """
      The monitor runs where grassd loaded it (its --monitors), on its GPU or its processor; nothing on the watched host \
      takes part. What ps, cpu, memory, life and panic find is printed as a table, or with --json under names; times \
      are in seconds, in JSON in nanoseconds where the name says so. A record of any other monitor is printed as its kind \
      and its bytes in hexadecimal. With --count above 1, the records are not printed, but how long the runs took: by \
      the device's clock, and from here. Exits with 0 for a whole result, 1 \
      where lanes ended early, 2 if the host did not answer.
      """)

  @Argument(help: "The monitor's name.")
  var monitor: String?

  @Option(help: HostOptions.urlHelp)
  var host: String

  @Flag(help: "Print the names of the device's monitors instead.")
  var list = false

  @Option(help: "How many lanes share the work; 0 leaves it to the device.")
  var lanes = 0

  @Option(help: "Passes of loops that each lane may take; 0 leaves it to the device.")
  var budget: UInt64 = 0

  @Option(
    name: .customLong("argument"), parsing: .singleValue,
    help: ArgumentHelp("A number for the monitor, decimal or 0x and hexadecimal; up to four.", valueName: "number"))
  var arguments: [Number] = []

  @Flag(help: "Translate every address by walking page tables: shows what the device's shorter ways give.")
  var walks = false

  @Option(name: .shortAndLong, help: "How many runs.")
  var count = 1

  @Option(help: "Seconds to wait for an answer.")
  var timeout: Double = 5

  @OptionGroup var output: OutputOptions

  func validate() throws {
    if list != (monitor == nil) { throw ValidationError("Name a monitor to run, or give --list.") }
    if arguments.count > 4 { throw ValidationError("A monitor takes up to four numbers.") }
    if count < 1 { throw ValidationError("--count takes a number from 1 on.") }
    if !(0...(1 << 24)).contains(lanes) { throw ValidationError("--lanes takes 0 to 16777216.") }
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  func run() throws {
    let session = try HostOptions.connect(host, timeout: timeout)
    guard let monitor else {
      let names = try reporting { try session.monitors() }
      if output.json {
        writeOutput(JSON.lines(names.map { .string($0) }))
      } else {
        writeOutput(names.map { $0 + "\n" }.joined())
      }
      return
    }
    var here = Statistics()
    var there = Statistics()
    var partial = 0
    var last: MonitorRun?
    let clock = ContinuousClock()
    for _ in 0..<count {
      let start = clock.now
      let run = try reporting {
        try session.run(monitor, lanes: lanes, budget: budget, arguments: arguments.map(\.value), walks: walks)
      }
      here.add(Heartbeat.microseconds(clock.now - start))
      there.add(Double(run.elapsed) / 1000)
      if run.result.isPartial { partial += 1 }
      last = run
    }
    guard let last else { return }
    if count == 1 {
      let records = last.result.records
      if let view = PrintedMonitors.parse(last.result, of: monitor) {
        writeOutput(output.json ? JSON.lines(view.json) : Array(view.text.utf8))
      } else if output.json {
        writeOutput(
          JSON.lines(
            records.map { .object([("kind", .integer($0.kind)), ("bytes", .string(Self.hexadecimal($0.bytes)))]) }))
      } else {
        writeOutput(records.map { "\($0.kind) \(Self.hexadecimal($0.bytes))\n" }.joined())
      }
    } else if output.json {
      writeOutput(
        JSON.lines([
          .object([
            ("monitor", .string(monitor)), ("runs", .integer(count)), ("partial", .integer(partial)),
            ("lanes", .integer(last.lanes)), ("records", .integer(last.result.records.count)),
            ("device_us", Self.json(of: there)), ("round_trip_us", Self.json(of: here)),
          ])
        ]))
    } else {
      writeOutput(
        "\(monitor): \(count) runs of \(last.lanes) lanes, \(last.result.records.count) records, \(partial) partial\n"
          + "on the device min/avg/max/stddev = \(there.text) us\nround trip min/avg/max/stddev = \(here.text) us\n")
    }
    if count == 1, !last.result.isPartial, PrintedMonitors.isKnown(monitor),
      PrintedMonitors.parse(last.result, of: monitor) == nil
    {
      writeNote("\(monitor): these are not the records of this version's monitor; they are printed as they are")
    }
    for fault in last.result.faults { writeNote("\(monitor): \(fault)") }
    if last.faulted > last.result.faults.count {
      writeNote("\(monitor): \(last.faulted - last.result.faults.count) more lanes ended early")
    }
    if partial > 0 { throw ExitStatus.partial }
  }

  private static func json(of statistics: Statistics) -> JSON {
    .object([
      ("min", .number(statistics.minimum)), ("avg", .number(statistics.mean)), ("max", .number(statistics.maximum)),
      ("stddev", .number(statistics.standardDeviation)),
    ])
  }

  private static func hexadecimal(_ bytes: some Collection<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}

/// A number of a command line, decimal or hexadecimal.
struct Number: ExpressibleByArgument {
  let value: UInt64

  init?(argument: String) {
    let number = argument.hasPrefix("0x") ? UInt64(argument.dropFirst(2), radix: 16) : UInt64(argument)
    guard let number else { return nil }
    value = number
  }
}
