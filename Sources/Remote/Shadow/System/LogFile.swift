import Binding
import KernelInfo
public import LinuxKernel
import MachineViews
import Memory
import Paging

/// The file /dev/kmsg: the records of the log one after the other.
///
/// Source: kernel/printk/printk.c, `info_print_ext_header` and `msg_print_ext_body`. A reader gets a record a call; it does not wait
/// at the end, as it would for the kernel's own.
public enum LogFile {
  public static func node(of kernel: Kernel) -> ShadowNode {
    .records(0o644) {
      let log = try kernel.log()
      guard log.torn == 0 else { throw ShadowError.unreadable("\(log.torn) records of the log are torn") }
      let abouts = try abouts(kernel)
      let showsCaller = try kernel.reader(CallerForm.self).isShown
      return log.records.map { bytes($0, abouts[$0.sequence] ?? About(), showsCaller: showsCaller) }
    }
  }

  /// What of a record only this file shows.
  struct About {
    /// Whether it goes on where the record before it ended.
    var isContinued = false
    /// A subsystem's name, and a device in the kernel's short form; empty where it is about none.
    var subsystem: [UInt8] = [], device: [UInt8] = []
  }

  private struct Info: KernelShape {
    static let type = "printk_info"
    let sequence = Field<UInt64>("seq"), flags = Field<UInt8>("flags")
    let subsystem = Field<RawBytes>("dev_info.subsystem"), device = Field<RawBytes>("dev_info.device")
  }

  /// What of each record only this file shows, by the records' numbers.
  ///
  /// Cost: three round trips.
  private static func abouts(_ kernel: Kernel) throws -> [UInt64: About] {
    let pointer = try kernel.addressSpace.pointer(at: kernel.symbol("prb", for: "the log"))
    let ring = try kernel.read(PrintkRing.self, at: [pointer])[0]
    let shape = try kernel.bound(Info.self)
    let bits = try ring.countBits
    // Found in order by who read the records; a log of more would be longer than any (CONFIG_LOG_BUF_SHIFT).
    guard bits <= 20 else { throw ShadowError.unreadable("a log of 2^\(bits) records") }
    var abouts: [UInt64: About] = [:]
    for info in try kernel.addressSpace.array(of: shape, at: try ring.infos, count: 1 << Int(bits)) {
      // LOG_CONT.
      let (isContinued, subsystem, device) = (
        try info.flags & 8 != 0, try info.subsystem.bytes.prefix { $0 != 0 }, try info.device.bytes.prefix { $0 != 0 }
      )
      guard isContinued || !subsystem.isEmpty || !device.isEmpty else { continue }
      abouts[try info.sequence] = About(
        isContinued: isContinued, subsystem: Array(subsystem), device: Array(device))
    }
    return abouts
  }

  static func bytes(_ record: LogRecord, _ about: About, showsCaller: Bool) -> [UInt8] {
    let priority = Int(record.facility) << 3 | Int(record.level.rawValue)
    var text = ProcText(
      "\(priority),\(record.sequence),\(record.time / 1000),\(about.isContinued ? "c" : "-")")
    // The CPU where no task ran.
    if showsCaller {
      text.add(",caller=\(record.caller >> 31 == 0 ? "T" : "C")\(record.caller & 0x7fff_ffff)")
    }
    text.add(";")
    text.add(escaped(record.text))
    text.line("")
    for (name, value) in [("SUBSYSTEM", about.subsystem), ("DEVICE", about.device)] where !value.isEmpty {
      text.add(" \(name)=")
      text.add(escaped(value))
      text.line("")
    }
    return text.bytes
  }

  /// Without anything that a line or a terminal could be misled by.
  private static func escaped(_ text: [UInt8]) -> [UInt8] {
    text.flatMap { byte in
      byte >= 0x20 && byte < 0x7f && byte != UInt8(ascii: "\\")
        ? [byte] : Array("\\x\(ProcText.hex(UInt64(byte), 2))".utf8)
    }
  }
}

/// Whether this kernel says of each record who logged it (CONFIG_PRINTK_CALLER), which only a text in its data tells.
private struct CallerForm: KernelReader {
  static let subject = "the form of the log"
  let isShown: Bool

  private static let piece = 1 << 20
  /// No kernel has as much data that cannot be written.
  private static let most: UInt64 = 1 << 26

  init(kernel: Kernel) throws {
    let (start, end) = (
      try kernel.symbol("__start_rodata", for: Self.self), try kernel.symbol("__end_rodata", for: Self.self)
    )
    let text = Array(",caller=%c%u".utf8)
    let size = Int(min(Self.most, end.rawValue &- start.rawValue))
    var isShown = false
    for offset in stride(from: 0, to: size, by: Self.piece) where !isShown {
      // A little more, so that a text on the border is whole in one piece.
      let count = min(Self.piece + text.count, size - offset)
      let bytes = try kernel.addressSpace.read(start + offset, count: count)
      for place in 0..<max(0, bytes.count - text.count) where bytes[place] == text[0] && bytes[place + 1] == text[1] {
        if bytes[place..<place + text.count].elementsEqual(text) { isShown = true }
      }
    }
    self.isShown = isShown
  }
}
