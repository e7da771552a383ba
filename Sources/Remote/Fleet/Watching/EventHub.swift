import Host

/// Hands each event to all who follow.
///
/// Nobody who is slow holds others up: for each, 256 events wait at most, and the oldest of them are lost.
public final class EventHub: Sendable {
  private struct State {
    var followers: [Int: AsyncStream<FleetEvent>.Continuation] = [:]
    var last = 0
    var tap: (@Sendable (FleetEvent) -> Void)?
    var isClosed = false
  }

  private let state = Locked(State())
  /// How many may follow at once.
  private static let most = 512

  public init() {}

  /// Says it to all.
  public func publish(_ event: FleetEvent) {
    let (followers, tap) = state.withLock { (Array($0.followers.values), $0.tap) }
    tap?(event)
    for follower in followers { follower.yield(event) }
  }

  /// What is said from now on, until who follows goes away; nil where too many follow.
  public func follow() -> AsyncStream<FleetEvent>? {
    let (stream, continuation) = AsyncStream.makeStream(of: FleetEvent.self, bufferingPolicy: .bufferingNewest(256))
    let number = state.withLock { state -> Int? in
      guard state.followers.count < Self.most, !state.isClosed else { return nil }
      state.last += 1
      state.followers[state.last] = continuation
      return state.last
    }
    guard let number else { return nil }
    continuation.onTermination = { [weak self] _ in
      self?.state.withLock { $0.followers[number] = nil }
    }
    return stream
  }

  /// Has `body` see each event before all others; it must not wait for anything.
  func tap(_ body: @escaping @Sendable (FleetEvent) -> Void) { state.withLock { $0.tap = body } }

  /// How many follow.
  public var count: Int { state.withLock { $0.followers.count } }

  /// Whether all is over.
  public var isClosed: Bool { state.withLock { $0.isClosed } }

  /// Ends all streams.
  public func close() {
    let followers = state.withLock { state in
      state.isClosed = true
      return Array(state.followers.values)
    }
    for follower in followers { follower.finish() }
  }
}
