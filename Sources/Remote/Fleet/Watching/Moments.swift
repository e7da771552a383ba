import Glibc
import Host

/// The clocks.
enum Moments {
  /// Seconds since 1970.
  static var utc: Double {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
  }

  /// Nanoseconds of a clock that never steps.
  static var nanoseconds: UInt64 { SystemCall.monotonicNanoseconds() }

  static var now: HostStateMachine.Moment { .init(clock: Double(nanoseconds) / 1e9, utc: utc) }

  /// As people and programs read it, RFC 3339: `2026-11-29T22:19:08Z`.
  static func text(_ utc: Double) -> String {
    guard utc.isFinite, utc >= 0, utc < 253_402_300_800 else { return "" }
    var seconds = time_t(utc)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func digits(_ number: Int32, _ count: Int = 2) -> String {
      let text = "\(number)"
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    return "\(digits(parts.tm_year + 1900, 4))-\(digits(parts.tm_mon + 1))-\(digits(parts.tm_mday))"
      + "T\(digits(parts.tm_hour)):\(digits(parts.tm_min)):\(digits(parts.tm_sec))Z"
  }

  /// With milliseconds, RFC 3339: `2026-11-29T22:19:08.123Z`.
  static func exact(_ utc: Double) -> String {
    guard utc.isFinite, utc >= 0, utc < 253_402_300_800 else { return "" }
    let thousandths = "\(Int((utc - utc.rounded(.down)) * 1000))"
    return "\(text(utc).dropLast()).\(String(repeating: "0", count: 3 - thousandths.count))\(thousandths)Z"
  }

  /// How long ago or how long: `3 s`, `5 min`, `2 h 10 min`, `3 d 4 h`.
  static func span(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e10 else { return "" }
    let whole = Int(max(0, seconds))
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min" }
    if whole < 86400 { return whole % 3600 < 60 ? "\(whole / 3600) h" : "\(whole / 3600) h \(whole % 3600 / 60) min" }
    return whole % 86400 < 3600 ? "\(whole / 86400) d" : "\(whole / 86400) d \(whole % 86400 / 3600) h"
  }
}
