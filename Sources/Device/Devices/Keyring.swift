import CMailbox
public import CRegion
import Glibc
import Host
public import Region

/// Who may ask a device, and under which keys: what a device with keys starts with, and then has for itself.
///
/// Private keys lie in locked memory from here on; those that were given are the caller's to wipe.
public final class Keyring: @unchecked Sendable {
  // Before a device has it, one thread's; then the device's, but for the events and the generation of the group.
  let keyring: UnsafeMutablePointer<grass_keyring>
  /// The device's own public key, 32 bytes.
  public let publicKey: [UInt8]
  private let memory: LockedMemory

  /// Makes the keys of a device that serves a region of this layout.
  ///
  /// - Parameters:
  ///   - layout: the region's, with keys.
  ///   - privateKey: the device's own key, 32 bytes; nil makes one that exists nowhere else.
  ///   - lines: whom it lets in.
  /// - Throws: ``DeviceError`` where there is no memory that can be locked, or a line is none.
  public init(
    for layout: RegionLayout, privateKey: UnsafeRawBufferPointer? = nil, lines: [grass_key_line]
  ) throws(DeviceError) {
    precondition(privateKey.map { $0.count == 32 } ?? true)
    do throws(SystemCallError) {
      memory = try LockedMemory(byteCount: MemoryLayout<grass_keyring>.size)
    } catch {
      throw DeviceError(.keys(error.description))
    }
    let keyring = memory.base.bindMemory(to: grass_keyring.self, capacity: 1)
    self.keyring = keyring
    var seed = InlineArray<64, UInt8>(repeating: 0)
    var header = layout.header
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let clock = SystemCall.monotonicNanoseconds()
    let offset = UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec) &- clock
    var span = seed.mutableSpan
    var status: Int32 = 0
    span.withUnsafeMutableBytes { seed in
      status = getentropy(seed.baseAddress, seed.count)
      grass_keyring_start(
        keyring, &header, privateKey?.baseAddress?.assumingMemoryBound(to: UInt8.self),
        seed.baseAddress?.assumingMemoryBound(to: UInt8.self), offset, clock)
      if let base = seed.baseAddress { explicit_bzero(base, seed.count) }
    }
    publicKey = withUnsafeBytes(of: &keyring.pointee.identity.public_key) { Array($0) }
    guard status == 0 else { throw DeviceError(.keys("getentropy: \(SystemCall.describe(errno))")) }
    for line in lines {
      guard set(line, GRASS_KEY_ADD) == GRASS_OK.rawValue else {
        throw DeviceError(
          .keys("a key cannot be in the list: it is zero, has no rights, or there are over \(GRASS_MAX_KEYS)"))
      }
    }
    while takeEvent() != nil {}
  }

  /// What clients of this device prove with what the device's own key is certified by; empty for nothing.
  public func setCertificate(_ bytes: [UInt8]) throws(DeviceError) {
    guard bytes.count <= Int(GRASS_MAX_CERTIFICATE) else {
      throw DeviceError(.keys("a certificate has at most \(GRASS_MAX_CERTIFICATE) bytes"))
    }
    withUnsafeMutableBytes(of: &keyring.pointee.certificate) { $0.copyBytes(from: bytes) }
    keyring.pointee.certificate_length = UInt32(bytes.count)
  }

  /// Only by who steps the mailbox.
  private func set(_ line: grass_key_line, _ action: grass_key_action) -> UInt32 {
    var line = line
    return grass_keyring_set(keyring, action.rawValue, &line, nil)
  }

  /// Makes the list of keys this one; only by who steps the mailbox.
  ///
  /// Sessions of keys that are in it no more end.
  func replace(with lines: [grass_key_line]) {
    let old = withUnsafeBytes(of: &keyring.pointee.lines) { bytes in
      Array(bytes.bindMemory(to: grass_key_line.self).prefix(Int(keyring.pointee.line_count)))
    }
    for line in old where !lines.contains(where: { $0.hasKey(of: line) }) { _ = set(line, GRASS_KEY_REMOVE) }
    for line in lines where !old.contains(where: { $0.isSame(as: line) }) { _ = set(line, GRASS_KEY_ADD) }
  }

  /// The keys of what the device says to all, 32 bytes each, by generation.
  func groupKeys() -> [UInt64: [UInt8]] {
    let group = UnsafeMutableRawPointer(keyring) + (MemoryLayout<grass_keyring>.offset(of: \.group) ?? 0)
    // Read as who keeps the findings does: the generation before its key.
    let newest = grass_load(group), keys = MemoryLayout<grass_group>.offset(of: \.keys) ?? 0
    let count = UInt64(GRASS_GROUP_KEYS)
    return Dictionary(
      uniqueKeysWithValues: (newest - min(newest, count) + 1...max(newest, 1)).map { generation in
        let key = UnsafeRawBufferPointer(start: group + keys + Int(generation % count) * 32, count: 32)
        return (generation, Array(key))
      })
  }

  /// What happened to keys and sessions next, nil where nothing did since.
  ///
  /// One thread at a time may ask.
  public func takeEvent() -> KeyEvent? {
    var event = grass_key_event()
    guard grass_keyring_take_event(keyring, &event), let kind = KeyEvent.Kind(rawValue: event.kind) else { return nil }
    return KeyEvent(
      kind: kind, rights: event.rights, key: withUnsafeBytes(of: event.key) { Array($0) },
      by: withUnsafeBytes(of: event.by) { $0.contains { $0 != 0 } ? Array($0) : nil },
      comment: withUnsafeBytes(of: event.comment) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) },
      read: event.read, runs: event.runs)
  }
}

/// What happened to a device's keys or sessions.
public struct KeyEvent: Hashable, Sendable {
  public enum Kind: UInt32, Sendable {
    /// A session began; one without rights was refused.
    case session = 1
    case sessionEnd
    case added
    case changed
    case removed
    case expired
    case certified
  }

  public var kind: Kind
  /// `enum grass_right`.
  public var rights: UInt32
  /// The public key that it is about.
  public var key: [UInt8]
  /// The key under which somebody changed the list; nil where the machine did, that the device is in.
  public var by: [UInt8]?
  public var comment: String
  /// Of a session that ended: bytes of memory that it was given, and monitors that it had run.
  public var read, runs: UInt64
}

extension grass_key_line {
  fileprivate func hasKey(of other: grass_key_line) -> Bool {
    withUnsafeBytes(of: key) { one in withUnsafeBytes(of: other.key) { one.elementsEqual($0) } }
  }

  fileprivate func isSame(as other: grass_key_line) -> Bool {
    hasKey(of: other) && rights == other.rights && expiry == other.expiry
      && withUnsafeBytes(of: comment) { one in withUnsafeBytes(of: other.comment) { one.elementsEqual($0) } }
  }
}
