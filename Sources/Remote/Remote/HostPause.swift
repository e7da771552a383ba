import CRegion
import Host
import Synchronization

extension Session {
  /// Has the host's CPUs stand still for some time from now on; zero lets them go on as far as this session is concerned.
  ///
  /// Needs the right `admin`, and a device that can (``DeviceInfo/Features/pause``).
  ///
  /// - Parameters:
  ///   - time: 30 seconds at most; it ends by itself, so whoever wants more asks again.
  ///   - timeout: how long the call may take; nil for what the session says.
  /// - Returns: whether they stand still already.
  /// - Throws: ``SessionError`` where the link ends, this session may not ask, or the device cannot.
  public func pauseHost(for time: Duration, within timeout: Duration? = nil) throws(SessionError) -> Bool {
    let milliseconds = UInt32(clamping: Int64(time / .milliseconds(1)))
    let headSize = MemoryLayout<grass_response>.size
    var isStill = false
    try perform(1, within: timeout) { _, payload in
      payload.storeBytes(
        of: grass_request(operation: GRASS_PAUSE.rawValue, count: milliseconds, format: 0, reserved: 0),
        as: grass_request.self)
      return (MemoryLayout<grass_request>.size, headSize + MemoryLayout<grass_pause_answer>.size)
    } accept: { _, payload throws(SessionError) in
      _ = try self.response(payload, to: GRASS_PAUSE)
      guard payload.count == headSize + MemoryLayout<grass_pause_answer>.size else {
        throw badAnswer("it has a false length")
      }
      let answer = payload.loadUnaligned(fromByteOffset: headSize, as: grass_pause_answer.self)
      isStill = answer.state == UInt64(GRASS_HYPERVISOR_PAUSED.rawValue)
    }
    return isStill
  }
}

/// A host that stands still for somebody, who asks for it again and again: if he ends, it goes on.
public final class HostPause: Sendable {
  private let session: Session
  private let isEnding = Atomic<Bool>(false)
  private let failure = Locked<SessionError?>(nil)
  private let thread = Locked<DedicatedThread?>(nil)

  /// How long one request lasts, how often it is made, and how long the host may take to stop.
  private static let lease = Duration.seconds(10), interval = Duration.seconds(1), patience = Duration.seconds(10)

  /// Stops the host's CPUs; they stand still when this returns.
  ///
  /// - Throws: ``SessionError`` where this session may not ask, the device cannot, or the host does not stop in time.
  public init(_ session: Session) throws(SessionError) {
    self.session = session
    let end = ContinuousClock.now + Self.patience
    while try !session.pauseHost(for: Self.lease) {
      guard ContinuousClock.now < end else {
        _ = try? session.pauseHost(for: .zero)
        throw SessionError(session.host, .noPause)
      }
      SystemCall.sleep(nanoseconds: 20_000_000)
    }
    let thread = try? DedicatedThread(name: "grass-pause") { [weak self] in
      var next = ContinuousClock.now + Self.interval
      while true {
        SystemCall.sleep(nanoseconds: 50_000_000)
        guard let self, !self.isEnding.load(ordering: .acquiring) else { return }
        guard ContinuousClock.now >= next else { continue }
        next = ContinuousClock.now + Self.interval
        do throws(SessionError) {
          guard try self.session.pauseHost(for: Self.lease) else { throw SessionError(self.session.host, .noPause) }
        } catch {
          self.failure.withLock { $0 = error }
          return
        }
      }
    }
    self.thread.withLock { $0 = thread }
  }

  /// Lets the host go on.
  ///
  /// - Returns: why it may not have stood still all the time; nil where it did.
  public func end() -> SessionError? {
    isEnding.store(true, ordering: .releasing)
    thread.withLock { $0?.join() }
    do throws(SessionError) {
      let wasStill = try session.pauseHost(for: .zero)
      if !wasStill { return failure.withLock { $0 } ?? SessionError(session.host, .noPause) }
    } catch {
      return failure.withLock { $0 } ?? error
    }
    return failure.withLock { $0 }
  }
}
