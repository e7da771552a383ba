import CRegion
import Glibc
import Host
public import Links
import Region

/// Lets others reach a host over connections that were made while it could still make some.
///
/// Over RDMA a connection is made by the host's own processor: once its kernel has died, nobody new gets in. Who is there already keeps
/// connections to spare, and lends them: a newcomer reaches the relay over TCP, and the device in the host answers his handshake through
/// it. Sessions with keys are the newcomer's own from end to end, and the relay sees of them what anybody on the way does. Where sessions
/// carry no keys, a relay serves its own machine only, as a host does.
public final class Relay: Sendable {
  /// What a relay tells about itself.
  public enum Event: Sendable, CustomStringConvertible {
    case lost(slot: Int)
    case failed(SessionError)
    case made(slot: Int)

    public var description: String {
      switch self {
      case .lost(let slot): "the spare connection with slot \(slot) has ended"
      case .failed(let error): "no spare connection can be made: \(error)"
      case .made(let slot): "a spare connection has slot \(slot)"
      }
    }
  }

  private let host: LinkAddress
  private let keys: SessionKeys?
  private let count: Int
  private let memory: RelayMemory
  private let region: SharedRegion
  private let responder: TCPResponder

  /// Where it listens, with the port that it got.
  public var address: LinkAddress { responder.address }
  /// How many connections are there to be lent, or lent.
  public var spareCount: Int { memory.spares.count }

  /// How long a connection may take to be made.
  private static let patience = Duration.seconds(5)

  /// Makes connections, and listens.
  ///
  /// - Parameters:
  ///   - host: where the host is.
  ///   - keys: the relay's own, which need no right but `watch`.
  ///   - count: how many to keep, one for each who is to be served at once.
  ///   - listen: an address of this machine.
  ///   - port: 0 lets the kernel choose.
  /// - Throws: ``SessionError`` where not one connection can be made, or nobody can listen there.
  public init(
    to host: LinkAddress, keys: SessionKeys?, spares count: Int, listen: String, port: UInt16
  ) throws(SessionError) {
    precondition(count > 0)
    let first = try Spare(to: host, keys: keys, timeout: Self.patience)
    let memory = RelayMemory(layout: first.layout)
    do {
      region = try SharedRegion(layout: first.layout, in: memory)
      region.reserve(0..<first.layout.slotCount)
      responder = try TCPResponder(
        region: region, host: listen, port: port, keeper: RelayKeeper(memory: memory, isKeyed: first.layout.hasKeys))
    } catch let error as LinkError {
      throw SessionError(host.description, .link(error))
    } catch {
      throw SessionError(host.description, .badAnswer("\(error)"))
    }
    self.host = host
    self.keys = keys
    self.count = count
    self.memory = memory
    memory.add(first)
    region.free(first.slot..<first.slot + 1)
  }

  deinit { stop() }

  /// Sees to its connections: has those that are not lent be sessions of its own, and makes new ones in the place of those that ended.
  ///
  /// To be called about once a second. Costs a round trip for each, or a time-out where the host is gone.
  public func look(_ report: (Event) -> Void) {
    for spare in memory.spares {
      let slots = spare.slot..<spare.slot + 1
      // Nobody is lent it meanwhile, and who has it is not disturbed.
      let isFree = region.reserve(slots)
      if isFree { spare.renew() }
      if spare.hasEnded {
        memory.remove(spare)
        report(.lost(slot: spare.slot))
      } else if isFree {
        region.free(slots)
      }
    }
    // One who is lent a slot whose connection has ended finds that out, and gives it back.
    for slot in 0..<region.layout.slotCount where !memory.spares.contains(where: { $0.slot == slot }) {
      region.reserve(slot..<slot + 1)
    }
    while memory.spares.count < count {
      do throws(SessionError) {
        let spare = try Spare(to: host, keys: keys, timeout: Self.patience)
        guard Self.bytes(spare.layout) == Self.bytes(region.layout) else {
          throw SessionError(host.description, .badAnswer("it has another region than before; start the relay again"))
        }
        memory.add(spare)
        region.free(spare.slot..<spare.slot + 1)
        report(.made(slot: spare.slot))
      } catch {
        report(.failed(error))
        return
      }
    }
  }

  private static func bytes(_ layout: RegionLayout) -> [UInt8] { withUnsafeBytes(of: layout.header) { Array($0) } }

  /// Ends all connections, also those that are lent.
  public func stop() {
    responder.stop()
    for spare in memory.spares { memory.remove(spare) }
  }
}

/// The host's region as those see it who are lent a spare connection: what is read and written goes there over theirs.
private final class RelayMemory: RegionMemory {
  private let layout: RegionLayout
  private let list = Locked<[Spare]>([])

  init(layout: RegionLayout) { self.layout = layout }

  var spares: [Spare] { list.withLock { $0 } }
  func add(_ spare: Spare) { list.withLock { $0.append(spare) } }
  func remove(_ spare: Spare) { list.withLock { $0.removeAll { $0 === spare } } }

  // Nothing of this process lies there: no device reaches it.
  var address: UInt64 { 4096 }
  var count: Int { layout.regionSize }
  var dmaBuffer: Int32? { nil }

  func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError) {
    // Whoever makes a region writes its header, which is the host's here, and there already.
    if layout.headerPart.contains(offset) { return }
    guard let spare = spares.first(where: { $0.owns(offset) }) else { throw gone }
    try spare.store(bytes, at: offset)
  }

  func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError) {
    let spares = spares
    // What is no slot's own is the same over each connection.
    guard let spare = spares.first(where: { $0.owns(offset) }) ?? spares.first else { throw gone }
    try spare.load(into: bytes, at: offset)
  }

  private var gone: RegionError { RegionError("of a relay", .device("its connection to the host has ended")) }
}

/// What a relay does when it lends a connection.
private struct RelayKeeper: SlotKeeper {
  let memory: RelayMemory
  let isKeyed: Bool

  func assist() {}

  /// Whoever had the slots before has no session there any more.
  func release(_ slots: Range<Int>) {
    for spare in memory.spares where slots.contains(spare.slot) { spare.renew() }
  }
}
