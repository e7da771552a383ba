import CRegion
import CSeal
import Host
import Keys
import Links
import Records
import Region

// How an exchange comes by the keys of its session, and by those of what the device says to all.
extension Exchange {
  /// Makes a session: by one message each way where the device's key is known, else by two and one.
  func shakeHands(until deadline: ContinuousClock.Instant) throws(SessionError) {
    guard let keys, keys.identity != nil else { throw SessionError(link.address, .needsKeys) }
    sealing = nil
    var header = layout.header
    let prologue = withUnsafeBytes(of: &header) { Array($0) }
    if let known = keys.known {
      do throws(SessionError) {
        return try shakeHands(.ik(known), keys, prologue, until: deadline)
      } catch {
        // The device may have another key by now: then the other way shows which. So it does where somebody between only says so.
        guard case .refused = error.reason else { throw error }
      }
    }
    try shakeHands(.xx, keys, prologue, until: deadline)
  }

  private func shakeHands(
    _ pattern: NoiseInitiator.Pattern, _ keys: SessionKeys, _ prologue: [UInt8], until deadline: ContinuousClock.Instant
  ) throws(SessionError) {
    var attempt = 0
    while true {
      attempt += 1
      do throws(SessionError) {
        return try shakeHandsOnce(pattern, keys, prologue, until: deadline)
      } catch {
        // Whoever is between can spoil a handshake, but not the next one.
        var mayBeForged = error.reason == .handshakeFailed || isLost
        if case .refused = error.reason, pattern == .xx { mayBeForged = true }
        guard mayBeForged, ContinuousClock.now < deadline else { throw error }
        SystemCall.sleep(nanoseconds: UInt64(min(attempt, 20)) * 5_000_000)
      }
    }
  }

  private func shakeHandsOnce(
    _ pattern: NoiseInitiator.Pattern, _ keys: SessionKeys, _ prologue: [UInt8], until deadline: ContinuousClock.Instant
  ) throws(SessionError) {
    let number: UInt32
    switch pattern {
    case .xx: number = GRASS_NOISE_XX.rawValue
    case .ik: number = GRASS_NOISE_IK.rawValue
    }
    let failed = SessionError(link.address, .handshakeFailed)
    guard let identity = keys.identity else { throw failed }
    var noise = NoiseInitiator(pattern: pattern, prologue: prologue, identity: identity)
    let first = try Self.ofNoise(failed) { () throws(KeyError) in try noise.writeMessage() }
    let answer = try say(first, number, message: 0, until: deadline)
    let certificate = try Self.ofNoise(failed) { () throws(KeyError) in try noise.readMessage(answer) }
    guard let device = noise.remoteStatic else { throw failed }
    do throws(KeyRefusal) { try keys.judge(device, certificate) } catch {
      throw SessionError(link.address, .untrusted(error.description))
    }
    if !noise.hasEnded {
      let last = try Self.ofNoise(failed) { () throws(KeyError) in try noise.writeMessage() }
      _ = try say(last, number, message: 2, until: deadline)
    }
    let hash = noise.handshakeHash
    let keys = try Self.ofNoise(failed) { () throws(KeyError) in try noise.split() }
    sealing = Sealing(request: keys.send, response: keys.receive, hash: hash)
    try askForGroup(until: deadline)
  }

  private static func ofNoise<Result>(
    _ failed: SessionError, _ body: () throws(KeyError) -> Result
  ) throws(SessionError) -> Result {
    do throws(KeyError) { return try body() } catch { throw failed }
  }

  /// Sends a message of a handshake in the first slot, and takes the answer.
  ///
  /// Cost: as a request.
  private func say(
    _ message: [UInt8], _ pattern: UInt32, message number: UInt32, until deadline: ContinuousClock.Instant
  ) throws(SessionError) -> [UInt8] {
    var answer: [UInt8] = []
    var status = RequestStatus.ok
    try performPlain(until: deadline) { payload in
      let size = MemoryLayout<grass_request>.size
      payload.storeBytes(
        of: grass_request(operation: GRASS_HANDSHAKE.rawValue, count: pattern, format: number, reserved: 0),
        as: grass_request.self)
      UnsafeMutableRawBufferPointer(rebasing: payload[size...]).copyBytes(from: message)
      return (size + message.count, 512)
    } accept: { payload in
      let size = MemoryLayout<grass_response>.size
      guard payload.count >= size else { return }
      let response = payload.loadUnaligned(as: grass_response.self)
      status = RequestStatus(rawValue: response.status)
      if Int(response.count) == payload.count - size { answer = Array(payload[size...]) }
    }
    guard status == .ok else { throw SessionError(link.address, .refused(status)) }
    return answer
  }

  /// Asks what this session may do, and for the keys of what the device says to all.
  ///
  /// Shows the device that this side has the session's keys.
  private func askForGroup(until deadline: ContinuousClock.Instant) throws(SessionError) {
    var answer: [UInt8] = []
    try performNow(
      1, until: deadline,
      prepare: { _, payload in
        payload.storeBytes(
          of: grass_request(operation: GRASS_SESSION.rawValue, count: 0, format: 0, reserved: 0), as: grass_request.self
        )
        return (MemoryLayout<grass_request>.size, 512)
      },
      accept: { _, payload in answer = Array(payload) })
    let start = MemoryLayout<grass_response>.size + MemoryLayout<grass_session_answer>.size
    let size = MemoryLayout<grass_group_key>.size
    guard answer.count >= start else { throw SessionError(link.address, .badAnswer("it is too short")) }
    let response = answer.withUnsafeBytes { $0.loadUnaligned(as: grass_response.self) }
    guard response.operation == GRASS_SESSION.rawValue, response.status == GRASS_OK.rawValue,
      response.count <= UInt32(GRASS_GROUP_KEYS), answer.count == start + Int(response.count) * size
    else { throw SessionError(link.address, .badAnswer("it does not say what this session may do")) }
    let session = answer.withUnsafeBytes {
      $0.loadUnaligned(fromByteOffset: MemoryLayout<grass_response>.size, as: grass_session_answer.self)
    }
    rights = Rights(rawValue: session.rights)
    expiry = session.expiry
    if rights.isEmpty, let identity = keys?.identity {
      throw SessionError(link.address, .unknownKey(identity.publicKey.fingerprint))
    }
    var group: [UInt64: [UInt8]] = [:]
    for index in 0..<Int(response.count) {
      let at = start + index * size
      let generation = answer.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt64.self) }
      group[generation] = Array(answer[(at + 8)..<(at + size)])
    }
    sealing?.group = GroupKeys(group)
  }

  /// Asks the device for something, and makes another session where it has forgotten this one.
  func revive(until deadline: ContinuousClock.Instant) throws(SessionError) {
    try perform(
      1, until: deadline,
      prepare: { _, payload in
        payload.storeBytes(
          of: grass_request(operation: GRASS_SESSION.rawValue, count: 0, format: 0, reserved: 0), as: grass_request.self
        )
        return (MemoryLayout<grass_request>.size, 512)
      }, accept: { _, _ in })
  }

  /// Asks something where this side has only read for long: a device forgets who never asks.
  func staySeen(until deadline: ContinuousClock.Instant) throws(SessionError) {
    guard let sealing, ContinuousClock.now - sealing.asked > .seconds(300) else { return }
    try revive(until: deadline)
  }

  /// Has `body` open something that is said to all, and again with newer keys where the device has made some.
  func opening(
    until deadline: ContinuousClock.Instant, _ body: (GroupKeys) -> GroupKeys.Verdict
  ) throws(SessionError) {
    guard let sealing, body(sealing.group) == .newer else { return }
    try askForGroup(until: deadline)
    // What does not open now is torn, or nobody's.
    _ = body(sealing.group)
  }
}
