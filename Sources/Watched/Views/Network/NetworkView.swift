public import LinuxKernel
public import Views

/// Interfaces, neighbours or routes, as ip(8) shows them.
public struct NetworkView: KernelView {
  /// What of the network is shown.
  public enum Part: String, CaseIterable, ViewOptionValue {
    case addr, neigh, route
  }

  public enum Row: Sendable {
    case interface(NetworkInterface)
    case neighbour(Neighbour)
    case route(Route)

    fileprivate var interface: NetworkInterface? { if case .interface(let interface) = self { interface } else { nil } }
    fileprivate var neighbour: Neighbour? { if case .neighbour(let neighbour) = self { neighbour } else { nil } }
    fileprivate var route: Route? { if case .route(let route) = self { route } else { nil } }
  }

  public struct Options: ViewOptions {
    @ViewOption(isArgument: true, help: "addr, neigh or route; addr where none is given.") public var part = Part.addr
    public init() {}
  }

  public static let name = "ip"
  public static let group = ViewGroup.network
  public static let summary = "Shows interfaces, addresses, neighbours and routes of every network namespace."
  public static let discussion = """
    NETNS is the number that /proc/PID/ns/net shows. A driver that counts packets in structures of its own has no \
    counters here.
    """

  public static func sections(_ options: Options) -> [ViewSection<Row>] {
    switch options.part {
    case .addr: [ViewSection(of: \.interface, interfaces)]
    case .neigh: [ViewSection(of: \.neighbour, neighbours)]
    case .route: [ViewSection(of: \.route, routes)]
    }
  }

  private static let interfaces: [ViewColumn<NetworkInterface>] =
    [
      ViewColumn("NETNS", "netns", \.namespace).identity,
      ViewColumn("IF", "ifindex", \.index).identity,
      ViewColumn("NAME", "ifname", \.name).identity,
      ViewColumn("STATE", text: { ($0.isUp ? "UP" : "DOWN") + ($0.isPromiscuous ? ",PROMISC" : "") })
        .bad { $0.isPromiscuous },
      ViewColumn("MTU", "mtu", in: .bytes, \.mtu),
      ViewColumn("LINK", "address", \.hardwareAddress),
      counter("RX-PACKETS", \.receivedPackets), counter("RX-BYTES", in: .bytes, \.receivedBytes),
      counter("TX-PACKETS", \.sentPackets), counter("TX-BYTES", in: .bytes, \.sentBytes),
      ViewColumn("ADDRESSES", "addr_info") { (interface: NetworkInterface) -> [ViewValue] in
        interface.addresses.map(value)
      }.shown { (interface: NetworkInterface) -> String in
        interface.addresses.map { "\($0.address)/\($0.prefixLength)" }.joined(separator: " ")
      }.identity.with("family", "local", "prefixlen", "peer", "scope"),
      ViewColumn(json: "flags", \.flags), ViewColumn(json: "up", \.isUp),
      ViewColumn(json: "promiscuous", \.isPromiscuous), ViewColumn(json: "promiscuity", \.promiscuity),
      ViewColumn(json: "allmulti", \.allMulticast), ViewColumn(json: "type", \.type),
      ViewColumn(json: "operstate", \.operationalState),
      ViewColumn(json: "stats") { $0.counters.map(value) }
        .with("rx_packets", "tx_packets").with("rx_bytes", "tx_bytes", in: .bytes),
      ViewColumn(json: "net_device", in: .address, \.device),
    ]

  private static func counter(
    _ heading: String, in unit: ViewUnit = .none, _ value: @escaping @Sendable (NetworkInterface.Counters) -> UInt64
  ) -> ViewColumn<NetworkInterface> {
    ViewColumn(table: heading, in: unit) { $0.counters.map(value) }.shown { $0.counters.map { "\(value($0))" } ?? "-" }
  }

  private static func value(_ counters: NetworkInterface.Counters) -> ViewValue {
    .object([
      ViewValue.Member("rx_packets", counters.receivedPackets), ViewValue.Member("rx_bytes", counters.receivedBytes),
      ViewValue.Member("tx_packets", counters.sentPackets), ViewValue.Member("tx_bytes", counters.sentBytes),
    ])
  }

  private static func value(_ address: NetworkInterface.Address) -> ViewValue {
    .object([
      ViewValue.Member("family", address.address.bytes.count == 4 ? "inet" : "inet6"),
      ViewValue.Member("local", address.address), ViewValue.Member("prefixlen", address.prefixLength),
      ViewValue.Member("peer", address.peer), ViewValue.Member("scope", address.scope),
    ])
  }

  private static let neighbours: [ViewColumn<Neighbour>] =
    [
      ViewColumn("NETNS", "netns", \.namespace).identity,
      ViewColumn("ADDRESS", "dst", \.address).identity,
      ViewColumn("DEV", "dev", \.interface).identity,
      ViewColumn("LINK", "lladdr", \.hardwareAddress),
      ViewColumn("STATE", "state", \.stateName),
    ]

  private static let routes: [ViewColumn<Route>] =
    [
      ViewColumn("NETNS", "netns", \.namespace).identity,
      ViewColumn("TABLE", "table", \.table).identity,
      ViewColumn("TYPE", "type", \.typeName),
      ViewColumn("DESTINATION", "dst", \.destination).shown { "\($0.destination)/\($0.prefixLength)" }.identity,
      ViewColumn(json: "prefixlen", \.prefixLength).identity,
      ViewColumn("GATEWAY", "gateway", \.gateway),
      ViewColumn("DEV", "dev", \.interface),
      ViewColumn("METRIC", "metric", \.metric).identity,
      ViewColumn("ORIGIN", "protocol", \.origin),
    ]

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    Part.allCases.map { [("part", $0.rawValue)] }
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    let network = try kernel.network()
    let rows: [Row] =
      switch options.part {
      case .addr: network.interfaces.map(Row.interface)
      case .neigh: network.neighbours.map(Row.neighbour)
      case .route: network.routes.map(Row.route)
      }
    return ViewRows(rows, faults: network.faults)
  }
}
