public import Region

/// A host that an RDMA device reaches: `verbs://HOST:PORT`.
public struct VerbsAddress: LinkKind {
  public static let scheme = "verbs", form = "verbs://HOST:PORT", serving = "listens for RDMA (port 0: any)"
  public static let deviceMemory: String? = "by network cards, as a dma-buf"
  public static let local: String? = nil

  private let place: HostAndPort
  public var host: String? { place.host }
  public var port: UInt16 { place.port }
  public var description: String { "verbs://\(place)" }

  /// - Parameters:
  ///   - host: a name or an address.
  ///   - port: 0 lets a listener choose.
  public init(host: String, port: UInt16) { place = HostAndPort(host: host, port: port) }

  public init(parsing rest: Substring) throws(LinkSyntaxError) {
    place = try HostAndPort(parsing: rest, scheme: Self.scheme)
  }

  public func connect(slots: Int, within timeout: Duration) throws(LinkError) -> any Link {
    try VerbsLink(host: place.host, port: port, slots: slots, within: timeout)
  }

  public func serve(_ region: SharedRegion, keeper: any SlotKeeper) throws(LinkError) -> (any Responder)? {
    try VerbsResponder(region: region, host: place.host, port: port, keeper: keeper)
  }
}

extension VerbsResponder: Responder {}

extension LinkAddress {
  /// A host that an RDMA device reaches, as a name or an address, and a port; 0 lets a listener choose.
  public static func verbs(host: String, port: UInt16) -> LinkAddress {
    LinkAddress(VerbsAddress(host: host, port: port))
  }
}
