import MachineViews
import Testing

@testable import Shadow

@Suite struct LogFileTests {
  private let record = LogRecord(
    sequence: 7, time: 1_234_567, level: .warning, facility: 3, caller: 0x8000_0002, text: Array("a\tb\\".utf8))

  /// As Documentation/ABI/testing/dev-kmsg has it: what is no printable ASCII, and the backslash, as `\x` and two digits.
  @Test func writesARecordALine() {
    #expect(
      LogFile.bytes(record, .init(), showsCaller: false) == Array("28,7,1234,-;a\\x09b\\x5c\n".utf8))
  }

  @Test func saysWhatItIsAboutInLinesOfTheirOwn() {
    let about = LogFile.About(isContinued: true, subsystem: Array("pci".utf8), device: Array("+pci:0000:00:01.0".utf8))
    let text = String(decoding: LogFile.bytes(record, about, showsCaller: true), as: UTF8.self)
    #expect(text == "28,7,1234,c,caller=C2;a\\x09b\\x5c\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n")
  }
}
