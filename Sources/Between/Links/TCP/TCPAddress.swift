public import Region

/// A host that TCP reaches: `tcp://HOST:PORT`.
public struct TCPAddress: LinkKind {
  public static let scheme = "tcp", form = "tcp://HOST:PORT",
    serving = "listens (port 0: any; without keys only at 127.0.0.1 or ::1)"
  public static let deviceMemory: String? = "by copies"
  public static let local: String? = "tcp://127.0.0.1:0"

  private let place: HostAndPort
  public var host: String? { place.host }
  public var port: UInt16 { place.port }
  public var description: String { "tcp://\(place)" }

  /// - Parameters:
  ///   - host: a name or an address.
  ///   - port: 0 lets a listener choose.
  public init(host: String, port: UInt16) { place = HostAndPort(host: host, port: port) }

  /// Whether a host's name or address is this machine's own, so that nobody else can listen to what goes there.
  public static func isOfThisMachine(_ host: String) -> Bool { TCPSocket.isLoopback(host) }

  public init(parsing rest: Substring) throws(LinkSyntaxError) {
    place = try HostAndPort(parsing: rest, scheme: Self.scheme)
  }

  public func connect(slots: Int, within timeout: Duration) throws(LinkError) -> any Link {
    try TCPLink(host: place.host, port: port, slots: slots, within: timeout)
  }

  public func serve(_ region: SharedRegion, keeper: any SlotKeeper) throws(LinkError) -> (any Responder)? {
    try TCPResponder(region: region, host: place.host, port: port, keeper: keeper)
  }
}

extension TCPResponder: Responder {}

extension LinkAddress {
  /// A host, as a name or an address, and a port; 0 lets a listener choose.
  public static func tcp(host: String, port: UInt16) -> LinkAddress { LinkAddress(TCPAddress(host: host, port: port)) }
}
