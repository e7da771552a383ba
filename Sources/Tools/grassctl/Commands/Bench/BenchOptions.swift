import ArgumentParser
import LinkBench
import Links
import Output
import Remote
import Views

/// What all benchmarks share.
struct BenchOptions: ParsableArguments {
  @Option(parsing: .upToNextOption, help: HostOptions.urlHelp)
  var host: [String]

  @Option(name: .shortAndLong, help: "Samples for each figure.")
  var count = 10_000

  @Option(help: "Seconds after which a figure takes no more samples.")
  var limit: Double = 20

  @Option(help: "Which sequence: own, paper or both.")
  var sequence: SequenceChoice = .both

  @Option(help: "How many requests may be in flight.")
  var slots = 4

  @Option(help: "Seconds to wait for an answer.")
  var timeout: Double = 10

  @Option(help: ArgumentHelp("Write the figures as JSON; - for standard output.", valueName: "file"))
  var json: String?

  @Option(help: ArgumentHelp("Draw the figures, as .svg or .png; needs gnuplot.", valueName: "file"))
  var plot: String?

  enum SequenceChoice: String, ExpressibleByArgument, CaseIterable {
    case own, paper, both

    var sequences: [Figure.Sequence] {
      switch self {
      case .own: [.own]
      case .paper: [.paper]
      case .both: [.own, .paper]
      }
    }
  }

  func validate() throws {
    if count < 1 { throw ValidationError("--count takes a number from 1 on.") }
    if !(1...127).contains(slots) { throw ValidationError("--slots takes 1 to 127.") }
    for (name, value) in [("--limit", limit), ("--timeout", timeout)] where !(value > 0 && value < 86400) {
      throw ValidationError("\(name) takes seconds, more than 0.")
    }
    if plot != nil, plotFormat == nil { throw ValidationError("--plot takes the name of an .svg or a .png file.") }
  }

  private var plotFormat: Plot.Format? {
    plot.flatMap { path in path.split(separator: ".").last.flatMap { Plot.Format(rawValue: $0.lowercased()) } }
  }

  /// Measures on every host, and gives the figures out as they were asked for.
  func measure(_ body: (LinkBenchmark) throws -> [Figure]) throws {
    var all: [Figure] = []
    for url in host {
      let benchmark = try reporting {
        let session = try HostOptions.connect(url, timeout: timeout, slots: slots)
        return try LinkBenchmark(session, at: LinkAddress(session.host), timeout: .seconds(timeout))
      }
      if benchmark.sequences == [.own] {
        writeNote("\(url): sessions carry keys, and the paper's sequence has none: it is left out")
      }
      all += try reporting { try body(benchmark) }
      benchmark.close()
    }
    if let json {
      try write(JSON.lines(all.map(\.json)), to: json)
    }
    if json != "-" { writeOutput(table(all)) }
    if let plot, let plotFormat { try reporting { try Plot.draw(all, as: plotFormat, to: plot) } }
  }

  /// One figure.
  func figure(
    _ benchmark: LinkBenchmark, _ what: Figure.What, byteCount: Int = 0
  ) throws -> [Figure] {
    writeNote("\(benchmark.address): \(what.rawValue)\(byteCount > 0 ? " of \(Plot.label(byteCount))" : "")")
    return try benchmark.measure(
      what, byteCount: byteCount, sequences: sequence.sequences.filter(benchmark.sequences.contains), count: count,
      limit: .seconds(limit))
  }

  func ping(_ benchmark: LinkBenchmark) -> [Figure] {
    writeNote("\(benchmark.address): ping")
    // Two milliseconds each.
    if let ping = Ping.measure(benchmark.address, count: min(count, Int(limit * 500))) { return [ping] }
    writeNote("there is no ping to compare with, or the host does not answer it")
    return []
  }

  private func table(_ measurements: [Figure]) -> String {
    var table = Table([
      ("WHAT", .left), ("SIZE", .right), ("SEQUENCE", .left), ("COUNT", .right), ("MEAN", .right), ("STDDEV", .right),
      ("50%", .right), ("90%", .right), ("99%", .right), ("MAX", .right), ("MB/S", .right), ("HOST", .left),
    ])
    for one in measurements {
      let times = [
        one.samples.mean, one.samples.standardDeviation, one.samples.percentile(50), one.samples.percentile(90),
        one.samples.percentile(99), one.samples.maximum,
      ].map(Heartbeat.tenths)
      table.add(
        [
          one.what.rawValue, one.byteCount > 0 ? Plot.label(one.byteCount) : "-", one.sequence?.rawValue ?? "-",
          "\(one.samples.count)",
        ] + times + [one.byteCount > 0 ? Heartbeat.tenths(one.throughput) : "-", one.host])
    }
    return table.text()
  }
}

/// The sizes of a benchmark of requests or results.
struct SizeOptions: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: "The sizes in bytes; K and M stand for 1,024 and 1,048,576.")
  var sizes: [ByteSize] = (0...12).map { ByteSize(count: 1024 << $0) }

  struct ByteSize: ExpressibleByArgument {
    var count: Int

    init(count: Int) { self.count = count }

    init?(argument: String) {
      let unit = argument.hasSuffix("K") ? 1024 : argument.hasSuffix("M") ? 1 << 20 : 1
      guard let count = Int(unit == 1 ? argument[...] : argument.dropLast()), (1...1 << 28).contains(count),
        (8...1 << 28).contains(count * unit)
      else { return nil }
      self.count = count * unit
    }

    var defaultValueDescription: String { Plot.label(count) }
  }
}

extension Figure {
  /// One object with all that is known; times in microseconds, throughput in 1,000,000 bytes a second.
  var json: JSON {
    .object([
      ("host", .string(host)), ("what", .string(what.rawValue)),
      ("sequence", sequence.map { .string($0.rawValue) } ?? .null),
      ("bytes", byteCount > 0 ? .integer(byteCount) : .null), ("count", .integer(samples.count)),
      ("mean_us", .number(samples.mean)), ("stddev_us", .number(samples.standardDeviation)),
      ("min_us", .number(samples.minimum)), ("p50_us", .number(samples.percentile(50))),
      ("p90_us", .number(samples.percentile(90))), ("p99_us", .number(samples.percentile(99))),
      ("p999_us", .number(samples.percentile(99.9))), ("max_us", .number(samples.maximum)),
      ("mb_per_s", byteCount > 0 ? .number(throughput) : .null),
    ])
  }
}
