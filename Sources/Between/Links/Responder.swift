/// The owner's side of a link that something has to be done for there.
public protocol Responder: AnyObject, Sendable {
  /// Where it listens, with the port that it got.
  var address: LinkAddress { get }

  /// Ends all connections. A second call does nothing.
  func stop()
}
