import ArgumentParser
import LinkBench

struct BenchHeartbeat: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "heartbeat", abstract: "Heartbeats, beside as many pings of the host.")

  @OptionGroup var options: BenchOptions

  func run() throws {
    try options.measure { try options.figure($0, .heartbeat) + options.ping($0) }
  }
}

struct BenchRequest: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "request", abstract: "Requests of growing size, until the monitor has said that it took them.",
    discussion: """
      The monitor takes in a request whole and checks it, and then refuses it, since it asks for nothing: so nothing but \
      the way there is measured. What is longer than a slot is cut; `grassd --request-size` makes slots larger.
      """)

  @OptionGroup var options: BenchOptions
  @OptionGroup var sizes: SizeOptions

  func run() throws {
    try options.measure { benchmark in
      try sizes.sizes.flatMap { try options.figure(benchmark, .request, byteCount: $0.count) }
    }
  }
}

struct BenchResult: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "result", abstract: "Results of growing size: the watched memory's own bytes.",
    discussion: "What is longer than a slot is cut; `grassd --response-size` makes slots larger.")

  @OptionGroup var options: BenchOptions
  @OptionGroup var sizes: SizeOptions

  func run() throws {
    try options.measure { benchmark in
      try sizes.sizes.filter { $0.count <= benchmark.longestResult }
        .flatMap { try options.figure(benchmark, .result, byteCount: $0.count) }
    }
  }
}

struct BenchCompare: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare", abstract: "Everything at a few sizes, and how the two sequences compare.",
    discussion: "The last lines say the median of our own sequence as a share of the paper's.")

  @OptionGroup var options: BenchOptions

  @Option(parsing: .upToNextOption, help: "The sizes in bytes; K and M stand for 1,024 and 1,048,576.")
  var sizes: [SizeOptions.ByteSize] = [1024, 64 << 10, 1 << 20].map { .init(count: $0) }

  func run() throws {
    var lines = ""
    try options.measure { benchmark in
      var all = try options.figure(benchmark, .heartbeat) + options.ping(benchmark)
      for what in [Figure.What.request, .result] {
        for size in sizes { all += try options.figure(benchmark, what, byteCount: size.count) }
      }
      for own in all where own.sequence == .own {
        let paper = all.first {
          $0.sequence == .paper && $0.what == own.what && $0.byteCount == own.byteCount
        }
        guard let paper else { continue }
        let share = own.samples.percentile(50) / paper.samples.percentile(50)
        let size = own.byteCount > 0 ? " of \(Plot.label(own.byteCount))" : ""
        lines +=
          "\(own.host): \(own.what.rawValue)\(size) takes \(Int((share * 100).rounded()))% of the paper's sequence\n"
      }
      return all
    }
    if options.json != "-" { writeOutput(lines) }
  }
}
