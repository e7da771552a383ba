/// Why a link could not be made, or ended.
///
/// Any error ends the link that it comes from.
public struct LinkError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The text is no address of a link.
    case badAddress(String)
    /// The address is not a loopback one, and sessions carry no keys.
    case notLoopback
    /// A system call failed, with this errno.
    case system(call: String, code: Int32)
    /// The region's file could not be opened, or its slots are all taken.
    case region(String)
    /// The owner refused to serve this side, saying why.
    case refused(String)
    /// The owner refused an access: token, bounds or direction.
    case accessDenied(AccessFault)
    /// The other side's process ended or closed the connection.
    case peerGone
    /// The operation was not acknowledged in time.
    case deadlinePassed
    /// The other side's network card acknowledged nothing, however often it was asked.
    case unacknowledged
    /// This side's RDMA device or its libraries failed, saying why.
    case device(String)
    /// The other side does not speak this protocol.
    case protocolViolation(String)
  }

  /// The link's address.
  public var link: String
  public var reason: Reason

  public init(_ link: String, _ reason: Reason) {
    self.link = link
    self.reason = reason
  }

  public var description: String {
    let text =
      switch reason {
      case .badAddress(let why):
        "is not an address of a link: \(why); write \(LinkKinds.forms)"
      case .notLoopback:
        "is refused: sessions carry no keys yet, so such a link serves only this machine; use 127.0.0.1 or ::1"
      case .system(let call, let code): "\(call) failed: \(describeError(code))"
      case .region(let why): why
      case .refused(let why): "the monitored side refused the session: \(why)"
      case .accessDenied(let fault): "the monitored side refused an access: \(fault)"
      case .peerGone: "the monitored side ended; see whether its grassd still runs"
      case .deadlinePassed: "the monitored side did not acknowledge in time; its grassd may be stopped or overloaded"
      case .unacknowledged:
        "the monitored side's network card acknowledges nothing; see whether the way there is cut, or the machine off"
      case .device(let why): why
      case .protocolViolation(let why): "the other side does not speak this protocol: \(why)"
      }
    return "link \(link): \(text)"
  }
}

/// Why the owner of a region refused an access.
public enum AccessFault: UInt32, Hashable, Sendable, CustomStringConvertible {
  case wrongToken = 1
  case outOfRange = 2
  case notWritable = 3
  case notReadable = 4

  public var description: String {
    switch self {
    case .wrongToken: "wrong token"
    case .outOfRange: "out of range"
    case .notWritable: "the part is read only"
    case .notReadable: "the part is write only"
    }
  }
}
