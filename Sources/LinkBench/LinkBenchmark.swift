public import Links
import Memory
public import Remote

/// Takes the time of heartbeats, requests and results over one link, in GRASS's own sequence and in the paper's.
///
/// Both have a connection of their own to the same monitor. Where sessions carry keys, which the paper's sequence has none of, there
/// is only GRASS's own. Used by one thread at a time.
public final class LinkBenchmark {
  public let address: LinkAddress
  private let timeout: Duration
  private let session: Session
  private let paper: PaperSequence?
  private let source: MemorySegment

  /// How often to change between the sequences, so that what else the machine does meets both alike.
  private static let turns = 10
  /// Not counted, each turn: a monitor that had nothing to do polls slowly.
  private static let warmUp = 20

  /// Connects twice.
  ///
  /// - Parameters:
  ///   - address: where the region is.
  ///   - slots: what to ask for; the paper's sequence needs one more.
  ///   - timeout: how long one sample may take.
  /// - Throws: ``SessionError`` where there is no connection, or no slot for the paper's sequence.
  public convenience init(
    _ address: LinkAddress, slots: Int = 4, timeout: Duration = .seconds(5)
  ) throws(SessionError) {
    try self.init(Session(to: address, slots: slots, timeout: timeout), at: address, timeout: timeout)
  }

  /// Takes a session, and connects once more for the paper's sequence, unless the session is sealed.
  ///
  /// - Parameters:
  ///   - session: with the region; this object's own from then on.
  ///   - address: where the region is.
  ///   - timeout: how long one sample may take.
  /// - Throws: ``SessionError`` where there is no second connection, or no slot for it.
  public init(_ session: Session, at address: LinkAddress, timeout: Duration = .seconds(5)) throws(SessionError) {
    self.address = address
    self.timeout = timeout
    self.session = session
    guard let largest = try session.info().segments.max(by: { $0.count < $1.count }) else {
      throw SessionError(address.description, .badAnswer("it sees no memory"))
    }
    source = largest
    guard !session.isSealed else {
      paper = nil
      return
    }
    do throws(LinkError) {
      paper = try PaperSequence(link: address.connect(slots: 1, within: timeout), within: timeout)
    } catch {
      throw SessionError(address.description, .link(error))
    }
  }

  deinit { close() }

  /// Ends both connections.
  ///
  /// A second call does nothing.
  public func close() {
    session.close()
    paper?.close()
  }

  /// Whose message sequences can be measured here.
  public var sequences: [Figure.Sequence] { paper == nil ? [.own] : [.own, .paper] }

  /// The longest result that the monitor's memory gives.
  public var longestResult: UInt64 { source.count }

  /// Measures one thing in each sequence, the sequences in turn.
  ///
  /// - Parameters:
  ///   - what: anything but a ping.
  ///   - byteCount: of the request or result; 0 for a heartbeat.
  ///   - sequences: whose message sequence: GRASS's own, the paper's.
  ///   - count: samples for each sequence.
  ///   - limit: after which there are no more samples, however few there are; at least one a sequence.
  /// - Returns: a figure for each sequence, in their order.
  /// - Throws: ``SessionError`` where the link ends or an answer is false.
  public func measure(
    _ what: Figure.What, byteCount: Int, sequences: [Figure.Sequence], count: Int, limit: Duration
  ) throws(SessionError) -> [Figure] {
    precondition(what != .ping, "a ping goes over no link")
    precondition(sequences.allSatisfy(self.sequences.contains), "the paper's sequence has no keys")
    var own = Errand(
      what, byteCount: byteCount, source: source, limits: (session.requestCapacity, session.responseCapacity),
      slots: session.slotCount, pieceSize: session.pieceSize(share:))
    var whole = Errand(
      what, byteCount: byteCount, source: source,
      limits: paper.map { ($0.requestCapacity, $0.responseCapacity) }
        ?? (session.requestCapacity, session.responseCapacity),
      slots: 1)
    var times = [[Double]](repeating: [], count: sequences.count)
    let clock = ContinuousClock()
    let turns = min(Self.turns, count)
    let slice = limit / (turns * sequences.count)
    for turn in 0..<turns {
      for (index, sequence) in sequences.enumerated() {
        let wanted = count * (turn + 1) / turns
        let end = clock.now + slice
        var warmUp = min(Self.warmUp, wanted - times[index].count)
        while times[index].count < wanted {
          own.advance()
          whole.advance()
          let start = clock.now
          switch sequence {
          case .own: try perform(own)
          case .paper: try paper?.perform(whole, until: start + timeout)
          }
          let stop = clock.now
          if warmUp > 0, stop < end {
            warmUp -= 1
          } else {
            times[index].append((stop - start).microseconds)
            if stop >= end { break }
          }
        }
      }
    }
    return sequences.enumerated().map { index, sequence in
      Figure(
        host: address.description, what: what, sequence: sequence, byteCount: byteCount,
        samples: Samples(microseconds: times[index]))
    }
  }

  /// One errand in our own sequence.
  private func perform(_ errand: Errand) throws(SessionError) {
    if errand.what == .heartbeat {
      try session.heartbeat()
      return
    }
    try session.perform(errand.pieces.count, within: timeout) { piece, payload in
      errand.prepare(piece, payload)
    } accept: { piece, payload throws(SessionError) in
      guard errand.isAnswered(piece, by: payload) else {
        throw SessionError(session.host, .badAnswer("it is not what was asked for"))
      }
    }
  }
}
