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
  /// Starts to serve a region there. Returns nil where nothing has to be done: a region's file is there by itself.
  ///
  /// - Parameter assist: has the region's monitor look at its slots at once, on the caller's thread, or does nothing.
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
