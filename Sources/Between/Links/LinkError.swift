import Glibc

/// Why a link could not be made, or ended.
///
/// Any error ends the link that it comes from.
public struct LinkError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The text is no address of a link.
    case badAddress(String)
    /// The address to listen at is not a loopback one, and sessions need no keys.
    case notLoopback
    /// The host cannot be found, with why.
    case badHost(String)
    /// The connection was made, and closed before it was served.
    case notServed
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
        "is refused: without keys a link serves this machine only; start grassd with keys, or listen at 127.0.0.1 or ::1"
      case .badHost(let why): "the host cannot be found: \(why); correct its name, or give its address"
      case .notServed:
        "the other side closed the connection before a session began; see whether it is a grassd that listens there, and try again"
      case .system("connect", ECONNREFUSED):
        "nobody listens there; see whether grassd runs there, and at which address it printed that it is ready"
      case .system("connect", let code) where code == ETIMEDOUT || code == EHOSTUNREACH || code == ENETUNREACH:
        "the host does not answer: \(describeError(code)); see whether it is on, the address right, and the port let through"
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
