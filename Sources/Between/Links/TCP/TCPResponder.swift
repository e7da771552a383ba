import Glibc
import Host
public import Region

/// Serves a region over TCP on its owner's side: what a network card does for RDMA, done by threads.
///
/// It knows nothing of requests: it copies bytes in and out, and checks token, direction and bounds of every access.
/// Each connection may write the request slots granted to it, and read the responses part. One thread sees to all who
/// have no slots yet (``TCPDoor``); who has some is served by a thread of its own.
public final class TCPResponder: Sendable {
  /// Where it listens, with the port that it got.
  public let address: LinkAddress
  private let door: TCPDoor
  private let thread: Locked<DedicatedThread?>

  /// Starts to serve `region`; port 0 lets the kernel choose.
  ///
  /// - Parameters:
  ///   - region: what is served. Kept until the responder ends.
  ///   - host: an address of this machine, or a name of one; without keys, a loopback one.
  ///   - port: 0 lets the kernel choose.
  ///   - keeper: the device that answers in the region's slots. It assists while an answer is awaited: with few processors
  ///     it takes long until the mailbox's own thread has one.
  /// - Throws: ``LinkError`` where it cannot or must not listen there.
  public convenience init(
    region: SharedRegion, host: String, port: UInt16, keeper: any SlotKeeper = KeylessSlots()
  ) throws(LinkError) {
    try self.init(region: region, host: host, port: port, keeper: keeper, limits: TCPLimits())
  }

  /// As above, with other limits than the usual ones.
  init(
    region: SharedRegion, host: String, port: UInt16, keeper: any SlotKeeper, limits: TCPLimits
  ) throws(LinkError) {
    let (listener, actual) = try TCPSocket.listen(host: host, port: port, isKeyed: keeper.isKeyed)
    let address = LinkAddress.tcp(host: host, port: actual)
    let waker = try Waker(address.description)
    let door = TCPDoor(listener: listener, waker: waker, region: region, keeper: keeper, limits: limits)
    do throws(SystemCallError) {
      thread = Locked(try DedicatedThread(name: "grass-tcp-door") { door.run() })
    } catch {
      throw LinkError(address.description, .region(error.description))
    }
    self.address = address
    self.door = door
  }

  deinit { stop() }

  /// Ends all connections and waits for the threads.
  ///
  /// A second call does nothing.
  public func stop() {
    let thread = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    door.stop()
    thread?.join()
  }
}
