import Glibc

/// Points in time as files and options of keys have them: seconds since 1970, and `2027-01-31T12:30:00Z`.
public enum UTCTime {
  /// Now, by this machine's clock, in seconds since 1970.
  public static var now: UInt64 { UInt64(max(0, time(nil))) }

  /// The time that a text says, in UTC, from the year 2000 to 9999.
  ///
  /// `2027-01-31` is the beginning of that day; `2027-01-31T12:30` and `2027-01-31T12:30:15` may have a `Z` behind them.
  ///
  /// - Returns: seconds since 1970; nil where the text is none, or there is no such time.
  public static func parse(_ text: some StringProtocol) -> UInt64? {
    var text = Array(text.utf8)
    let hasZone = text.last == UInt8(ascii: "Z")
    if hasZone { text.removeLast() }
    let form = Array("0000-00-00T00:00:00".utf8)
    guard [10, 16, 19].contains(text.count), !(hasZone && text.count == 10) else { return nil }
    for (byte, shape) in zip(text, form) {
      let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
      guard shape == UInt8(ascii: "0") ? isDigit : byte == shape else { return nil }
    }
    func number(_ range: Range<Int>) -> Int {
      range.upperBound > text.count ? 0 : text[range].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }
    let (year, month, day) = (number(0..<4), number(5..<7), number(8..<10))
    let (hour, minute, second) = (number(11..<13), number(14..<16), number(17..<19))
    guard year >= 2000, (1...12).contains(month), (1...days(in: month, of: year)).contains(day), hour < 24, minute < 60,
      second < 60
    else { return nil }
    let all = days(before: year) + (1..<month).reduce(0) { $0 + days(in: $1, of: year) } + day - 1
    return UInt64(all * 86400 + hour * 3600 + minute * 60 + second)
  }

  /// `2027-01-31T12:30:00Z`; for what is after the year 9999, the number of seconds.
  public static func text(_ seconds: UInt64) -> String {
    guard seconds < 253_402_300_800 else { return "\(seconds) s after 1970" }
    var (day, rest) = (Int(seconds / 86400), Int(seconds % 86400))
    var year = 1970
    // Eras of 400 years are alike.
    year += day / 146_097 * 400
    day %= 146_097
    while day >= days(inYear: year) {
      day -= days(inYear: year)
      year += 1
    }
    var month = 1
    while day >= days(in: month, of: year) {
      day -= days(in: month, of: year)
      month += 1
    }
    func digits(_ number: Int, _ count: Int = 2) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    let hour = rest / 3600
    rest %= 3600
    return
      "\(digits(year, 4))-\(digits(month))-\(digits(day + 1))T\(digits(hour)):\(digits(rest / 60)):\(digits(rest % 60))Z"
  }

  private static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }
  private static func days(inYear year: Int) -> Int { isLeap(year) ? 366 : 365 }
  private static func days(in month: Int, of year: Int) -> Int {
    month == 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
  }
  /// From 1970 to the beginning of `year`.
  private static func days(before year: Int) -> Int {
    let last = year - 1
    return (year - 1970) * 365 + (last / 4 - last / 100 + last / 400) - 477
  }
}
