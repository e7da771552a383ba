public import Mailbox

/// The owner's side of a link that something has to be done for there.
public protocol Responder: AnyObject, Sendable {
  /// Where it listens, with the port that it got.
  var address: LinkAddress { get }

  /// Ends all connections. A second call does nothing.
  func stop()
}

extension TCPResponder: Responder {}
extension VerbsResponder: Responder {}

extension LinkAddress {
  /// Starts to serve a region there. Returns nil where nothing has to be done: a region's file is there by itself.
  public func serve(_ region: MailboxRegion) throws(LinkError) -> (any Responder)? {
    switch self {
    case .sharedMemory: nil
    case .tcp(let host, let port): try TCPResponder(region: region, host: host, port: port)
    case .verbs(let host, let port): try VerbsResponder(region: region, host: host, port: port)
    }
  }
}
