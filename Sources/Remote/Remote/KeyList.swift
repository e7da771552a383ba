import CRegion
public import Keys

/// What a session may do, as the device says.
public struct SessionRights: Hashable, Sendable {
  /// All where the region needs no keys.
  public let rights: Rights
  /// When its key ends, in seconds since 1970; nil for never.
  public let expiry: UInt64?
}

extension Session {
  /// Whether this session's records are sealed.
  public var isSealed: Bool { withExchange { $0.sealing != nil } }

  /// Runs `body` with each of the session's own keys, 32 bytes; not at all where it has none.
  ///
  /// They are copied nowhere else.
  package func withKeys(_ body: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    try withExchange { exchange in try exchange.sealing?.withKeys(body) }
  }

  /// What this session may do.
  public var rights: SessionRights {
    withExchange { SessionRights(rights: $0.rights, expiry: $0.expiry == 0 ? nil : $0.expiry) }
  }

  /// Whom the device lets in.
  ///
  /// Needs the right `admin`.
  ///
  /// - Throws: ``SessionError`` where the link ends, this session may not ask, or the answer is false or does not come.
  public func keys(within timeout: Duration? = nil) throws(SessionError) -> [AuthorizedKey] {
    let size = MemoryLayout<grass_key_line>.size
    let headSize = MemoryLayout<grass_response>.size
    var lines: [grass_key_line] = []
    try perform(1, within: timeout) { _, payload in
      payload.storeBytes(
        of: grass_request(operation: GRASS_KEYS.rawValue, count: 0, format: 0, reserved: 0), as: grass_request.self)
      return (MemoryLayout<grass_request>.size, headSize)
    } accept: { _, payload throws(SessionError) in
      let response = try self.response(payload, to: GRASS_KEYS)
      guard response.count <= UInt32(GRASS_MAX_KEYS), payload.count == headSize + Int(response.count) * size else {
        throw badAnswer("it has a false length")
      }
      lines = (0..<Int(response.count)).map {
        payload.loadUnaligned(fromByteOffset: headSize + $0 * size, as: grass_key_line.self)
      }
    }
    var keys: [AuthorizedKey] = []
    for line in lines {
      let comment = withUnsafeBytes(of: line.comment) { Array($0.prefix { $0 != 0 }) }
      do throws(KeyError) {
        keys.append(
          try AuthorizedKey(
            key: PublicKey(bytes: withUnsafeBytes(of: line.key) { Array($0) }), rights: Rights(rawValue: line.rights),
            expiry: line.expiry == 0 ? nil : line.expiry,
            limits: .init(
              requests: line.requests == 0 ? nil : line.requests, kibibytes: line.kibibytes == 0 ? nil : line.kibibytes),
            comment: String(validating: comment, as: UTF8.self) ?? ""))
      } catch {
        throw badAnswer("a key of its list is none")
      }
    }
    return keys
  }

  /// Lets a key in, or gives it other rights.
  ///
  /// Needs the right `admin`; the change is a finding.
  ///
  /// - Throws: ``SessionError`` where the link ends, this session may not do that, or the device has no room.
  public func add(_ key: AuthorizedKey, within timeout: Duration? = nil) throws(SessionError) {
    var line = grass_key_line()
    line.rights = key.rights.rawValue
    line.expiry = key.expiry ?? 0
    line.requests = key.limits.requests ?? 0
    line.kibibytes = key.limits.kibibytes ?? 0
    withUnsafeMutableBytes(of: &line.comment) { comment in
      comment.copyBytes(from: Array(key.comment.utf8).prefix(comment.count))
    }
    try change(GRASS_KEY_ADD, key.key, line, within: timeout)
  }

  /// Takes a key out of the list and ends its sessions.
  ///
  /// Needs the right `admin`; nobody takes out his own.
  ///
  /// - Throws: ``SessionError`` where the link ends, this session may not do that, or the list has no such key.
  public func remove(_ key: PublicKey, within timeout: Duration? = nil) throws(SessionError) {
    try change(GRASS_KEY_REMOVE, key, grass_key_line(), within: timeout)
  }

  private func change(
    _ action: grass_key_action, _ key: PublicKey, _ line: grass_key_line, within timeout: Duration?
  ) throws(SessionError) {
    var change = grass_key_request(action: action.rawValue, reserved: 0, line: line)
    withUnsafeMutableBytes(of: &change.line.key) { $0.copyBytes(from: key.bytes) }
    try tell(GRASS_SET_KEY, 0, withUnsafeBytes(of: change) { Array($0) }, within: timeout)
  }

  /// Hands the device what certifies its own key, which it shows from then on.
  ///
  /// Needs the right `admin`; the change is a finding.
  ///
  /// - Throws: ``SessionError`` where the link ends, or this session may not do that.
  public func certify(_ certificate: Certificate, within timeout: Duration? = nil) throws(SessionError) {
    let bytes = certificate.bytes
    try tell(GRASS_CERTIFY, UInt32(bytes.count), bytes, within: timeout)
  }

  /// One request with a payload, and an answer without.
  private func tell(
    _ operation: grass_operation, _ count: UInt32, _ bytes: [UInt8], within timeout: Duration?
  ) throws(SessionError) {
    let size = MemoryLayout<grass_request>.size
    try perform(1, within: timeout) { _, payload in
      payload.storeBytes(
        of: grass_request(operation: operation.rawValue, count: count, format: 0, reserved: 0), as: grass_request.self)
      UnsafeMutableRawBufferPointer(rebasing: payload[size..<size + bytes.count]).copyBytes(from: bytes)
      return (size + bytes.count, MemoryLayout<grass_response>.size)
    } accept: { _, payload throws(SessionError) in
      _ = try self.response(payload, to: operation)
    }
  }
}
