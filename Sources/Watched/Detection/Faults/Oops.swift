public import KernelViews
import Memory

/// The kernel survived an oops: a thread of the kernel died in the middle of what it did.
public struct Oops: Detector {
  public static let name = "oops"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "The kernel ran into a bug and killed the task that it happened to: locks may be held for ever."
  public static let rule = "TAINT_DIE (bit 7) of tainted_mask, which stays until the next boot; the text is the log's."
  public static let looksLike = "Nothing: only die() sets that bit."
  public static let remedy = """
    See where it happened: grassctl dmesg. What the dead task held stays held (grassctl locks), so plan a reboot; take the \
    memory first.
    """
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let taint = try look.taint()
    guard taint >> 7 & 1 == 1 else { return Sightings() }
    let log = try? look.log()
    let starts = ["BUG: ", "Oops: ", "general protection fault", "kernel BUG at", "invalid opcode", "divide error"]
    let record = log?.records.last { record in
      starts.contains { record.text.starts(with: Array($0.utf8)) }
    }
    let place = log?.records.last { $0.text.starts(with: Array("RIP: ".utf8)) }
    var evidence = [Finding.Evidence("tainted_mask", seen: "0x\(String(taint, radix: 16))", expected: "bit 7 clear")]
    if let record { evidence.append(.init("the log", seen: record.text.printable)) }
    if let place { evidence.append(.init("the log", seen: place.text.printable)) }
    let what = record.map { ", \(Text.seconds($0.time)) s after it booted: \($0.text.printable)" } ?? ""
    return Sightings([
      Sighting([.host], .critical, .proven, "the kernel survived an oops\(what)", evidence: evidence)
    ])
  }
}

/// The kernel warned of something that ought not to be.
public struct KernelWarning: Detector {
  public static let name = "kernel-warning"
  public static let kind = Finding.Kind.fault
  public static let summary = "The kernel's own checks found something that ought not to be, and it went on."
  public static let rule = "TAINT_WARN (bit 9) of tainted_mask; the place is the log's \"WARNING:\"."
  public static let looksLike = "Harmless warnings are common: it is no more than a notice."
  public static let remedy =
    "Read what was warned of: grassctl dmesg. Search the text in the distribution's bug tracker."
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let taint = try look.taint()
    guard taint >> 9 & 1 == 1 else { return Sightings() }
    let record = try? look.log().records.last { $0.text.starts(with: Array("WARNING: ".utf8)) }
    var evidence = [Finding.Evidence("tainted_mask", seen: "0x\(String(taint, radix: 16))", expected: "bit 9 clear")]
    if let record { evidence.append(.init("the log", seen: record.text.printable)) }
    let what = record.map { ", \(Text.seconds($0.time)) s after it booted: \($0.text.printable)" } ?? ""
    return Sightings([Sighting([.host], .notice, .proven, "the kernel warned of itself\(what)", evidence: evidence)])
  }
}

extension Look {
  /// The bits of the kernel's taint.
  func taint() throws(KernelError) -> UInt64 {
    try once("taint") { kernel throws(KernelError) in
      let address = try kernel.symbol("tainted_mask", for: "the taint")
      return try KernelError.reading("the taint") {
        let bytes = try kernel.addressSpace.read(address, count: 8)
        return try ByteReader(bytes.span.bytes).u64(0)
      }
    }
  }
}
