public import Links

/// What every link promises when the process on the other side is stopped or dies.
///
/// Each check has that process to itself and may end it.
public struct PeerConformance {
  public enum Check: String, CaseIterable, Sendable {
    case stoppedPeerHoldsNobodyUp, resumedPeerLosesNothing, deadPeerEndsOperationsInFlight, deadPeerEndsAnIdleLink
  }

  /// The process on the other side, by what can be done to it.
  public struct Peer {
    let kill: () throws -> Void
    let stop: () throws -> Void
    let resume: () throws -> Void

    public init(
      kill: @escaping () throws -> Void, stop: @escaping () throws -> Void, resume: @escaping () throws -> Void
    ) {
      self.kill = kill
      self.stop = stop
      self.resume = resume
    }
  }

  private let peer: Peer
  private let connect: () throws(LinkError) -> any Link

  /// Checks against `peer`, to which `connect` makes a new connection each time, or fails within a second.
  public init(peer: Peer, connect: @escaping () throws(LinkError) -> any Link) {
    self.peer = peer
    self.connect = connect
  }

  public func run(_ check: Check) throws {
    switch check {
    case .stoppedPeerHoldsNobodyUp: try stoppedPeerHoldsNobodyUp()
    case .resumedPeerLosesNothing: try resumedPeerLosesNothing()
    case .deadPeerEndsOperationsInFlight: try deadPeerEnds(inFlight: 1000)
    case .deadPeerEndsAnIdleLink: try deadPeerEnds(inFlight: 0)
    }
  }

  /// A link whose other side has software in it may time out; one that has none completes.
  ///
  /// Neither may hang.
  private func stoppedPeerHoldsNobodyUp() throws {
    let link = try connect()
    let before = try header(link, within: .seconds(5))
    try peer.stop()
    let start = ContinuousClock.now
    do throws(LinkError) {
      let during = try header(link, within: .milliseconds(300))
      guard during == before else { throw LinkError(link.address, .protocolViolation("other bytes while stopped")) }
    } catch {
      try require(error.reason == .deadlinePassed, "a stopped peer is reported as: \(error)")
      let again = failure { () throws(LinkError) in _ = try header(link, within: .seconds(5)) }
      try require(again == error, "the link did not stay ended: \(again?.description ?? "no error")")
    }
    // Connecting, too, ends by itself, in a link or in an error.
    let other = try? connect()
    other?.close()
    let elapsed = ContinuousClock.now - start
    try require(elapsed < .seconds(20), "operations on a stopped peer took \(elapsed)")
    try peer.resume()
    let after = try header(try connect(), within: .seconds(5))
    try require(after == before, "after the peer went on, its region is another")
  }

  private func resumedPeerLosesNothing() throws {
    let link = try connect()
    let before = try header(link, within: .seconds(5))
    let buffer = try link.makeBuffer(byteCount: 64 * 500)
    try peer.stop()
    var last: UInt64 = 0
    for index in 0..<500 {
      last = try link.postRead(
        into: buffer, index * 64..<index * 64 + 64, from: link.grant.responses,
        offset: link.grant.responses.range.lowerBound, awaiting: nil)
    }
    try require(try link.poll() <= last, "more operations completed than were posted")
    try peer.resume()
    try link.wait(for: last, until: .now + .seconds(10))
    for index in 0..<500 {
      try require(
        buffer.load(index * 64..<index * 64 + 64) == before, "read \(index) of a peer that was stopped is wrong")
    }
  }

  private func deadPeerEnds(inFlight count: Int) throws {
    let link = try connect()
    _ = try header(link, within: .seconds(5))
    let buffer = try link.makeBuffer(byteCount: 64 * max(1, count))
    for index in 0..<count {
      try link.postRead(
        into: buffer, index * 64..<index * 64 + 64, from: link.grant.responses,
        offset: link.grant.responses.range.lowerBound, awaiting: nil)
    }
    try peer.kill()
    let deadline = ContinuousClock.now + .seconds(10)
    var first: LinkError?
    while first == nil, ContinuousClock.now < deadline {
      first = failure { () throws(LinkError) in _ = try header(link, within: .seconds(5)) }
    }
    try require(first?.reason == .peerGone, "a dead peer is reported as: \(first?.description ?? "nothing")")
    let second = failure { () throws(LinkError) in _ = try header(link, within: .seconds(5)) }
    try require(second == first, "the link did not stay ended: \(second?.description ?? "no error")")
    let third = failure { () throws(LinkError) in _ = try connect() }
    try require(third != nil, "a dead peer can be connected to")
  }

  /// The first bytes of the region, which never change.
  private func header(_ link: any Link, within timeout: Duration) throws(LinkError) -> [UInt8] {
    try link.read(64, from: link.grant.responses, offset: link.grant.responses.range.lowerBound, within: timeout)
  }
}
