import Binding
public import KernelViews
import Memory

/// The kernel tells time by another clock than it did.
public struct ClockSource: Detector {
  public static let name = "clock-source"
  public static let kind = Finding.Kind.fault
  public static let summary = "The kernel changed its source of time: what it used is broken, or somebody set another."
  public static let rule = """
    curr_clocksource is another than was learned, and by its rating a worse one: a warning, and a notice where the CPU says that a \
    hypervisor runs it.
    """
  public static let looksLike = """
    A virtual machine that was paused or moved to another host: the kernel finds that its counter went on without it, and takes another.
    """
  public static let remedy = """
    See what the kernel says of it: grassctl dmesg. A clock that is marked unstable is mostly the firmware's fault; reading a \
    slow one costs programs a lot of time.
    """
  public static let baseline = Finding.Baseline.learned

  private struct Reader: KernelReader {
    static let subject = "the source of time"

    struct Source: KernelShape {
      static let type = "clocksource"
      let name = Field<VirtualAddress>("name")
      let rating = Field<Int32>("rating")
    }

    let source: Bound<Source>
    let current: VirtualAddress

    init(kernel: Kernel) throws {
      source = try Bound(kernel.types)
      current = try kernel.symbol("curr_clocksource", for: Self.self)
    }
  }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    let kernel = look.kernel
    let reader = try kernel.reader(Reader.self)
    return try KernelError.reading(kernel.subject(of: Reader.self)) {
      let place = try kernel.addressSpace.pointer(at: reader.current)
      let source = kernel.addressSpace.read(reader.source, at: [place])[0]
      let text = try kernel.addressSpace.strings(at: [try source.name])[0].get()
      return ["source": text.printable, "rating": "\(try source.rating)"]
    }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let learned = try look.learned(by: Self.self), let old = learned["source"] else { return Sightings() }
    let now = try facts(look)
    // At boot the kernel goes from worse ones to better ones.
    guard let new = now["source"], old != new, Self.rating(now) < Self.rating(learned) else { return Sightings() }
    let isGuest = try look.isVirtual()
    return Sightings([
      Sighting(
        [.host], isGuest ? .notice : .warning, isGuest ? .hint : .strong,
        "the kernel tells time by \(new), and did by \(old)",
        evidence: [
          .init(
            "curr_clocksource", at: look.kernel.symbols.address(of: "curr_clocksource"), seen: new, expected: old)
        ])
    ])
  }
}

extension Look {
  /// Whether the first CPU says that a hypervisor runs it.
  ///
  /// Source: arch/x86/include/asm/cpufeatures.h, X86_FEATURE_HYPERVISOR, bit 31 of word 4.
  func isVirtual() throws(KernelError) -> Bool {
    guard let cpu = kernel.symbols.address(of: "boot_cpu_data"),
      let field = try? kernel.types.structure("cpuinfo_x86").field("x86_capability")
    else { return false }
    let kernel = kernel
    return try KernelError.reading("what the CPU can do") {
      let bytes = try kernel.addressSpace.read(cpu + field.offset + 16, count: 4)
      return try ByteReader(bytes.span.bytes).u32(0) >> 31 == 1
    }
  }
}

extension ClockSource {
  fileprivate static func rating(_ facts: [String: String]) -> Int32 { facts["rating"].flatMap { Int32($0) } ?? 0 }
}

/// Somebody set the clock.
public struct ClockJump: Detector {
  public static let name = "clock-jump"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "The host's clock jumped: what goes by the time of day, from logs to certificates, is wrong."
  public static let rule = """
    The kernel's time of day less its time since boot differs by more than 2 s from the look before, or from what was learned \
    of this boot; a warning from 60 s on. Neither steering by NTP nor sleep or a pause of the machine changes the difference.
    """
  public static let looksLike = "The first step of NTP after boot: a notice as long as it is less than a minute."
  public static let remedy = "See who set it; compare the host's clock with another's, and step it back by NTP."
  public static let baseline = Finding.Baseline.learned
  public static let factsAreOfBoot = true

  private static let notice: Int64 = 2
  private static let warning: Int64 = 60

  /// Seconds since 1970 when the host booted, by its own clock.
  private static func start(_ look: Look) throws(KernelError) -> Int64 {
    let host = try look.host()
    return host.wallClock &- Int64(clamping: host.uptime / 1_000_000_000)
  }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] { ["boot": "\(try start(look))"] }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let now = try start(look)
    let learned = try look.learned(by: Self.self)?["boot"].flatMap { Int64($0) }
    let earlier = try before.map { (look) throws(KernelError) in try start(look) }
    guard let old = learned ?? earlier, old.distance(to: now).magnitude > UInt(notice) else { return Sightings() }
    let jump = now.subtractingReportingOverflow(old).partialValue
    var sighting = Sighting(
      [.host], jump.magnitude >= UInt64(warning) ? .warning : .notice, .strong,
      "the clock jumped \(jump.magnitude) s \(jump < 0 ? "back" : "ahead")",
      evidence: [
        .init("seconds since 1970 at boot, by the host's clock", seen: "\(now)", expected: "\(old)")
      ])
    sighting.needsBothLooks = learned == nil
    return Sightings([sighting])
  }
}
