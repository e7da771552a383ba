public import Region

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
  /// Starts to serve a region there.
  ///
  /// - Parameters:
  ///   - region: what is served. Kept until the responder ends.
  ///   - assist: has the mailbox program look at the region's slots at once, on the caller's thread, or does nothing.
  /// - Returns: what serves it, or nil where nothing has to be done: a region's file is there by itself.
  /// - Throws: ``LinkError`` where the address cannot be served: it is in use, not allowed, or has no such device.
  public func serve(
    _ region: SharedRegion, assist: @escaping @Sendable () -> Void = {}
  ) throws(LinkError) -> (any Responder)? {
    switch self {
    case .sharedMemory where region.device != nil:
      throw LinkError(
        description,
        .region("a region in a device's memory has no file; listen at verbs:// or tcp://, or leave it in host memory"))
    case .sharedMemory: nil
    case .tcp(let host, let port): try TCPResponder(region: region, host: host, port: port, assist: assist)
    case .verbs(let host, let port): try VerbsResponder(region: region, host: host, port: port)
    }
  }
}
