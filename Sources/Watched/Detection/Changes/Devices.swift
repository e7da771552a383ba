import Binding
public import KernelViews
import Memory

/// A CPU that was there runs nothing any more.
public struct OfflineCPU: Detector {
  public static let name = "cpu-offline"
  public static let kind = Finding.Kind.fault
  public static let summary = "A CPU that the host had is off line."
  public static let rule = "__cpu_online_mask lost a bit that it had when it was learned, or in the look before."
  public static let looksLike = "Suspend takes all but one off line for a moment: two looks have to agree."
  public static let remedy = "See who did it, and bring it back: echo 1 > /sys/devices/system/cpu/cpuN/online."
  public static let baseline = Finding.Baseline.learned

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    Dictionary(try look.kernel.cpus().filter(\.isOnline).map { ("\($0.number)", "online") }) { first, _ in first }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let learned = try look.learned(by: Self.self)
    let earlier = try before.map { (look) throws(KernelError) in try facts(look) }
    guard let old = learned ?? earlier else { return Sightings() }
    let now = try facts(look)
    return Sightings(
      old.keys.compactMap(Int.init).filter { now["\($0)"] == nil }.sorted().map { cpu in
        var sighting = Sighting(
          [.cpu(cpu)], .warning, .strong, "CPU \(cpu) is off line",
          evidence: [
            .init(
              "__cpu_online_mask", at: look.kernel.symbols.address(of: "__cpu_online_mask"), seen: "without \(cpu)",
              expected: "with \(cpu)")
          ])
        sighting.needsBothLooks = learned == nil
        return sighting
      })
  }
}

/// An interface that had a link has none.
public struct LinkDown: Detector {
  public static let name = "link-down"
  public static let kind = Finding.Kind.fault
  public static let summary = "A network interface lost its link."
  public static let rule = """
    An interface of the host's own namespace is up and without carrier: it had one when it was learned (a warning), or has lost \
    one since boot (info).
    """
  public static let looksLike =
    "Interfaces that an administrator took down: they are not up. Bridges without ports: info."
  public static let remedy = "Look at cable, switch and driver: grassctl dmesg, grassctl net."
  public static let baseline = Finding.Baseline.learned

  private struct Reader: KernelReader {
    static let subject = "the links of interfaces"

    struct Device: KernelShape {
      static let type = "net_device"
      let state = Field<UInt64>("state")
      let ups = Field<UInt32>("carrier_up_count.counter")
      let downs = Field<UInt32>("carrier_down_count.counter")
    }

    let device: Bound<Device>
    let host: VirtualAddress

    init(kernel: Kernel) throws {
      device = try Bound(kernel.types)
      host = try kernel.symbol("init_net", for: Self.self)
    }
  }

  private struct Link {
    var interface: NetworkInterface
    var hasCarrier: Bool
    var losses: UInt32
    var gains: UInt32
  }

  /// The interfaces of the host's own namespace that are up.
  private static func links(_ look: Look, _ faults: inout [MemoryFault]) throws(KernelError) -> [Link] {
    let reader = try look.kernel.reader(Reader.self)
    let network = try look.network()
    let own = network.namespaces.first { $0.address == reader.host }?.number
    let interfaces = network.interfaces.filter { $0.namespace == own && $0.isUp }
    faults += network.faults
    return look.kernel.addressSpace.read(reader.device, at: interfaces.map(\.device)).compactMap(&faults) {
      (reading) throws(MemoryFault) in
      // __LINK_STATE_NOCARRIER is bit 2 (include/linux/netdevice.h).
      Link(
        interface: interfaces[reading.index], hasCarrier: try reading.state & 4 == 0, losses: try reading.downs,
        gains: try reading.ups)
    }
  }

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    var faults: [MemoryFault] = []
    return Dictionary(
      try links(look, &faults).filter(\.hasCarrier).map { ($0.interface.name.printable, "carrier") }
    ) { first, _ in first }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    var faults: [MemoryFault] = []
    let learned = try look.learned(by: Self.self)
    let down = try links(look, &faults).filter { !$0.hasCarrier }
    let sightings = down.compactMap { link -> Sighting? in
      let name = link.interface.name.printable
      let had = learned?[name] != nil
      guard had || link.losses > 0 else { return nil }
      var sighting = Sighting(
        [.interface(link.interface.name, namespace: link.interface.namespace)], had ? .warning : .info,
        had ? .strong : .hint, "interface \(name) is up and has no link",
        evidence: [
          .init(
            "carrier", at: link.interface.device, seen: "none, lost \(link.losses) and found \(link.gains) times",
            expected: "a carrier")
        ])
      if !had { sighting.baseline = .tables }
      return sighting
    }
    return Sightings(sightings, faults: faults)
  }
}

/// The host does not know the way out any more.
public struct RouteGone: Detector {
  public static let name = "route-gone"
  public static let kind = Finding.Kind.fault
  public static let summary = "The host lost its default route: it reaches its own networks only."
  public static let rule =
    "The main table of the host's own namespace had a default route when it was learned, and has none."
  public static let looksLike = "A lease that is renewed: two looks have to agree."
  public static let remedy =
    "See what took it: grassctl dmesg, the logs of what sets the network up. Add it again: ip route add default via …"
  public static let baseline = Finding.Baseline.learned

  public static func facts(_ look: Look) throws(KernelError) -> [String: String] {
    let network = try look.network()
    let host = look.kernel.symbols.address(of: "init_net")
    guard let own = network.namespaces.first(where: { $0.address == host })?.number else { return [:] }
    var facts: [String: String] = [:]
    for route in network.routes
    where route.namespace == own && route.table == 254 && route.prefixLength == 0 && route.type == 1 {
      let family = route.destination.bytes.count == 4 ? "IPv4" : "IPv6"
      let way = (route.gateway.map { "via \($0) " } ?? "") + "dev \(route.interface.printable)"
      facts[family] = [facts[family], way].compactMap { $0 }.sorted().joined(separator: ", ")
    }
    return facts
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    guard let old = try look.learned(by: Self.self) else { return Sightings() }
    let now = try facts(look)
    let gone = old.keys.filter { now[$0] == nil }.sorted()
    return Sightings(
      gone.map { family in
        Sighting(
          [.table("the default route of \(family)", entry: nil)], .warning, .strong,
          "the host has no default route of \(family) any more",
          evidence: [.init("the main table", seen: "no default route", expected: old[family])])
      }, faults: try look.network().faults)
  }
}
