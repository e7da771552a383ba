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
  private let beside: grass_keyring_places

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
      memory = try LockedMemory(byteCount: Places.size)
    } catch {
      throw DeviceError(.keys(error.description))
    }
    let keyring = memory.base.bindMemory(to: grass_keyring.self, capacity: 1)
    self.keyring = keyring
    let beside = Places.make(in: memory.base)
    self.beside = beside
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
        keyring, beside, &header, privateKey?.baseAddress?.assumingMemoryBound(to: UInt8.self),
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
    let list = UnsafeMutablePointer<grass_key_list>.allocate(capacity: 1)
    defer { list.deallocate() }
    list.initialize(to: grass_key_list())
    list.pointee.fill(lines)
    grass_keyring_replace(keyring, list)
  }

  /// The keys of what the device says to all, and where they lie.
  var group: UnsafeMutablePointer<grass_group> { Places.group(in: memory.base) }

  /// The keys of what the device says to all, 32 bytes each, by generation.
  func groupKeys() -> [UInt64: [UInt8]] { Self.groupKeys(UnsafeMutableRawPointer(group)) }

  static func groupKeys(_ group: UnsafeMutableRawPointer) -> [UInt64: [UInt8]] {
    // Read as who keeps the findings does: the generation before its key.
    let newest = grass_load(group), keys = MemoryLayout<grass_group>.offset(of: \.keys) ?? 0
    let count = UInt64(GRASS_GROUP_KEYS)
    guard newest > 0 else { return [:] }
    return Dictionary(
      uniqueKeysWithValues: (newest - min(newest, count) + 1...max(newest, 1)).map { generation in
        let key = UnsafeRawBufferPointer(start: group + keys + Int(generation % count) * 32, count: 32)
        return (generation, Array(key))
      })
  }

  /// What happened to keys and sessions next, nil where nothing did since.
  ///
  /// One thread at a time may ask.
  public func takeEvent() -> KeyEvent? { KeyEvent.take(from: beside.events) }
}

/// Where what lies beside a keyring lies in one piece of memory.
private enum Places {
  private static func end<Value>(_ type: Value.Type, from start: Int) -> Int {
    start + (MemoryLayout<Value>.size + 63) / 64 * 64
  }
  private static let list = end(grass_keyring.self, from: 0)
  private static let groups = end(grass_key_list.self, from: list)
  private static let events = end(grass_group.self, from: groups)
  static let size = end(grass_key_events.self, from: events)

  static func group(in memory: UnsafeMutableRawPointer) -> UnsafeMutablePointer<grass_group> {
    (memory + groups).assumingMemoryBound(to: grass_group.self)
  }

  static func make(in memory: UnsafeMutableRawPointer) -> grass_keyring_places {
    grass_keyring_places(
      list: (memory + list).bindMemory(to: grass_key_list.self, capacity: 1),
      group: (memory + groups).bindMemory(to: grass_group.self, capacity: 1),
      events: (memory + events).bindMemory(to: grass_key_events.self, capacity: 1))
  }
}

extension grass_key_list {
  /// Puts these lines in, as many as there is room for.
  mutating func fill(_ lines: [grass_key_line]) {
    let lines = lines.prefix(Int(GRASS_MAX_KEYS))
    count = UInt32(lines.count)
    withUnsafeMutableBytes(of: &self.lines) { bytes in
      for (index, line) in lines.enumerated() {
        bytes.storeBytes(of: line, toByteOffset: index * MemoryLayout<grass_key_line>.stride, as: grass_key_line.self)
      }
    }
  }
}

extension KeyEvent {
  /// The next one, nil where nothing happened since.
  static func take(from events: UnsafeMutablePointer<grass_key_events>) -> KeyEvent? {
    var event = grass_key_event()
    guard grass_key_events_take(events, &event), let kind = KeyEvent.Kind(rawValue: event.kind) else { return nil }
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
