import ArgumentParser
import KernelViews
import Output

struct Dmesg: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Prints the kernel log.",
    discussion: "In JSON, ts_nsec is in nanoseconds since boot and level is printk's number, 0 (emerg) to 7 (debug).")

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Flag(name: [.customShort("x"), .long], help: "Show facility and level before each line.")
  var decode = false

  @Option(name: [.customShort("n"), .long], help: "Only the last so many records.")
  var tail: Int?

  @Option(
    name: .shortAndLong,
    help: "Only records of this level or worse: emerg, alert, crit, err, warn, notice, info, debug.")
  var level: String?

  func validate() throws {
    if let level, worst(level) == nil {
      throw ValidationError("There is no level '\(level)': emerg, alert, crit, err, warn, notice, info and debug are.")
    }
    if let tail, tail < 0 { throw ValidationError("--tail takes a number of records, and \(tail) is none.") }
  }

  private func worst(_ name: String) -> LogRecord.Level? { LogRecord.Level.allCases.first { $0.name == name } }

  func run() throws {
    let kernel = try source.openKernel()
    let log = try reporting { try kernel.log() }
    var records = log.records[...]
    if let limit = level.flatMap(worst) { records = records.filter { $0.level.rawValue <= limit.rawValue }[...] }
    if let tail { records = records.suffix(tail) }
    if output.json {
      writeOutput(
        JSON.lines(records.map(Self.json)))
    } else {
      var text = ""
      for record in records {
        let prefix = decode ? "\(Self.facility(record.facility)):\(Self.pad(record.level.name, 6)): " : ""
        for line in record.lines { text += prefix + line.printable + "\n" }
      }
      writeOutput(text)
    }
    if log.torn > 0 {
      writeNote("\(log.torn) records were being written or overwritten and are left out")
      throw ExitStatus.partial
    }
  }

  static func json(of record: LogRecord) -> JSON {
    .object([
      ("seq", .unsigned(record.sequence)), ("ts_nsec", .unsigned(record.time)),
      ("level", .integer(record.level.rawValue)), ("facility", .integer(record.facility)),
      ("caller_id", .integer(record.caller)), ("text", .bytes(record.text)),
    ])
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  /// The syslog facility's name, as `dmesg --decode` shows it.
  private static func facility(_ number: UInt8) -> String {
    let names = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
    return pad(Int(number) < names.count ? names[Int(number)] : "\(number)", 6)
  }
}
