public import LinuxKernel
public import Views

/// The kernel log, as dmesg(1) prints it.
public struct LogView: KernelView {
  /// printk's levels, by the names that dmesg takes.
  public enum LevelName: String, CaseIterable, ViewOptionValue, ViewOptionDefault {
    case emerg, alert, crit, err, warn, notice, info, debug
  }

  public struct Options: ViewOptions {
    @ViewOption(short: "x", help: "Show facility and level before each line.") public var decode = false
    @ViewOption(short: "n", help: "Only the last so many records.") public var tail: Int?
    @ViewOption(short: "l", selects: true, help: "Only records of this level or worse.") public var level: LevelName?
    public init() {}

    public func problem() -> String? {
      tail.flatMap { $0 < 0 ? "--tail takes a number of records, and \($0) is none" : nil }
    }
  }

  public static let name = "dmesg"
  public static let group = ViewGroup.host
  public static let summary = "Prints the kernel log."
  public static let discussion =
    "In JSON, ts_nsec is in nanoseconds since boot and level is printk's number, 0 (emerg) to 7 (debug)."

  public static func columns(_ options: Options) -> [ViewColumn<LogRecord>] {
    [
      ViewColumn("SEQ", "seq", \.sequence).identity,
      ViewColumn("TIME", "ts_nsec", in: .nanoseconds, \.time).shown {
        ElapsedTime.microseconds(Int64(clamping: $0.time))
      },
      ViewColumn("LEVEL", "level") { $0.level.rawValue }.shown { $0.level.name }
        .bad { $0.level.rawValue <= LogRecord.Level.error.rawValue },
      ViewColumn("FACILITY", "facility", \.facility).shown { facility($0.facility) },
      ViewColumn("CALLER", "caller_id", \.caller),
      ViewColumn("TEXT", "text", \.text).identity,
    ]
  }

  /// The lines, as dmesg has them.
  public static func text(_ rows: [LogRecord], _ options: Options) -> String? {
    var text = ""
    for record in rows {
      let prefix = options.decode ? "\(pad(facility(record.facility))):\(pad(record.level.name)): " : ""
      for line in record.lines { text += prefix + line.printable + "\n" }
    }
    return text
  }

  private static func pad(_ text: String) -> String { text + String(repeating: " ", count: max(0, 6 - text.count)) }

  /// The syslog facility's name, as `dmesg --decode` shows it.
  private static func facility(_ number: UInt8) -> String {
    let names = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
    return Int(number) < names.count ? names[Int(number)] : "\(number)"
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<LogRecord> {
    let log = try kernel.log()
    var records = log.records[...]
    if let worst = options.level.flatMap({ LevelName.allCases.firstIndex(of: $0) }) {
      records = records.filter { $0.level.rawValue <= worst }[...]
    }
    if let tail = options.tail { records = records.suffix(tail) }
    let torn = "\(log.torn) records were being written or overwritten and are left out"
    return ViewRows(Array(records), shortcomings: log.torn > 0 ? [torn] : [])
  }
}
