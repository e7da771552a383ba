import CRegion
import Host
import Links
import Region

/// A connection to a host that is kept for somebody who has none: one slot, in which the relay has a session of its own as long as it
/// is not lent.
final class Spare: Sendable {
  let slot: Int
  let layout: RegionLayout
  private let link: LentLink
  private let keys: SessionKeys?
  private let state: Locked<State>

  private struct State {
    /// The relay's own session; nil where the slot is somebody else's.
    var session: Session?
    /// What was last written into the slot's request: links do not read it.
    var request: [UInt8]
    var hasEnded = false
  }

  /// How long the host may take for one access.
  private static let patience = Duration.seconds(5)

  /// Connects, and makes the relay's own session.
  ///
  /// - Throws: ``SessionError`` where there is no connection, or the host does not let the relay in.
  init(to address: LinkAddress, keys: SessionKeys?, timeout: Duration) throws(SessionError) {
    let made = try Session.begin(to: address, slots: 1, timeout: timeout, keys: keys) { LentLink($0) }
    guard let link = made.link as? LentLink else { preconditionFailure("another link than was made") }
    self.link = link
    self.keys = keys
    let session = Session(made.exchange, host: link.address, timeout: Self.patience)
    layout = session.withExchange { $0.layout }
    slot = link.grant.slots.lowerBound
    state = Locked(State(session: session, request: [UInt8](repeating: 0, count: layout.requestSize)))
  }

  deinit { link.end() }

  /// Whether the connection is of no use any more.
  var hasEnded: Bool { state.withLock { $0.hasEnded } }

  /// Has the slot hold the relay's own session, with an answer of the device that it lives.
  ///
  /// Only while nobody is lent the slot. Costs a round trip, or a handshake after somebody had it.
  func renew() {
    state.withLock { state in
      guard !state.hasEnded else { return }
      do throws(SessionError) {
        if let session = state.session, (try? session.heartbeat(within: Self.patience)) != nil { return }
        state.session = nil
        state.session = try Session(link: link, timeout: Self.patience, keys: keys)
      } catch {
        state.hasEnded = true
      }
    }
  }

  /// Where a part of the region that the slot's user may write, or read, lies in the slot's own parts.
  func owns(_ offset: Int) -> Bool {
    layout.requests(of: slot..<slot + 1).contains(offset) || layout.responses(of: slot..<slot + 1).contains(offset)
      || layout.lines(of: slot..<slot + 1).contains(offset)
  }

  /// Writes into the slot's request.
  func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError) {
    let start = layout.requestOffset(slot: slot)
    state.withLock { state in
      for index in bytes.indices where state.request.indices.contains(offset - start + index) {
        state.request[offset - start + index] = bytes[index]
      }
    }
    try reporting { () throws(LinkError) in
      try link.write(Array(bytes), to: link.grant.requests, offset: offset, within: Self.patience)
    }
  }

  /// Reads what the device has written, or what was written into the slot's request.
  func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError) {
    if layout.requests(of: slot..<slot + 1).contains(offset) {
      let start = offset - layout.requestOffset(slot: slot)
      state.withLock { state in bytes.copyBytes(from: state.request[start..<start + bytes.count]) }
      return
    }
    if layout.lines(of: slot..<slot + 1).contains(offset), isOurs {
      // The relay's own session is none of whoever is lent the slot.
      bytes.initializeMemory(as: UInt8.self, repeating: 0)
      return
    }
    let read = try reporting { () throws(LinkError) in
      try link.read(bytes.count, from: link.grant.responses, offset: offset, within: Self.patience)
    }
    bytes.copyBytes(from: read)
  }

  /// Whether the slot's line is that of the relay's own session; once it is another's, that is forgotten.
  private var isOurs: Bool {
    state.withLock { state in
      guard layout.hasKeys, let session = state.session else { return false }
      // It may be read while it is written.
      for _ in 0..<4 {
        guard let opens = try? session.opensLine(until: .now + Self.patience) else { break }
        if opens { return true }
      }
      state.session = nil
      return false
    }
  }

  private func reporting<Value>(_ body: () throws(LinkError) -> Value) throws(RegionError) -> Value {
    do throws(LinkError) {
      return try body()
    } catch {
      state.withLock { $0.hasEnded = true }
      throw RegionError(link.address, .device(error.description))
    }
  }
}
