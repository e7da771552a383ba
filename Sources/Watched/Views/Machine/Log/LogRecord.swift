import KernelInfo

/// One record of the kernel log.
public struct LogRecord: Sendable, Hashable {
  /// What printk calls the level: how much a message matters.
  public enum Level: UInt8, Sendable, CaseIterable {
    case emergency, alert, critical, error, warning, notice, info, debug

    /// The name as `dmesg --decode` shows it.
    public var name: String {
      switch self {
      case .emergency: "emerg"
      case .alert: "alert"
      case .critical: "crit"
      case .error: "err"
      case .warning: "warn"
      case .notice: "notice"
      case .info: "info"
      case .debug: "debug"
      }
    }
  }

  /// The record's number since boot.
  public var sequence: UInt64
  /// Nanoseconds since boot by the scheduler's clock.
  public var time: UInt64
  public var level: Level
  /// Who logged it: 0 the kernel, else a syslog facility.
  public var facility: UInt8
  /// The task id, or the CPU's number with the top bit set, that logged it; zero without CONFIG_PRINTK_CALLER.
  public var caller: UInt32
  /// The message, without a final newline. It may hold newlines and any other byte.
  public var text: [UInt8]

  public init(sequence: UInt64, time: UInt64, level: Level, facility: UInt8, caller: UInt32, text: [UInt8]) {
    self.sequence = sequence
    self.time = time
    self.level = level
    self.facility = facility
    self.caller = caller
    self.text = text
  }

  /// The message's lines as dmesg prints them, each after the time.
  public var lines: [[UInt8]] {
    let prefix = Array("[\(Self.seconds(time))] ".utf8)
    return text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { prefix + $0 }
  }

  /// Seconds with six decimals, five columns before the point.
  static func seconds(_ nanoseconds: UInt64) -> String {
    let whole = String(nanoseconds / 1_000_000_000)
    let fraction = String(nanoseconds % 1_000_000_000 / 1000)
    return String(repeating: " ", count: max(0, 5 - whole.count)) + whole + "."
      + String(repeating: "0", count: 6 - fraction.count) + fraction
  }
}

/// The kernel log, oldest record first.
public struct KernelLog: Sendable {
  public var records: [LogRecord] = []
  /// Records left out because descriptor or text contradicted itself or the text was gone: being written or
  /// overwritten just then, or damaged.
  public var torn = 0
}
